import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { createTxProducer, fromMysql2 } from "../../src/tx-producer.ts";
import { type SeededRandom, seededRandom } from "../faults/seeded-random.ts";
import { type CrashBroker, embeddedBroker, realBroker } from "./crash-broker.ts";
import { type Cell, cells, type Life, lifeOf } from "./crash-plan.ts";
import { type Collector, collect, type Lab, openLab, uniqueName, until } from "./lab.ts";

/**
 * Kills sending programs at every labelled step, again and again, and balances the books: every committed row has its
 * two messages, no message is without its row, and copies carry one id. One instance that survives and clears up lives in
 * this process, and the embedded broker if no RocketMQ is given; the database is a real MariaDB.
 *
 * From a shell: `npm run faults -- --transactions --kills 10000 [--rocketmq]`. Most of a program's life is its start, a third of
 * which is left when what its files compile to is kept.
 */
export type CellReport = Cell & {
  kills: number;
  committed: number;
  /** As the program wanted. */
  rolledBack: number;
  /** It wanted to commit, and the kill came first. */
  cut: number;
  copies: number;
  lost: string[];
  ghosts: string[];
  copiesWithAnotherId: string[];
};

export type CrashReport = {
  readonly kills: number;
  /** Programs that did not come to their step in time, four times in a row. */
  readonly survivors: number;
  readonly cells: readonly CellReport[];
};

export type CrashOptions = {
  readonly kills: number;
  readonly seed: number;
  /** Default: the test services' MariaDB. */
  readonly serverUrl?: string;
  /** A real one, started with crash-broker.ts's settings. Default: the embedded broker, a new one each round. */
  readonly rocketmq?: { readonly endpoint: string; readonly broker: string };
  /** Programs at once. Those in half mode mostly wait. */
  readonly parallel?: number;
  readonly signal?: AbortSignal;
};

const child = fileURLToPath(new URL("crash-child.ts", import.meta.url));
const preload = fileURLToPath(new URL("../faults/preload/failpoint.ts", import.meta.url));
const compileCache = fileURLToPath(new URL("../../.run/compile-cache", import.meta.url));
const lifeMaxMs = 60_000;
const triesMax = 4;
/** Tables and the broker's memory stay small, and what is wrong shows early. */
const killsARoundMax = 500;

/** In rounds, each with a database and a broker of its own. */
export const runCrashes = async (
  { kills, seed, serverUrl, rocketmq, parallel = 6, signal }: CrashOptions,
  afterRound: (soFar: CrashReport) => void = () => {},
): Promise<CrashReport> => {
  const random = seededRandom(seed);
  await load();
  let report: CrashReport = { kills: 0, survivors: 0, cells: cells.map(emptyCell) };
  while (report.kills + report.survivors < kills && !isOver(signal)) {
    const from = report.kills + report.survivors;
    const to = Math.min(kills, from + killsARoundMax);
    const round = { from, to, random: random.fork(), parallel, serverUrl, rocketmq, signal };
    report = added(report, await runRound(round));
    afterRound(report);
  }
  return report;
};

export const faultsOf = ({ cells, survivors }: CrashReport): number =>
  survivors +
  cells.reduce((sum, cell) => sum + cell.lost.length + cell.ghosts.length + cell.copiesWithAnotherId.length, 0);

type Round = {
  readonly from: number;
  readonly to: number;
  readonly random: SeededRandom;
  readonly parallel: number;
  readonly serverUrl: string | undefined;
  readonly rocketmq: CrashOptions["rocketmq"];
  readonly signal: AbortSignal | undefined;
};

const runRound = async ({ from, to, random, parallel, serverUrl, rocketmq, signal }: Round): Promise<CrashReport> => {
  await using lab = await openLab(serverUrl === undefined ? {} : { serverUrl });
  await using broker = rocketmq === undefined ? await embeddedBroker() : realBroker(rocketmq);
  const topics = { outbox: uniqueName("crash"), half: uniqueName("half_crash") };
  await broker.createTopic(topics.outbox, "NORMAL");
  await broker.createTopic(topics.half, "TRANSACTION");
  const received: Collector[] = [];
  for (const topic of Object.values(topics)) {
    const group = `${topic}_books`;
    await broker.createGroup(group);
    received.push(await collect(broker.endpoint, topic, group));
  }
  const survivor = await createTxProducer({
    rocketmq: { endpoint: broker.endpoint },
    db: fromMysql2(lab.pool),
    relay: { idlePollMs: [10, 20], leaseMs: 600 },
    mode: "half",
    half: {
      topics: [topics.half],
      admin: [broker.admin],
      timing: { turnMs: 2_000, commitWithinMs: 1_000, backstopAfterMs: 4_000, backstopLatestMs: 8_000 },
    },
  });
  const begun: string[] = [];
  let kills = 0;
  let survivors = 0;
  const killedOf: Cell[] = [];
  let next = from;
  const worker = async (): Promise<void> => {
    for (let n = next++; n < to && !isOver(signal); n = next++) {
      // On a busy machine another may get all the work, and a program never comes to its step; what it did counts.
      let wasKilled = false;
      for (let round = 0; round < triesMax && !wasKilled && !isOver(signal); round++) {
        const life = lifeOf(n, round, random);
        wasKilled = await live(life, { lab, broker, topic: topics[life.mode], begun, signal });
        if (wasKilled) killedOf.push(life);
      }
      if (wasKilled) kills++;
      else if (!isOver(signal)) survivors++;
    }
  };
  try {
    await Promise.all(Array.from({ length: parallel }, worker));
    await until("the outbox is empty", async () => (await lab.waiting()) === 0, 60_000);
    const unseen = "SELECT COUNT(*) AS n FROM escapement_half WHERE state = 1 AND seen = 0";
    await until("all halves are seen", async () => Number((await lab.rows(unseen))[0]!.n) === 0, 90_000);
    const rows = (await lab.rows("SELECT id FROM orders")).map(({ id }) => id as string);
    const wanted = new Set(rows.flatMap((id) => [id, `${id}+`]));
    const isAllHere = () => {
      const here = new Set(received.flatMap((one) => one.bodies()));
      return [...wanted].every((text) => here.has(text));
    };
    // What is not here after that is lost, and the books say so.
    await until("all is received", isAllHere, 30_000).catch(() => {});
    const messages = received.flatMap((one) => one.messages);
    return { kills, survivors, cells: booksOf(new Set(rows), begun, messages, killedOf) };
  } finally {
    await survivor.close();
    for (const one of received) await one.stop();
  }
};

type Received = { readonly body: Buffer; readonly properties: ReadonlyMap<string, string> };

/** The transactions and messages of each cell's lives. */
export const booksOf = (
  rows: ReadonlySet<string>,
  begun: readonly string[],
  messages: readonly Received[],
  killed: readonly Cell[],
): readonly CellReport[] => {
  const books = cells.map(emptyCell);
  const bookOf = (id: string) => books[Number(/^c(\d+)r/.exec(id)![1]) % cells.length]!;
  for (const { mode, step, of } of killed) {
    books.find((book) => book.mode === mode && book.step === step && book.of === of)!.kills++;
  }
  for (const line of begun) {
    const id = line.slice(1);
    const book = bookOf(id);
    if (rows.has(id)) book.committed++;
    else if (line.startsWith("-")) book.rolledBack++;
    else book.cut++;
  }
  const ids = new Map<string, string>();
  for (const { body, properties } of messages) {
    const text = body.toString();
    const book = bookOf(text);
    const id = properties.get("ESC_ID")!;
    const before = ids.get(text);
    if (before === undefined) ids.set(text, id);
    else {
      book.copies++;
      if (before !== id) book.copiesWithAnotherId.push(text);
    }
    if (before === undefined && !rows.has(text.replace("+", ""))) book.ghosts.push(text);
  }
  for (const id of rows) for (const text of [id, `${id}+`]) if (!ids.has(text)) bookOf(id).lost.push(text);
  return books;
};

const emptyCell = (cell: Cell): CellReport => ({
  ...cell,
  ...{ kills: 0, committed: 0, rolledBack: 0, cut: 0, copies: 0, lost: [], ghosts: [], copiesWithAnotherId: [] },
});

const added = (a: CrashReport, b: CrashReport): CrashReport => ({
  kills: a.kills + b.kills,
  survivors: a.survivors + b.survivors,
  cells: a.cells.map((one, n) => {
    const other = b.cells[n]!;
    return {
      ...one,
      kills: one.kills + other.kills,
      committed: one.committed + other.committed,
      rolledBack: one.rolledBack + other.rolledBack,
      cut: one.cut + other.cut,
      copies: one.copies + other.copies,
      lost: [...one.lost, ...other.lost],
      ghosts: [...one.ghosts, ...other.ghosts],
      copiesWithAnotherId: [...one.copiesWithAnotherId, ...other.copiesWithAnotherId],
    };
  }),
});

const isOver = (signal: AbortSignal | undefined): boolean => signal?.aborted === true;

// --- the programs -----------------------------------------------------------------------------------------------------

const start = (env: Record<string, string>): ChildProcess =>
  spawn(process.execPath, ["--import", preload, child], {
    env: { PATH: process.env.PATH, NODE_COMPILE_CACHE: compileCache, ...env },
    stdio: ["pipe", "pipe", "inherit"],
  });

/** Fills the compile cache: a program that is killed leaves nothing in it. */
const load = async (): Promise<void> => void (await once(start({}), "exit"));

type Place = {
  readonly lab: Lab;
  readonly broker: CrashBroker;
  readonly topic: string;
  readonly begun: string[];
  readonly signal: AbortSignal | undefined;
};

/** Whether it was killed at its step. */
const live = async (life: Life, { lab, broker, topic, begun, signal }: Place): Promise<boolean> => {
  const program = start({
    TX_MYSQL: lab.url,
    TX_ENDPOINT: broker.endpoint,
    TX_TOPIC: topic,
    TX_LIFE: JSON.stringify(life),
    ESC_FAILPOINT: `${life.step}:${life.nth}`,
  });
  let said = "";
  program.stdout!.setEncoding("utf8").on("data", (text: string) => {
    said += text;
  });
  const end = (): void => void program.kill("SIGTERM");
  const timer = setTimeout(end, lifeMaxMs);
  signal?.addEventListener("abort", end, { once: true });
  const [, how] = (await once(program, "close")) as [number | null, string | null];
  clearTimeout(timer);
  signal?.removeEventListener("abort", end);
  begun.push(...said.split("\n").filter((line) => line !== ""));
  return how === "SIGKILL";
};
