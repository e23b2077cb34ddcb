import { type Cell, cells } from "./crash-plan.ts";

/**
 * The books of the crash matrix: what was committed against what was received, for each cell. Pure; what is to hold is
 * what docs/transactions.md promises, and no more.
 *
 * Each transaction sends four messages, told apart by what their body ends with after the transaction's id: two plain
 * ones ("" and "+"), one with a key in strict order ("="), one delayed and cancelable ("~"). Some cancel a delayed one.
 */
export type Committed = {
  /** The key of its ordered message, and its turn: which one of those that committed with this key it was. */
  readonly key: string;
  readonly turn: number;
  /** From what its delay counts, and the delay: the database's clock right before. */
  readonly notBeforeMs: number;
};

export type Events = {
  /** What the programs said they would do, before they did. */
  readonly begun: readonly Begun[];
  readonly committed: ReadonlyMap<string, Committed>;
  /** Whose delayed message is canceled by a committed transaction, and when that was seen to be carried out. */
  readonly canceled: ReadonlyMap<string, { readonly doneAtMs: number | undefined }>;
  /** Of each topic in the order of receipt. */
  readonly received: readonly Received[];
  readonly killed: readonly Cell[];
};

export type Begun = { readonly id: string; readonly rollsBack: boolean; readonly cancels?: string | undefined };

export type Received = {
  readonly body: Buffer;
  readonly properties: ReadonlyMap<string, string>;
  readonly receivedAtMs: number;
};

/** What happened, and how often. */
export const counts = [
  "kills",
  "committed",
  /** As the program wanted. */
  "rolledBack",
  /** It wanted to commit, and the kill came first. */
  "cut",
  "copies",
  /** Delayed messages that a committed cancel kept from being sent. */
  "canceled",
  /** Sent, since their cancel, though committed, was carried out when they were due. */
  "tooLate",
  /** Sent, since the transaction that canceled them was rolled back or cut. */
  "notCanceled",
] as const;

/** What must not be, by the body of the message. */
export const faults = [
  "lost",
  "ghosts",
  "copiesWithAnotherId",
  /** Received before it was due, or due before its delay after the commit. */
  "early",
  /** Sent, though its cancel was carried out before it was due. */
  "sentDespiteCancel",
  /** Received after one of its key that was committed later. */
  "outOfOrder",
] as const;

export type CellReport = Cell & Record<(typeof counts)[number], number> & Record<(typeof faults)[number], string[]>;

export const emptyCell = (cell: Cell): CellReport =>
  ({
    ...cell,
    ...Object.fromEntries(counts.map((name) => [name, 0])),
    ...Object.fromEntries(faults.map((name) => [name, []])),
  }) as unknown as CellReport;

export const addedCells = (a: readonly CellReport[], b: readonly CellReport[]): CellReport[] =>
  a.map((one, n) => {
    const sum = emptyCell(one);
    for (const name of counts) sum[name] = one[name] + b[n]![name];
    for (const name of faults) sum[name] = [...one[name], ...b[n]![name]];
    return sum;
  });

export const faultsOf = (report: readonly CellReport[]): { readonly fault: string; readonly text: string }[] =>
  faults.flatMap((fault) => report.flatMap((cell) => cell[fault].map((text) => ({ fault, text }))));

export const booksOf = ({ begun, committed, canceled, received, killed }: Events): readonly CellReport[] => {
  const books = cells.map(emptyCell);
  const bookOf = (id: string) => books[Number(/^c(\d+)r/.exec(id)![1]) % cells.length]!;
  for (const { mode, step, of } of killed) {
    books.find((book) => book.mode === mode && book.step === step && book.of === of)!.kills++;
  }
  for (const { id, rollsBack } of begun)
    bookOf(id)[committed.has(id) ? "committed" : rollsBack ? "rolledBack" : "cut"]++;

  const first = new Map<string, Received>();
  for (const message of received) {
    const text = message.body.toString();
    const book = bookOf(text);
    const id = text.replace(/[+=~]$/, "");
    const known = first.get(text);
    if (text.endsWith("~")) judgeDelayed(message, text, committed.get(id), canceled.get(id)?.doneAtMs, book);
    if (known === undefined) {
      first.set(text, message);
      if (!committed.has(id)) book.ghosts.push(text);
      continue;
    }
    book.copies++;
    if (known.properties.get("ESC_ID") !== message.properties.get("ESC_ID")) book.copiesWithAnotherId.push(text);
  }

  for (const id of committed.keys()) {
    for (const text of bodiesOf(id, canceled)) if (!first.has(text)) bookOf(text).lost.push(text);
  }
  for (const id of canceled.keys()) bookOf(id)[first.has(`${id}~`) ? "tooLate" : "canceled"]++;
  for (const { cancels } of begun) {
    if (cancels !== undefined && !canceled.has(cancels) && first.has(`${cancels}~`)) bookOf(cancels).notCanceled++;
  }
  const lastTurns = new Map<string, number>();
  for (const text of first.keys()) {
    const row = text.endsWith("=") ? committed.get(text.slice(0, -1)) : undefined;
    if (row === undefined) continue;
    const last = lastTurns.get(row.key) ?? 0;
    if (row.turn < last) bookOf(text).outOfOrder.push(text);
    lastTurns.set(row.key, Math.max(last, row.turn));
  }
  return books;
};

/** What has to come of a committed transaction. */
export const bodiesOf = (id: string, canceled: Pick<Events["canceled"], "has">): string[] => [
  ...["", "+", "="].map((end) => id + end),
  ...(canceled.has(id) ? [] : [`${id}~`]),
];

const judgeDelayed = (
  { properties, receivedAtMs }: Received,
  text: string,
  row: Committed | undefined,
  canceledAtMs: number | undefined,
  book: CellReport,
): void => {
  const dueAtMs = Number(properties.get("ESC_DELIVER_AT"));
  // Written so that a property that is missing is a fault, too.
  if (!(receivedAtMs >= dueAtMs) || (row !== undefined && !(dueAtMs >= row.notBeforeMs))) book.early.push(text);
  if (canceledAtMs !== undefined && !(canceledAtMs >= dueAtMs)) book.sentDespiteCancel.push(text);
};
