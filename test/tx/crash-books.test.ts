import { describe, expect, test } from "vitest";
import { booksOf, counts, type Events, faults, faultsOf } from "./crash-books.ts";

// A day in order: three transactions are committed, the delayed message of c0r0-1 is canceled in time, another wants to
// be and is not, one is rolled back and one is cut. Then one thing at a time goes wrong.

const dueAtMs = 1_000;
type Mutable = { -readonly [name in keyof Events]: Events[name] } & {
  canceled: Map<string, { doneAtMs: number | undefined }>;
};

const message = (text: string, { atMs = dueAtMs + 5, dueMs = dueAtMs, id = text } = {}) => ({
  body: Buffer.from(text),
  properties: new Map([["ESC_ID", id], ...(text.endsWith("~") ? [["ESC_DELIVER_AT", String(dueMs)] as const] : [])]),
  receivedAtMs: atMs,
});
const fourOf = (id: string) => ["", "+", "=", "~"].map((end) => message(id + end));
const day = (): Mutable => ({
  begun: [
    { id: "c0r0-1", rollsBack: false },
    { id: "c0r0-2", rollsBack: false, cancels: "c0r0-1" },
    { id: "c1r0-3", rollsBack: false },
    { id: "c0r0-4", rollsBack: true, cancels: "c1r0-3" },
    { id: "c0r0-5", rollsBack: false },
  ],
  committed: new Map([
    ["c0r0-1", { key: "k", turn: 1, notBeforeMs: 990 }],
    ["c0r0-2", { key: "k", turn: 2, notBeforeMs: 990 }],
    ["c1r0-3", { key: "k", turn: 3, notBeforeMs: dueAtMs }],
  ]),
  canceled: new Map([["c0r0-1", { doneAtMs: 900 }]]),
  received: [...fourOf("c0r0-1").slice(0, 3), ...fourOf("c0r0-2"), ...fourOf("c1r0-3")],
  killed: [{ mode: "outbox", step: "tx-row-written" }],
});
const judged = (change: (day: Mutable) => void) => {
  const events = day();
  change(events);
  const books = booksOf(events);
  const sums = Object.fromEntries(counts.map((name) => [name, books.reduce((sum, cell) => sum + cell[name], 0)]));
  return { sums, found: faultsOf(books).map(({ fault, text }) => `${fault} ${text}`), books };
};

test("a day in order has no faults, and everything is counted", () => {
  const { sums, found, books } = judged(() => {});
  expect(found).toEqual([]);
  expect(sums).toEqual({
    ...{ kills: 1, committed: 3, rolledBack: 1, cut: 1, copies: 0 },
    ...{ canceled: 1, tooLate: 0, notCanceled: 1 },
  });
  expect(books[1]).toMatchObject({ committed: 1, notCanceled: 1 });
});

test("copies are counted, also behind a later one of their key", () => {
  const { sums, found } = judged((day) => {
    day.received = [...day.received, message("c0r0-1="), message("c0r0-2~")];
  });
  expect([found, sums.copies]).toEqual([[], 2]);
});

test("a cancel that is done when the message is due, or was never seen done, may come too late", () => {
  for (const doneAtMs of [dueAtMs, undefined]) {
    const { sums, found } = judged((day) => {
      day.canceled.set("c0r0-1", { doneAtMs });
      day.received = [...day.received, message("c0r0-1~")];
    });
    expect([found, sums.tooLate, sums.canceled]).toEqual([[], 1, 0]);
  }
});

describe("what goes wrong is found", () => {
  const without = (text: string) => (day: Mutable) => {
    day.received = day.received.filter(({ body }) => body.toString() !== text);
  };
  const plus =
    (...some: ReturnType<typeof message>[]) =>
    (day: Mutable) => {
      day.received = [...day.received, ...some];
    };
  const instead = (text: string, other: ReturnType<typeof message>) => (day: Mutable) => {
    day.received = day.received.map((one) => (one.body.toString() === text ? other : one));
  };
  const planted: Record<string, [(day: Mutable) => void, string[]]> = {
    "a plain one is lost": [without("c0r0-2"), ["lost c0r0-2"]],
    "an ordered one is lost": [without("c0r0-2="), ["lost c0r0-2="]],
    "a delayed one is lost": [without("c0r0-2~"), ["lost c0r0-2~"]],
    "a cancel that was rolled back has taken effect": [without("c1r0-3~"), ["lost c1r0-3~"]],
    "a plain one was not committed": [plus(message("c0r0-4")), ["ghosts c0r0-4"]],
    "a delayed one was not committed": [plus(message("c0r0-5~")), ["ghosts c0r0-5~"]],
    "a copy has another id": [plus(message("c0r0-2+", { id: "other" })), ["copiesWithAnotherId c0r0-2+"]],
    "received before it is due": [instead("c0r0-2~", message("c0r0-2~", { atMs: dueAtMs - 1 })), ["early c0r0-2~"]],
    "due before its delay from the commit": [
      instead("c1r0-3~", message("c1r0-3~", { dueMs: dueAtMs - 1 })),
      ["early c1r0-3~"],
    ],
    "not said when it was due": [
      instead("c0r0-2~", { ...message("c0r0-2~"), properties: new Map([["ESC_ID", "c0r0-2~"]]) }),
      ["early c0r0-2~"],
    ],
    "a copy is early": [plus(message("c0r0-2~", { atMs: dueAtMs - 1 })), ["early c0r0-2~"]],
    "sent despite its cancel": [plus(message("c0r0-1~")), ["sentDespiteCancel c0r0-1~"]],
    "two of a key are swapped": [
      (day) => {
        const [a, b] = ["c0r0-2=", "c1r0-3="].map((text) => day.received.findIndex((one) => `${one.body}` === text));
        day.received = day.received.with(a!, day.received[b!]!).with(b!, day.received[a!]!);
      },
      ["outOfOrder c0r0-2="],
    ],
  };
  for (const [what, [change, expected]] of Object.entries(planted)) {
    test(what, () => expect(judged(change).found).toEqual(expected));
  }
  test("every kind of fault is among them", () => {
    const kinds = new Set(Object.values(planted).flatMap(([, found]) => found.map((one) => one.split(" ")[0])));
    expect([...kinds].sort()).toEqual([...faults].sort());
  });
});
