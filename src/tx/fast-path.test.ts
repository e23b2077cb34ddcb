// What the fast path does not send itself: who hears of it, and what is due for the relay at once.

import { expect, test } from "vitest";
import { type MessageId, timeOrderedId } from "../message/id.ts";
import { type Log, silentLog } from "../runtime/log.ts";
import { FastPath, type FastPathOptions } from "./fast-path.ts";
import type { OutboxMessage, OutboxRow, OwnRow } from "./outbox.port.ts";
import type { RowOutcome } from "./row-sender.ts";
import { TxCounts } from "./tx-counts.ts";

const idOf = (n: number): MessageId => timeOrderedId(n, new Uint8Array(10), 1);
const message = (n: number, over: Partial<OutboxMessage> = {}): OutboxMessage => ({
  id: idOf(n),
  kind: "send",
  topic: "orders",
  lane: undefined,
  shard: 0,
  head: {},
  body: Buffer.from(`${n}`),
  mayExist: false,
  ...over,
});
const own = (n: number, lane?: number): OwnRow => ({
  row: n,
  id: idOf(n),
  lane,
  dueAtMs: undefined,
  createdAtMs: 0,
});

/** Sends what is handed over; `found` is what the database has of it. */
const run = async (
  messages: readonly OutboxMessage[],
  found: readonly OwnRow[],
  {
    outcome = (row: OutboxRow): RowOutcome => ({ row, ok: true }),
    log = silentLog,
    times = 1,
    ...outbox
  }: Partial<FastPathOptions["outbox"]> & { outcome?: (row: OutboxRow) => RowOutcome; log?: Log; times?: number } = {},
) => {
  const sent: number[] = [];
  const removed: number[] = [];
  const hastened: number[] = [];
  let wakes = 0;
  let nowMs = 0;
  const counts = new TxCounts();
  const path = new FastPath({
    outbox: {
      rowsOf: async () => found,
      placesOf: async () => [],
      delayed: async () => [],
      remove: async (rows) => removed.push(...rows) && rows.length,
      hasten: async (rows) => void hastened.push(...rows),
      ...outbox,
    },
    sender: async (rows) => {
      sent.push(...rows.map(({ row }) => row));
      return rows.map(outcome);
    },
    clock: { nowMs: () => 0 as never, monotonicMs: () => nowMs },
    log,
    counts,
    graceMs: 5_000,
    relayExpects: () => wakes++,
  });
  for (let i = 0; i < times; i++) {
    path.offer(idOf(1_000 + i), messages);
    await new Promise(setImmediate);
    nowMs += 1_000;
  }
  await path.close();
  return { sent, removed, hastened, wakes, left: counts.snapshot().leftToRelay };
};

const busyLane = { placesOf: async () => [{ row: 1, lane: 7, inMs: 5_000, wasTried: false }] };

test("what waits for its lane is due at once for the relay; what is being sent is not", async () => {
  const messages = [message(2, { lane: 7 }), message(3)];
  const { sent, removed, hastened, wakes, left } = await run(messages, [own(2, 7), own(3)], busyLane);
  expect({ sent, removed, hastened, left }).toEqual({ sent: [3], removed: [3], hastened: [2], left: 1 });
  expect(wakes).toBe(1);
});

test("two of one name, of which a row is one: left, counted, and due at once", async () => {
  const { sent, hastened, left } = await run([message(2), message(2)], [own(2)]);
  expect({ sent, hastened, left }).toEqual({ sent: [], hastened: [2], left: 2 });
});

test("what is not to be seen in the database is counted, and the relay looks", async () => {
  const { wakes, left } = await run([message(2), message(3)], []);
  expect({ wakes, left }).toEqual({ wakes: 1, left: 2 });
  expect(await run([message(2)], [own(2)])).toMatchObject({ wakes: 0, left: 0 });
});

test("what was tried in vain keeps its grace: a copy may be on its way", async () => {
  const outcome = (row: OutboxRow): RowOutcome => ({ row, ok: false, class: "unknown", code: "timeout", detail: "" });
  expect(await run([message(2)], [own(2)], { outcome })).toMatchObject({
    sent: [2],
    removed: [],
    hastened: [],
    left: 1,
  });
});

test("a failure before anything was sent makes all of it due at once", async () => {
  const placesOf = async () => {
    throw new Error("lost");
  };
  const { sent, hastened } = await run([message(2, { lane: 7 }), message(3)], [own(2, 7), own(3)], { placesOf });
  expect({ sent, hastened }).toEqual({ sent: [], hastened: [2, 3] });
});

test("what was sent is removed, also when the messages of a cancel could not be looked for; the cancel stays", async () => {
  const cancel = message(2, { kind: "cancel", head: { key: "k" } });
  const delayed = async () => {
    throw new Error("lost");
  };
  expect((await run([cancel, message(3)], [own(2), own(3)], { delayed })).removed).toEqual([3]);
});

test("says why, once a minute for a topic and a reason", async () => {
  const said: unknown[] = [];
  const log: Log = { ...silentLog, warn: (fields: unknown) => void said.push(fields) } as Log;
  const outcome = (row: OutboxRow): RowOutcome => {
    return { row, ok: false, class: "transient", code: "topic_route_missing", detail: "no such topic" };
  };
  const messages = [message(2), message(3), message(4, { topic: "bills" })];
  const found = [own(2), own(3), own(4)];
  await run(messages, found, { outcome, log, times: 59 });
  const of = (topic: string) => ({ topic, code: "topic_route_missing", detail: "no such topic" });
  expect(said).toEqual([of("orders"), of("bills")]);
  said.length = 0;
  await run(messages, found, { outcome, log, times: 62 });
  expect(said).toHaveLength(4);
});
