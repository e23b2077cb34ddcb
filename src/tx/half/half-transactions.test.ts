import { describe, expect, it } from "vitest";
import { type MessageId, timeOrderedId } from "../../message/id.ts";
import { epochMs } from "../../message/time.ts";
import type { Log } from "../../runtime/log.ts";
import { silentLog } from "../../runtime/log.ts";
import { Backstop } from "./backstop.ts";
import type { HalfBroker, HalfMessage, HalfSendResult, OpenHalf, Resolution } from "./half-broker.port.ts";
import { halfOf, identityOf, type Outgoing } from "./half-message.ts";
import { withHalves } from "./half-status.ts";
import { HalfTransactions, type HalfTransactionsOptions, type ProveInside } from "./half-transactions.ts";
import { packHalf, unpackHalf } from "./kept-half.ts";
import { createMemoryBarrier, type MemoryTx } from "./testing/memory-barrier.ts";
import { TopicWatch } from "./topic-watch.ts";

// The whole of half mode on a model of the database and a broker that does as it is told, in no time.

const timing = {
  turnMs: 10_000,
  commitWithinMs: 5_000,
  backstopAfterMs: 120_000,
  backstopLatestMs: 1_200_000,
  keepSettledMs: 1e9,
};
const ids = (seed: number): MessageId => timeOrderedId(1_800_000_000_000, Buffer.alloc(10, seed), seed);
const aMessage = (over: Partial<Outgoing> = {}): Outgoing => ({
  id: ids(1),
  topic: "orders_tx",
  head: { tag: "created", keys: ["k"], properties: [["color", "blue"]] },
  body: Buffer.from("body"),
  ...over,
});

const aWorld = (over: Partial<HalfTransactionsOptions<MemoryTx>> = {}) => {
  let nowMs = 1_000_000;
  let drawn = 0;
  const barrier = createMemoryBarrier(() => nowMs);
  const halves: (HalfMessage & OpenHalf)[] = [];
  const ended: [string, Resolution][] = [];
  let answer: HalfSendResult | undefined;
  const broker: HalfBroker = {
    listen: () => {},
    async send(message) {
      const half = { topic: message.topic, messageId: `m${halves.length}`, transactionId: `t${halves.length}` };
      halves.push({ ...message, ...half });
      return answer ?? { ok: true, half };
    },
    async end(half, resolution) {
      ended.push([half.transactionId, resolution]);
      return { ok: true };
    },
    close: async () => {},
  };
  const transactions = new HalfTransactions<MemoryTx>({
    broker,
    barrier,
    timing,
    databaseId: "db",
    topics: new Set(["orders_tx"]),
    ingestTopic: "ESC_INGEST_TX",
    keepBodyBytesMax: 100,
    rebuilds: false,
    clock: { nowMs: () => epochMs(nowMs), monotonicMs: () => nowMs },
    random: { float: () => 0.5, bytes: (target) => target.fill(++drawn) },
    timers: {
      after(_, callback) {
        queueMicrotask(callback);
        return { cancel: () => {} };
      },
    },
    log: silentLog,
    ...over,
  });
  const check = (index = 0) =>
    transactions.answer({ topic: "orders_tx", messageId: `m${index}`, properties: halves[index]!.properties });
  const see = async () => {
    const seen = halves.map(({ properties }) => ({ properties }) as never);
    const source = { receive: async () => seen, ack: async () => {}, close: async () => {} };
    const clock = { nowMs: () => epochMs(nowMs), monotonicMs: () => nowMs };
    const watch = new TopicWatch({ topic: "orders_tx", source, barrier, databaseId: "db", clock });
    await watch.runOnce(new AbortController().signal);
    return watch;
  };
  const prepared = async (txId = "tx", messages = [aMessage()]) => {
    const tx = barrier.begin();
    const scope = transactions.begin(txId);
    for (const message of messages) await scope.add(tx, message);
    await scope.beforeCommit(tx);
    return { tx, scope };
  };
  return {
    barrier,
    broker,
    transactions,
    halves,
    ended,
    check,
    see,
    prepared,
    pass: (ms: number) => {
      nowMs += ms;
    },
    respond: (result: HalfSendResult | undefined) => {
      answer = result;
    },
  };
};

describe("half mode", () => {
  it("writes the row, sends the half, and commits it only after COMMIT", async () => {
    const { barrier, prepared, halves, ended } = aWorld();
    const { tx, scope } = await prepared();
    expect([halves.length, ended]).toEqual([1, []]);
    barrier.commit(tx);
    await scope.ended("committed");
    expect(ended).toEqual([["t0", "commit"]]);
  });

  it("TX-17: a check of an open transaction is not answered", async () => {
    const { prepared, check } = aWorld();
    await prepared();
    expect(await check()).toBeUndefined();
  });

  it("a check right after COMMIT is left to the client's own commit; later it is answered, once a turn", async () => {
    const { barrier, prepared, check, pass } = aWorld();
    const { tx, scope } = await prepared();
    barrier.commit(tx);
    await scope.ended("committed");
    expect(await check()).toBeUndefined();
    pass(timing.turnMs);
    expect(await Promise.all([check(), check(), check()])).toEqual(["commit", undefined, undefined]);
    pass(timing.turnMs);
    expect(await check()).toBe("commit");
  });

  it("a message that was seen is never committed again, whoever asks", async () => {
    const { barrier, prepared, check, pass, see } = aWorld();
    const { tx, scope } = await prepared();
    barrier.commit(tx);
    await scope.ended("committed");
    await see();
    for (const ms of [0, timing.turnMs, timing.turnMs * 1_000]) {
      pass(ms);
      expect(await check()).toBe("rollback");
    }
  });

  it("a client that comes back late from its COMMIT asks for the turn, and does without when a check had it", async () => {
    const { barrier, prepared, check, pass, ended } = aWorld();
    const { tx, scope } = await prepared();
    barrier.commit(tx);
    pass(timing.turnMs + 1);
    await scope.ended("unknown"); // the process was frozen; another one answered meanwhile
    expect(await check()).toBe("commit");
    await scope.ended("committed");
    expect(ended).toEqual([]);
  });

  it("TX-18: once rolled back was answered, the same half cannot be entered, and the answer stays", async () => {
    const { barrier, prepared, check, ended } = aWorld();
    const { tx, scope } = await prepared();
    barrier.rollback(tx);
    await scope.ended("unknown");
    expect(await check()).toBe("rollback");
    expect(await check()).toBe("rollback");
    expect(ended).toEqual([]);
  });

  it("a rollback to a savepoint takes the half along before it is sent", async () => {
    const { barrier, transactions, halves } = aWorld();
    const tx = barrier.begin();
    const scope = transactions.begin("tx");
    await scope.add(tx, aMessage());
    tx.rows.clear();
    await scope.add(tx, aMessage({ body: Buffer.from("stays") }));
    await scope.beforeCommit(tx);
    expect(halves.map(({ body }) => body.toString())).toEqual(["stays"]);
  });

  it("TX-24: a half that may or may not be there stops nothing; a check finds it, or the backstop sends it", async () => {
    const { barrier, broker, prepared, check, pass, respond, halves, ended, see } = aWorld();
    respond({ ok: false, failure: { class: "unknown", code: "send_timeout", detail: "" } });
    const { tx, scope } = await prepared();
    barrier.commit(tx);
    await scope.ended("committed");
    expect(ended).toEqual([]);
    respond(undefined);
    pass(timing.turnMs);
    expect(await check()).toBe("commit");
    let caughtUp: string[] = [];
    const backstop = new Backstop({
      barrier,
      broker,
      timing,
      caughtUpTopics: () => caughtUp,
      rebuild: undefined,
      log: silentLog,
    });
    const sweep = () => backstop.runOnce(new AbortController().signal);
    pass(timing.turnMs + timing.backstopAfterMs);
    await sweep();
    expect(halves).toHaveLength(1); // the watch lags: it may be visible and not seen
    caughtUp = ["orders_tx"];
    await sweep();
    await sweep();
    expect(halves).toHaveLength(2);
    expect(ended).toEqual([["t1", "commit"]]);
    expect(halves[1]).toMatchObject({ tag: "created", keys: ["k"], body: Buffer.from("body") });
    expect(halves[1]!.properties).toEqual(halves[0]!.properties);
    await see();
    pass(timing.backstopLatestMs * 2);
    await sweep();
    expect(halves).toHaveLength(2);
  });

  it("a half that the broker will never take fails the transaction, and its other halves are taken back", async () => {
    const { barrier, broker, transactions, ended } = aWorld();
    const send = broker.send.bind(broker);
    broker.send = async (half) =>
      half.body.toString() === "bad"
        ? { ok: false, failure: { class: "permanent", code: "topic_type_mismatch", detail: "" } }
        : send(half);
    const tx = barrier.begin();
    const scope = transactions.begin("tx");
    await scope.add(tx, aMessage());
    await scope.add(tx, aMessage({ body: Buffer.from("bad") }));
    await expect(scope.beforeCommit(tx)).rejects.toMatchObject({ code: "half_refused" });
    expect(ended).toEqual([["t0", "rollback"]]);
  });

  const unproven: ProveInside = (_, { write }) => write();

  it("a refused half leaves nothing behind in a transaction that others commit all the same", async () => {
    const { barrier, broker, transactions } = aWorld();
    broker.send = async () => ({ ok: false, failure: { class: "permanent", code: "topic_type_mismatch", detail: "" } });
    const tx = barrier.begin();
    await expect(transactions.sendJoined(tx, "tx", aMessage(), unproven)).rejects.toMatchObject({
      code: "half_refused",
    });
    barrier.commit(tx);
    expect(await barrier.ofTransaction("tx")).toEqual([]);
  });

  it("a check about another database's message, or nobody's, is left to others", async () => {
    const said: unknown[] = [];
    const log = { ...silentLog, warn: (fields: unknown) => said.push(fields) } as unknown as Log;
    const { barrier, transactions, halves, prepared } = aWorld({ log });
    await prepared();
    const [half] = halves;
    const other = new Map([...half!.properties, ["ESC_TX", `elsewhere.tx.${ids(9)}`]]);
    for (const properties of [other, new Map<string, string>()]) {
      expect(await transactions.answer({ topic: "orders_tx", messageId: "m", properties })).toBeUndefined();
    }
    expect(said).toHaveLength(2);
    expect(await barrier.isCommitted(ids(9))).toBe(false);
    expect(await barrier.ofTransaction("tx")).toEqual([]);
  });

  it("a body that would not be kept and cannot be made anew is refused before anything is written", async () => {
    const { barrier, transactions } = aWorld();
    const tx = barrier.begin();
    const large = aMessage({ body: Buffer.alloc(101) });
    await expect(transactions.begin("tx").add(tx, large)).rejects.toMatchObject({ code: "half_body_not_kept" });
    expect(tx.rows.size).toBe(0);
    const rebuilding = aWorld({ rebuilds: true });
    const { tx: open, scope } = await rebuilding.prepared("tx", [large]);
    rebuilding.barrier.commit(open);
    await scope.ended("unknown");
    rebuilding.pass(timing.turnMs + timing.backstopLatestMs);
    const rebuild = async () => Buffer.from("anew");
    const { barrier: rows, broker } = rebuilding;
    const backstop = new Backstop({ barrier: rows, broker, timing, caughtUpTopics: () => [], rebuild, log: silentLog });
    await backstop.runOnce(new AbortController().signal);
    expect(rebuilding.halves[1]!.body.toString()).toBe("anew");
  });
});

describe("a half message", () => {
  const identity = { id: ids(7), txId: "tx", databaseId: "db" };
  const where = { topics: new Set(["orders_tx"]), ingestTopic: "ESC_INGEST_TX" };

  it("carries its own id and its transaction, and is known by them", () => {
    const half = halfOf(aMessage(), identity, where);
    expect(Object.fromEntries(half.properties)).toEqual({ color: "blue", ESC_ID: ids(1), ESC_TX: `db.tx.${ids(7)}` });
    expect(identityOf(half.properties)).toEqual(identity);
    for (const text of ["", "db", "db.tx", "db.tx.7", `db.tx.${ids(7)}.x`, `.tx.${ids(7)}`]) {
      expect(identityOf(new Map([["ESC_TX", text]]))).toBeUndefined();
    }
  });

  it("with a delay goes to the ingest topic, and no timer of the broker touches it", () => {
    const delayed = aMessage({ topic: "timeouts", due: { afterMs: 1_800_000 }, head: { key: "order-7" } });
    const half = halfOf(delayed, identity, where);
    expect(half.topic).toBe("ESC_INGEST_TX");
    expect(half.properties.get("ESC_TOPIC")).toBe("timeouts");
    expect(half.properties.get("ESC_DELAY")).toBe("1800000");
    expect(half.properties.get("ESC_KEY")).toBe("order-7");
    expect(half.properties.has("ESC_ID")).toBe(false);
    const at = halfOf(aMessage({ topic: "timeouts", due: { atMs: 5 } }), identity, where);
    expect([at.properties.get("ESC_DELIVER_AT"), at.properties.get("ESC_KEY")]).toEqual(["5", ids(1)]);
  });

  it("has no delay of its own and no order", () => {
    const due = { afterMs: 1 };
    const code = (message: Outgoing, to = where) => {
      try {
        return halfOf(message, identity, to);
      } catch (error) {
        return (error as { code: string }).code;
      }
    };
    expect(code(aMessage({ due }))).toBe("half_with_delay");
    expect(code(aMessage({ topic: "timeouts", due }), { ...where, ingestTopic: undefined as never })).toBe(
      "half_with_delay",
    );
    expect(code(aMessage({ head: { messageGroup: "g" } }))).toBe("half_with_group");
  });

  it("is kept whole, or without its body", () => {
    const half = halfOf(aMessage({ body: Buffer.from([0, 255, 10]) }), identity, where);
    const { body, ...message } = half;
    expect(unpackHalf(packHalf(half, true))).toEqual({ message, body });
    expect(unpackHalf(packHalf(half, false))).toEqual({ message, body: undefined });
  });
});

describe("the status of a transaction with half messages", () => {
  const row = { id: ids(1), topic: "t", state: "committed" as const, seen: false, resends: 0 };
  const sent = { state: "sent" as const, evidence: [] };

  it("is visible only when all of them were received from their topics", () => {
    expect(withHalves(sent, [], true)).toBe(sent);
    expect(withHalves(sent, [row, { ...row, seen: true }], true).state).toBe("committed-unsent");
    expect(withHalves(sent, [{ ...row, seen: true }], true).state).toBe("visible");
    const waiting = { state: "committed-unsent" as const, evidence: [] };
    expect(withHalves(waiting, [{ ...row, seen: true }], true).state).toBe("committed-unsent");
    const unknown = { state: "unknown" as const, evidence: [] };
    expect(withHalves(unknown, [{ ...row, state: "rolled-back" }], true).state).toBe("rolled-back");
    // A joined one may have taken that half back by a savepoint, and commit.
    expect(withHalves(unknown, [{ ...row, state: "rolled-back" }], false).state).toBe("unknown");
    expect(withHalves(unknown, [{ ...row, seen: true }], true).state).toBe("visible");
  });
});
