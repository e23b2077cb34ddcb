// The relay on a real MariaDB, with a sink that does what a test wants: who is sent when, in which order, how often.

import type { Pool, PoolConnection } from "mysql2/promise";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { classifyMysqlFailure } from "../../src/adapters/mysql/mysql-failure.ts";
import { inboxSweepStatement } from "../../src/adapters/mysql/mysql-inbox.ts";
import {
  delayedStatement,
  dueAfterStatement,
  dueStatement,
  hastenStatement,
  heldStatement,
  MysqlOutbox,
  nextDueStatement,
  ownRowsStatement,
  placesOfEachStatement,
  placesStatement,
  removeStatement,
  sweepStatement,
} from "../../src/adapters/mysql/mysql-outbox.ts";
import {
  letGoStatement,
  mysqlOutboxWriter,
  removeBesideStatement,
  rowOfMessageStatement,
  touchedRowsStatement,
  touchStatement,
} from "../../src/adapters/mysql/mysql-outbox-writer.ts";
import { heldMs } from "../../src/adapters/mysql/outbox-columns.ts";
import { OutboxDesk } from "../../src/adapters/mysql/outbox-desk.ts";
import { checkSchema, migrateOutbox, migrations } from "../../src/adapters/mysql/outbox-schema.ts";
import { parts } from "../../src/adapters/rocketmq/testing.ts";
import { systemRandom } from "../../src/adapters/system/system-random.ts";
import type { SendFailure, SendResult } from "../../src/dispatch/sink.port.ts";
import type { DelayedMessage } from "../../src/message/message.ts";
import type { Clock } from "../../src/runtime/clock.ts";
import type { SqlExecutor } from "../../src/tx/database.port.ts";
import type { DelayServer } from "../../src/tx/delay-server.port.ts";
import { FastPath } from "../../src/tx/fast-path.ts";
import { createOutboxMode } from "../../src/tx/outbox-mode.ts";
import { Relay, type RelaySettings, relayDefaults } from "../../src/tx/relay.ts";
import { createRowSender } from "../../src/tx/row-sender.ts";
import { Transactions, type TxSender } from "../../src/tx/transaction.ts";
import { TxCounts } from "../../src/tx/tx-counts.ts";
import { fromMysql2 } from "../../src/tx-producer.ts";
import { type Lab, openLab, pauseMs, until } from "./lab.ts";

let lab: Lab;
let cleanUp: (() => Promise<unknown>)[];
beforeEach(async () => {
  lab = await openLab();
  cleanUp = [];
});
afterEach(async () => {
  await Promise.all(cleanUp.map((end) => end()));
  await lab[Symbol.asyncDispose]();
});

const shards = 16;
const noSignal = new AbortController().signal;
const ok: SendResult = { ok: true, brokerMessageId: "m" };
const failing = (code: string, failureClass: SendFailure["class"] = "transient"): SendResult => ({
  ok: false,
  failure: { class: failureClass, code, detail: "as the test wants" },
});

/** Keeps what was sent, in order; `answer` decides. */
const scriptedSink = (answer: (message: DelayedMessage) => SendResult | Promise<SendResult> = () => ok) => {
  const sent: DelayedMessage[] = [];
  const calls: number[] = [];
  return {
    sent,
    calls,
    bodies: () => sent.map(({ body }) => body.toString()),
    sink: {
      async send(_topic: string, messages: readonly DelayedMessage[]) {
        calls.push(messages.length);
        return Promise.all(
          messages.map(async (message) => {
            const result = await answer(message);
            if (result.ok) sent.push(message);
            return result;
          }),
        );
      },
      close: async () => {},
    },
  };
};

const relayOn = (
  sink: ReturnType<typeof scriptedSink>,
  over: { settings?: Partial<RelaySettings>; owner?: string; clock?: Clock; cancel?: DelayServer["cancel"] } = {},
) => {
  const outbox = new MysqlOutbox(lab.pool, shards);
  cleanUp.push(() => outbox.close());
  const counts = new TxCounts();
  const relay = new Relay({
    outbox,
    leases: outbox.leases,
    sender: createRowSender({
      sink: sink.sink,
      ingestTopic: "ESC_INGEST",
      delayServer: over.cancel === undefined ? undefined : { cancel: over.cancel },
    }),
    owner: over.owner ?? "relay-a",
    ...parts,
    ...(over.clock === undefined ? undefined : { clock: over.clock }),
    random: systemRandom,
    counts,
    settings: { ...relayDefaults, ...over.settings },
  });
  const drain = async (withinMs = 5_000) => {
    await until(
      "the outbox is empty",
      async () => {
        await relay.runOnce(noSignal);
        return (await lab.waiting()) === 0;
      },
      withinMs,
    );
  };
  return { relay, counts, outbox, drain };
};

const modeOf = ({
  order = "key" as "key" | "strict",
  fastPath = undefined as FastPath | undefined,
  graceMs = 0,
  canCancel = false,
}) =>
  createOutboxMode({
    writer: mysqlOutboxWriter,
    shardCount: shards,
    order,
    graceMs,
    fastPath,
    relayExpects: () => {},
    canCancel,
    marks: true,
    classify: classifyMysqlFailure,
    clock: parts.clock,
    random: systemRandom,
  });

const writer = ({
  counts = new TxCounts(),
  beforeCommit = async () => {},
  ...over
}: Parameters<typeof modeOf>[0] & { counts?: TxCounts; beforeCommit?: () => Promise<void> } = {}) => {
  const db = fromMysql2(lab.pool);
  const held: typeof db = {
    ...db,
    transaction: (work) =>
      db.transaction(async (tx, sql) => {
        const result = await work(tx, sql);
        await beforeCommit();
        return result;
      }),
  };
  return new Transactions<PoolConnection>({
    db: held,
    mode: modeOf(over),
    writer: mysqlOutboxWriter,
    marks: true,
    classify: classifyMysqlFailure,
    ...parts,
    random: systemRandom,
    counts,
    rolledBack: () => {},
    endedInside: async () => {},
    isPartCommitted: async () => false,
  });
};

const write = (...messages: { topic?: string; key?: string; body: string; messageGroup?: string }[]) =>
  writer().run(async (_, q) => {
    for (const message of messages) await q.send({ topic: "t", ...message });
  });

test("TX-07: of two transactions the one with the lower numbers commits later, and nothing is skipped", async () => {
  const sink = scriptedSink();
  const { relay, drain } = relayOn(sink);
  let commitFirst = () => {};
  const mayCommit = new Promise<void>((resolve) => {
    commitFirst = resolve;
  });
  const transactions = writer();
  let isWritten = false;
  const slow = transactions.run(async (_, q) => {
    for (let i = 0; i < 20; i++) await q.send({ topic: "t", body: `low ${i}` });
    isWritten = true;
    await mayCommit;
  });
  await until("the low numbers are given", () => isWritten);
  await transactions.run(async (_, q) => void (await q.send({ topic: "t", body: "high" })));
  await until("the high one is sent", async () => {
    await relay.runOnce(noSignal);
    return sink.sent.length === 1;
  });
  expect(sink.bodies()).toEqual(["high"]);
  commitFirst();
  await slow;
  await drain();
  expect(sink.sent).toHaveLength(21);
});

test("rows that somebody has locked are left out, and nothing waits for them", async () => {
  await write({ body: "locked" }, { body: "free" });
  const holder = await lab.pool.getConnection();
  await holder.beginTransaction();
  const [locked] = await lab.rows("SELECT id FROM escapement_outbox WHERE body = 'locked'");
  await holder.query("DELETE FROM escapement_outbox WHERE id = ?", [locked!.id]);
  const sink = scriptedSink();
  const { relay, drain } = relayOn(sink);
  const startMs = performance.now();
  const waits: number[] = [];
  for (let i = 0; i < 5; i++) waits.push(await relay.runOnce(noSignal));
  expect(performance.now() - startMs).toBeLessThan(1_500);
  expect(sink.bodies()).toEqual(["free"]);
  expect(waits.at(-1), "it does not spin").toBeGreaterThanOrEqual(20);
  await holder.rollback();
  holder.release();
  await drain();
});

describe("leases", () => {
  test("TX-08: shards of a relay that died are taken over when its lease ends, not before", async () => {
    const dead = relayOn(scriptedSink(), { owner: "dead", settings: { leaseMs: 1_200 } });
    await dead.relay.runOnce(noSignal);
    await write({ body: "x" });
    const sink = scriptedSink();
    const next = relayOn(sink, { owner: "next", settings: { leaseMs: 300, idlePollMs: [20, 50] } });
    const startMs = performance.now();
    await until("sent", async () => {
      await next.relay.runOnce(noSignal);
      await pauseMs(20);
      return sink.sent.length === 1;
    });
    expect(performance.now() - startMs).toBeGreaterThan(800);
  });

  test("TX-09: a lease that ends while its batch is being sent: sent twice under the same ids, nothing lost", async () => {
    await write(...Array.from({ length: 5 }, (_, i) => ({ key: "one-lane", body: `${i}` })));
    let goOn = () => {};
    const stalled = new Promise<void>((resolve) => {
      goOn = resolve;
    });
    const slowSink = scriptedSink(async () => {
      await stalled;
      return ok;
    });
    const slow = relayOn(slowSink, { owner: "slow", settings: { leaseMs: 300 } });
    const working = slow.relay.runOnce(noSignal);
    await pauseMs(600);
    const quickSink = scriptedSink();
    const quick = relayOn(quickSink, { owner: "quick", settings: { leaseMs: 300 } });
    await quick.drain();
    goOn();
    await working;
    expect(quickSink.bodies()).toEqual(["0", "1", "2", "3", "4"]);
    const ids = new Set(quickSink.sent.map(({ id }) => id));
    expect(slowSink.sent.every(({ id }) => ids.has(id))).toBe(true);
    expect(slow.counts.snapshot().perhapsTwice).toBe(slowSink.sent.length);
    expect(slowSink.sent.length).toBeLessThanOrEqual(5);
  });

  test("several relays share the shards, take what one gives back, and never hold one shard together", async () => {
    const relays = ["a", "b", "c"].map((owner) => relayOn(scriptedSink(), { owner, settings: { leaseMs: 3_000 } }));
    const held = async () => {
      const rows = await lab.rows(
        "SELECT owner, COUNT(*) AS n FROM escapement_outbox_shard WHERE owner <> '' GROUP BY owner ORDER BY owner",
      );
      return Object.fromEntries(rows.map(({ owner, n }): [string, number] => [owner, Number(n)]));
    };
    await relays[0]!.outbox.leases.keep("a", 3_000);
    expect(await held()).toEqual({ a: 16 });
    for (let round = 0; round < 2; round++) {
      for (const [i, owner] of ["a", "b", "c"].entries()) await relays[i]!.outbox.leases.keep(owner, 3_000);
    }
    const shared = await held();
    expect(Object.values(shared).reduce((sum, n) => sum + n, 0)).toBe(16);
    expect(Math.max(...Object.values(shared))).toBeLessThanOrEqual(6);
    await relays[1]!.relay.stop();
    for (let round = 0; round < 2; round++)
      for (const owner of ["a", "c"]) await relays[0]!.outbox.leases.keep(owner, 3_000);
    expect(await held()).toEqual({ a: 8, c: 8 });
    const [a, c] = await Promise.all(["a", "c"].map((owner) => relays[0]!.outbox.leases.keep(owner, 3_000)));
    expect(a!.filter((shard) => c!.includes(shard))).toEqual([]);
  });
});

describe("a shard that fails", () => {
  test("does not leave another's batch behind: the run ends with it, and nothing is sent twice or out of order", async () => {
    await write(...Array.from({ length: 4 }, (_, i) => ({ key: "a", body: `a${i}` })), { key: "b", body: "poison" });
    await lab.run("UPDATE escapement_outbox SET shard = IF(body = 'poison', 0, 5)");
    let underWay = 0;
    const sink = scriptedSink(async ({ body }) => {
      if (body.toString() === "poison") return failing("topic_type_mismatch", "permanent");
      underWay++;
      await pauseMs(150);
      underWay--;
      return ok;
    });
    const { relay, counts, outbox } = relayOn(sink);
    let refusals = 0;
    outbox.bury = async () => {
      refusals++;
      throw new Error("the table of the dead is full");
    };
    for (let i = 0; i < 3; i++) {
      const run = relay.runOnce(noSignal);
      await expect(run).rejects.toThrow("the table of the dead is full");
      expect(underWay).toBe(0);
    }
    expect(refusals).toBe(3);
    expect(sink.bodies()).toEqual(["a0", "a1", "a2", "a3"]);
    expect(counts.snapshot().perhapsTwice).toBe(0);
  });

  test("lets the shards behind it have their turn, however many fail", async () => {
    await write(...Array.from({ length: 16 }, (_, i) => ({ body: `${i}` })));
    await lab.run("UPDATE escapement_outbox SET shard = CAST(body AS CHAR)");
    const sink = scriptedSink(({ body }) =>
      body.toString() === "15" ? ok : failing("message_too_large", "permanent"),
    );
    const { relay, outbox } = relayOn(sink);
    outbox.bury = async () => {
      throw new Error("no");
    };
    await expect(relay.runOnce(noSignal)).rejects.toThrow("no");
    expect(sink.bodies()).toEqual(["15"]);
  });
});

describe("a broker in trouble", () => {
  test("TX-10: away for long: business writes go on, no attempt is counted, tries are few; back: a bounded catch-up", async () => {
    let isAway = true;
    const sink = scriptedSink(() => (isAway ? failing("broker_unavailable") : ok));
    const { relay, drain } = relayOn(sink, { settings: { batch: 50, perSecondMax: 200 } });
    const transactions = writer();
    const began = performance.now();
    let waitedMs = 0;
    for (let i = 0; i < 60; i++) {
      const startMs = performance.now();
      await transactions.run(async (_, q) => void (await q.send({ topic: "t", body: `${i}` })));
      waitedMs = Math.max(waitedMs, performance.now() - startMs);
      await relay.runOnce(noSignal);
    }
    const awayMs = performance.now() - began;
    expect(waitedMs).toBeLessThan(1_000);
    expect(sink.calls.length).toBeLessThan(3 + awayMs / 250);
    const [touched] = await lab.rows("SELECT MAX(attempts) AS attempts, COUNT(*) AS n FROM escapement_outbox");
    expect(touched).toMatchObject({ attempts: 0, n: 60 });
    isAway = false;
    // An allowance of a fifth of a second, then the rate.
    const backMs = performance.now();
    await drain(10_000);
    expect(performance.now() - backMs).toBeGreaterThan(((60 - 40) / 200) * 1_000 * 0.8);
    expect(new Set(sink.bodies()).size).toBe(60);
    expect(sink.sent).toHaveLength(60);
  });

  test("one topic whose broker does not answer does not stop the others", async () => {
    const sink = scriptedSink((message) => (message.topic === "hangs" ? failing("send_timeout", "unknown") : ok));
    const { relay } = relayOn(sink, { settings: { batch: 10 } });
    // In front of the others, and more of them than a batch or a probe holds; two keys, so two shards.
    await write(...Array.from({ length: 30 }, (_, i) => ({ topic: "hangs", key: `k${i % 2}`, body: `h${i}` })));
    await write(...Array.from({ length: 10 }, (_, i) => ({ body: `${i}` })));
    await until("the others are sent", async () => {
      await relay.runOnce(noSignal);
      return sink.sent.length === 10;
    });
    const [row] = await lab.rows("SELECT last_error FROM escapement_outbox WHERE last_error IS NOT NULL LIMIT 1");
    expect(row!.last_error).toBe("send_timeout");
  });

  /** Straight into the table, due for a minute; `lane` and `shard` are SQL. */
  const fillDue = async (rows: number, topic: string, { from = 0, lane = "NULL", shard = "seq % 16" } = {}) =>
    lab.run(
      `INSERT INTO escapement_outbox (shard, next_at, lane, tx_id, msg_id, kind, topic, created_at, body_bytes, head, body)
       SELECT ${shard}, UNIX_TIMESTAMP() * 1000 - 60000 + seq, ${lane}, UNHEX(MD5(seq + ${from})), UNHEX(MD5(seq + ${from})), 0, ?, 0, 1, '{}', ?
       FROM seq_1_to_${rows}`,
      [topic, topic],
    );

  test.each([
    ["some thousand rows", 2_000, "seq % 16"],
    ["more than is looked at at a time", 5_000, "3"],
  ])("%s of a topic that does not answer stand before ten of another, which go soon", async (_, rows, shard) => {
    await fillDue(rows, "hangs", { shard });
    await fillDue(10, "good", { from: 1_000_000, shard });
    await lab.run("UPDATE escapement_outbox SET next_at = next_at + 30000 WHERE topic = 'good'");
    const sink = scriptedSink((message) => (message.topic === "hangs" ? failing("send_timeout", "unknown") : ok));
    let nowMs = 0;
    const { relay } = relayOn(sink, { clock: { ...parts.clock, monotonicMs: () => nowMs } });
    await until("the others are sent", async () => {
      nowMs += await relay.runOnce(noSignal);
      return sink.sent.length === 10;
    });
    expect(nowMs).toBeLessThan(10_000);
    const tries = sink.calls.reduce((sum, count) => sum + count, 0) - 10;
    expect(tries).toBeLessThanOrEqual(4 * 200 + 6 * 8);
    const [touched] = await lab.rows("SELECT MAX(attempts) AS attempts, COUNT(*) AS n FROM escapement_outbox");
    expect(touched).toEqual({ attempts: 0, n: rows });
  });

  test("who was away and answers again is sent everything, though new topics came and went meanwhile", async () => {
    const away = new Set(["a", "b", "c"]);
    const sink = scriptedSink((message) => (away.has(message.topic) ? failing("connection_lost") : ok));
    const { relay, drain } = relayOn(sink);
    for (const topic of away)
      await write({ topic, key: "k", body: `${topic}1` }, { topic, key: "k", body: `${topic}2` });
    await until("all three were tried", async () => {
      await relay.runOnce(noSignal);
      const [row] = await lab.rows(
        "SELECT COUNT(DISTINCT topic) AS n FROM escapement_outbox WHERE last_error IS NOT NULL",
      );
      return Number(row!.n) === 3;
    });
    await lab.run("DELETE FROM escapement_outbox WHERE topic = 'b'");
    away.clear();
    await drain(15_000);
    expect(sink.bodies().sort()).toEqual(["a1", "a2", "c1", "c2"]);
    for (const topic of ["a", "c"]) {
      expect(sink.bodies().filter((body) => body.startsWith(topic))).toEqual([`${topic}1`, `${topic}2`]);
    }
  });

  test("a lane of thousands of rows does not hide the lanes behind it", async () => {
    await fillDue(6_000, "hot", { lane: "16", shard: "0" });
    await fillDue(10, "cold", { from: 1_000_000, lane: "160 + 16 * seq", shard: "0" });
    await lab.run("UPDATE escapement_outbox SET next_at = next_at - 5000 WHERE topic = 'cold'");
    const sink = scriptedSink();
    const { relay } = relayOn(sink);
    await relay.runOnce(noSignal);
    expect(sink.bodies().filter((body) => body === "cold")).toHaveLength(10);
    expect(sink.sent).toHaveLength(200);
  });

  test("one topic that is missing holds up nobody else; its rows wait longer each time, with the reason", async () => {
    const sink = scriptedSink((message) => (message.topic === "gone" ? failing("topic_route_missing") : ok));
    const { relay } = relayOn(sink);
    await write({ topic: "gone", body: "waits" }, { body: "goes" }, { body: "goes too" });
    for (let i = 0; i < 4; i++) await relay.runOnce(noSignal);
    expect(sink.bodies().sort()).toEqual(["goes", "goes too"]);
    const [row] = await lab.rows(
      "SELECT attempts, last_error, next_at > UNIX_TIMESTAMP() * 1000 AS later FROM escapement_outbox",
    );
    expect(row).toMatchObject({ attempts: 1, later: 1 });
    expect(row!.last_error).toContain("topic_route_missing");
  });

  test("TX-12: what can never be sent goes aside with its reason, and the next of its key goes on", async () => {
    const sink = scriptedSink(({ body }) =>
      body.toString() === "poison" ? failing("message_too_large", "permanent") : ok,
    );
    const { drain, counts } = relayOn(sink);
    await write({ key: "k", body: "poison" }, { key: "k", body: "next" });
    await drain();
    expect(sink.bodies()).toEqual(["next"]);
    const dead = await lab.rows("SELECT topic, reason, body FROM escapement_outbox_dead");
    expect(dead).toEqual([
      { topic: "t", reason: expect.stringContaining("message_too_large"), body: Buffer.from("poison") },
    ]);
    expect(counts.snapshot().buried).toBe(1);
  });

  test("a row that cannot be read goes aside, one of a newer version waits, and the rows beside them go", async () => {
    const heads = ["{", "null", '{"keys":7}', '{"properties":[["a"]]}', '{"tag":{}}'];
    await write(...heads.map((_, i) => ({ key: "k", body: `head ${i}` })), { key: "k", body: "next" });
    for (const [i, head] of heads.entries())
      await lab.run("UPDATE escapement_outbox SET head = ? WHERE body = ?", [head, `head ${i}`]);
    await write({ key: "other", body: "newer" }, { key: "other", body: "behind it" });
    await lab.run("UPDATE escapement_outbox SET kind = 9, head = '' WHERE body = 'newer'");
    await write({ body: "beside" });
    await lab.run("UPDATE escapement_outbox SET shard = 3");
    const sink = scriptedSink();
    const { relay, counts } = relayOn(sink);
    let runs = 0;
    for (const endMs = performance.now() + 400; performance.now() < endMs; runs++) {
      await pauseMs(await relay.runOnce(noSignal));
    }
    expect(sink.bodies().sort()).toEqual(["beside", "next"]);
    expect(runs, "it rests").toBeLessThan(20);
    expect(counts.snapshot()).toMatchObject({ buried: heads.length });
    const left = await lab.rows("SELECT body, attempts, last_error FROM escapement_outbox ORDER BY id");
    expect(left.map(({ body }) => String(body))).toEqual(["newer", "behind it"]);
    expect(left[0]).toMatchObject({ last_error: expect.stringMatching(/^row_newer: /) });
    expect(left[0]!.attempts, "later each time").toBeLessThanOrEqual(2);
    const dead = await lab.rows("SELECT DISTINCT reason FROM escapement_outbox_dead");
    expect(dead).toEqual([{ reason: expect.stringMatching(/^row_unreadable: /) }]);
  });

  test("what is aside keeps its place when the numbers of the outbox begin again, and is sent again in its order", async () => {
    let isPoison = true;
    const sink = scriptedSink(() => (isPoison ? failing("message_too_large", "permanent") : ok));
    const { relay, drain } = relayOn(sink);
    for (const round of ["before", "after"]) {
      await write({ key: "k", body: `${round} 1` }, { key: "k", body: `${round} 2` });
      await drain();
      await lab.run("TRUNCATE escapement_outbox"); // As a restore of this one table would do, too.
    }
    isPoison = false;
    const desk = new OutboxDesk(lab.pool);
    cleanUp.push(() => desk.close());
    expect(await desk.resend(undefined)).toBe(4);
    const moved = await lab.rows("SELECT body FROM escapement_outbox ORDER BY id");
    expect(moved.map(({ body }) => String(body))).toEqual(["before 1", "before 2", "after 1", "after 2"]);
    await relay.runOnce(noSignal);
    expect(sink.sent).toHaveLength(4);
  });
});

describe("order", () => {
  test("TX-11: a head that fails holds up its key only; then its key goes on in order", async () => {
    let isSick = true;
    const sink = scriptedSink((message) =>
      isSick && message.keys[0] === "sick" ? failing("broker_throttling", "throttled") : ok,
    );
    const { relay, drain } = relayOn(sink, { settings: { batch: 10 } });
    for (let i = 0; i < 25; i++) await write({ key: "sick", body: `s${i}` });
    await write({ key: "well", body: "w0" }, { key: "well", body: "w1" });
    // The sick lane alone is more than two batches of its shard.
    for (let i = 0; i < 8; i++) await relay.runOnce(noSignal);
    expect(sink.bodies()).toEqual(["w0", "w1"]);
    const [rows] = await lab.rows(
      "SELECT SUM(attempts) AS attempts, SUM(attempts > 0) AS tried FROM escapement_outbox",
    );
    expect(Number(rows!.tried)).toBe(1);
    isSick = false;
    await drain(15_000);
    expect(sink.bodies().slice(2)).toEqual(Array.from({ length: 25 }, (_, i) => `s${i}`));
  });

  test("messages of a group are sent one at a time, in order, under concurrent writers that lock the thing first", async () => {
    const sink = scriptedSink();
    const { drain } = relayOn(sink);
    await lab.run("INSERT INTO orders VALUES ('thing', '0')");
    const transactions = writer();
    await Promise.all(
      Array.from({ length: 20 }, () =>
        transactions.run(async (tx, q) => {
          await tx.query("UPDATE orders SET note = note + 1 WHERE id = 'thing'");
          const [rows] = await tx.query("SELECT note FROM orders WHERE id = 'thing'");
          await q.send({ topic: "t", messageGroup: "thing", body: String((rows as { note: string }[])[0]!.note) });
        }),
      ),
    );
    await drain();
    expect(sink.bodies()).toEqual(Array.from({ length: 20 }, (_, i) => `${i + 1}`));
    expect(sink.calls.every((count) => count === 1)).toBe(true);
  });

  test("strict: rows of a key are in the order of the commits, though nothing else was locked", async () => {
    const committed: string[] = [];
    const transactions = writer({ order: "strict" });
    await Promise.all(
      Array.from({ length: 12 }, async (_, i) => {
        await transactions.run(async (_tx, q) => {
          await q.send({ topic: "t", key: "strict", body: `${i}` });
          await pauseMs(Math.random() * 30);
          committed.push(`${i}`); // Nobody else of this key can be here before we have committed.
        });
      }),
    );
    const sink = scriptedSink();
    await relayOn(sink).drain();
    expect(sink.bodies()).toEqual(committed);
  });

  test("the fast path leaves a message to the relay while an earlier one of its key waits", async () => {
    await write({ key: "k", body: "first" });
    const sink = scriptedSink();
    const outbox = new MysqlOutbox(lab.pool, shards);
    cleanUp.push(() => outbox.close());
    const counts = new TxCounts();
    const sender = createRowSender({ sink: sink.sink, ingestTopic: "ESC_INGEST", delayServer: undefined });
    const fastPath = new FastPath({ outbox, sender, ...parts, counts, graceMs: 5_000, relayExpects: () => {} });
    const transactions = writer({ fastPath, graceMs: 0 });
    await transactions.run(async (_, q) => {
      await q.send({ topic: "t", key: "k", body: "second" });
      await q.send({ topic: "t", key: "other", body: "free" });
    });
    await fastPath.close();
    expect(sink.bodies()).toEqual(["free"]);
    expect(counts.snapshot().leftToRelay).toBe(1);
    await relayOn(sink).drain();
    expect(sink.bodies()).toEqual(["free", "first", "second"]);
  });
});

test("what the fast path leaves for another's message of its key goes right after that one, not after its grace", async () => {
  // Another process has written the first, and is about to send it.
  await writer({ graceMs: 5_000 }).run(async (_, q) => void (await q.send({ topic: "t", key: "k", body: "first" })));
  await lab.run("UPDATE escapement_outbox SET next_at = next_at + 5000");
  const sink = scriptedSink();
  const { relay, outbox } = relayOn(sink, { settings: { idlePollMs: [20, 50] } });
  const sender = createRowSender({ sink: sink.sink, ingestTopic: "ESC_INGEST", delayServer: undefined });
  const fastPath = new FastPath({
    outbox,
    sender,
    ...parts,
    counts: new TxCounts(),
    graceMs: 5_000,
    relayExpects: () => {},
  });
  const second = writer({ fastPath, graceMs: 5_000 });
  await second.run(async (_, q) => {
    await q.send({ topic: "t", key: "k", body: "second" });
    await q.send({ topic: "t", key: "k", body: "third" });
  });
  await fastPath.close();
  const work = async (forMs: number) => {
    for (const endMs = performance.now() + forMs; performance.now() < endMs; ) {
      await pauseMs(Math.min(50, await relay.runOnce(noSignal)));
    }
  };
  await work(400);
  expect(sink.bodies()).toEqual([]);
  await lab.run("DELETE FROM escapement_outbox WHERE body = 'first'");
  await work(700);
  expect(sink.bodies()).toEqual(["second", "third"]);
});

test("more rows than an IN should name are removed, and made due, all the same", async () => {
  await lab.run(
    `INSERT INTO escapement_outbox (shard, next_at, tx_id, msg_id, kind, topic, created_at, body_bytes, head, body)
     SELECT 0, UNIX_TIMESTAMP() * 1000 + 86400000, UNHEX(MD5(seq)), UNHEX(MD5(seq)), 0, 't', 0, 1, '{}', 'x' FROM seq_1_to_12000`,
  );
  const asked: number[] = [];
  const pool: Pick<Pool, "getConnection"> = {
    async getConnection() {
      const connection = await lab.pool.getConnection();
      const query = connection.query.bind(connection) as (of: { values?: unknown[] }) => Promise<unknown>;
      connection.query = (async (of: { values?: unknown[] }) => {
        asked.push(of.values?.length ?? 0);
        return query(of);
      }) as never;
      return connection;
    },
  };
  const outbox = new MysqlOutbox(pool, shards);
  cleanUp.push(() => outbox.close());
  const ids = (await lab.rows("SELECT id FROM escapement_outbox")).map(({ id }) => Number(id));
  await outbox.hasten(ids, 0);
  const [due] = await lab.rows(
    "SELECT COUNT(*) AS n FROM escapement_outbox WHERE next_at < UNIX_TIMESTAMP() * 1000 + 5000",
  );
  expect(Number(due!.n)).toBe(12_000);
  expect(await outbox.remove(ids)).toBe(12_000);
  expect(Math.max(...asked)).toBeLessThanOrEqual(5_001);
});

describe("in REPEATABLE READ nobody waits for an open transaction", () => {
  /** Sixteen that have done all their work but COMMIT, and only go on when plain sends beside them are through. */
  const besideOpen = async (work: (q: TxSender, i: number) => Promise<unknown>, rowsEach = 1): Promise<number> => {
    const counts = new TxCounts();
    let ready = 0;
    const through = Promise.withResolvers<void>();
    const transactions = writer({
      counts,
      canCancel: true,
      beforeCommit: async () => {
        ready++;
        await through.promise;
      },
    });
    await write({ body: "somebody else's" });
    const open = Array.from({ length: 16 }, (_, i) => transactions.run(async (_tx, q) => void (await work(q, i))));
    try {
      await until("all wait for COMMIT only", () => ready === 16, 3_000);
      const beside = Promise.all([1, 2, 3].map(() => write({ body: "beside" })));
      const first = await Promise.race([beside.then(() => "sent"), pauseMs(2_000).then(() => "waits")]);
      expect(first).toBe("sent");
    } finally {
      through.resolve();
      await Promise.allSettled(open);
    }
    expect(await lab.waiting()).toBe(1 + 16 * rowsEach + 3);
    return counts.snapshot().deadlocksRetried;
  };

  test("that cancels what is not in the outbox any more", async () => {
    expect(await besideOpen((q, i) => q.cancel({ key: `timeout-${i}` }))).toBe(0);
  });

  test("that moves its delays to the commit", async () => {
    const send = (q: TxSender) => q.send({ topic: "t", body: "later", delay: "30m" });
    expect(await besideOpen((q) => Promise.all([send(q), send(q)]), 2)).toBe(0);
  });
});

test("a cancel that did not see its message: carried out, it takes it out of the outbox", async () => {
  const holder = await lab.pool.getConnection();
  await holder.beginTransaction();
  await holder.query("SELECT COUNT(*) FROM orders"); // The snapshot begins.
  const delayed = { topic: "t", body: "x", delay: "1h" };
  await writer().run(async (_, q) => void (await q.send({ ...delayed, dedupe: "canceled" })));
  await new Transactions<PoolConnection>({
    db: { transaction: async (work) => work(holder, fromMysql2(holder)) },
    mode: modeOf({ canCancel: true }),
    classify: classifyMysqlFailure,
    ...parts,
    random: systemRandom,
    counts: new TxCounts(),
    writer: mysqlOutboxWriter,
    marks: true,
    rolledBack: () => {},
    endedInside: async () => {},
    isPartCommitted: async () => false,
  }).run(async (_, q) => q.cancel({ key: "canceled" }));
  await holder.commit();
  holder.release();
  expect(await lab.waiting()).toBe(2);
  await pauseMs(5);
  await lab.run("UPDATE escapement_outbox SET next_at = next_at + 86400000 WHERE kind = 0");
  const canceled: string[] = [];
  const cancel = async (key: string) => {
    canceled.push(key);
    return "canceled" as const;
  };
  const { relay } = relayOn(scriptedSink(), { cancel });
  await relay.runOnce(noSignal);
  expect(canceled).toEqual(["canceled"]);
  expect(await lab.waiting()).toBe(0);
});

test("TX-28: a fast path slower than its grace: sent twice at most, with the same id, and counted", async () => {
  let goOn = () => {};
  const stalled = new Promise<void>((resolve) => {
    goOn = resolve;
  });
  const slowSink = scriptedSink(async () => {
    await stalled;
    return ok;
  });
  const outbox = new MysqlOutbox(lab.pool, shards);
  cleanUp.push(() => outbox.close());
  const counts = new TxCounts();
  const sender = createRowSender({ sink: slowSink.sink, ingestTopic: "ESC_INGEST", delayServer: undefined });
  const fastPath = new FastPath({ outbox, sender, ...parts, counts, graceMs: 200, relayExpects: () => {} });
  await writer({ fastPath, graceMs: 200 }).run(async (_, q) => void (await q.send({ topic: "t", body: "x" })));
  const relaySink = scriptedSink();
  const relay = relayOn(relaySink);
  const startMs = performance.now();
  await relay.drain();
  expect(performance.now() - startMs).toBeGreaterThan(100);
  goOn();
  await fastPath.close();
  expect(relaySink.sent).toHaveLength(1);
  expect(slowSink.sent.map(({ id }) => id)).toEqual(relaySink.sent.map(({ id }) => id));
  expect(counts.snapshot().perhapsTwice).toBe(1);
});

test("a held row whose sender died is never sent, and is gone a minute later, so that its lane goes on", async () => {
  await write({ key: "k", body: "of who died" }, { key: "k", body: "behind it" }, { key: "other", body: "just held" });
  await lab.run("UPDATE escapement_outbox SET next_at = ? WHERE body <> 'behind it'", [heldMs + 1]);
  const aged = "UPDATE escapement_outbox SET created_at = created_at - 61000 WHERE body = 'of who died'";
  const sink = scriptedSink();
  const { relay } = relayOn(sink, { settings: { keepOutcomesMs: 0 } });
  await relay.runOnce(noSignal);
  expect(sink.bodies()).toEqual([]);
  await lab.run(aged);
  await relayOn(sink, { owner: "relay-a", settings: { keepOutcomesMs: 0 } }).relay.runOnce(noSignal);
  expect((await lab.rows("SELECT body FROM escapement_outbox")).map(({ body }) => String(body))).not.toContain(
    "of who died",
  );
  await until("what stood behind it is sent", async () => {
    await relay.runOnce(noSignal);
    return sink.bodies().length > 0;
  });
  expect(sink.bodies()).toEqual(["behind it"]);
  expect(await lab.waiting()).toBe(1);
});

describe("the tables", () => {
  const fill = async (rows: number): Promise<void> => {
    // Not due for a day: what a large outbox consists of is what waits.
    await lab.run(
      `INSERT INTO escapement_outbox (shard, next_at, lane, tx_id, msg_id, kind, topic, created_at, body_bytes, head, body)
       SELECT seq % 16, UNIX_TIMESTAMP() * 1000 + 86400000 + seq, seq % 1000, UNHEX(MD5(seq)), UNHEX(MD5(seq)), 0, 't', 0, 1, '{}', 'x'
       FROM seq_1_to_${rows}`,
    );
    await lab.run("ANALYZE TABLE escapement_outbox");
  };
  /** Rows and index entries that a statement touches, by the server's own count. */
  const touchedBy = async (sql: string, values: unknown[]): Promise<number> => {
    const connection = await lab.pool.getConnection();
    try {
      await connection.query("FLUSH STATUS");
      await connection.query(sql, values);
      const [rows] = await connection.query("SHOW SESSION STATUS LIKE 'Handler_read%'");
      return (rows as { Value: string }[]).reduce((sum, { Value }) => sum + Number(Value), 0);
    } finally {
      connection.release();
    }
  };

  test("TX-13: a claim touches as many rows in a table of 50,000 as in one of 1,000", async () => {
    await fill(1_000);
    await write(...Array.from({ length: 40 }, (_, i) => ({ body: `${i}` })));
    const [one] = await lab.rows(
      "SELECT shard FROM escapement_outbox WHERE next_at < UNIX_TIMESTAMP() * 1000 + 1000 LIMIT 1",
    );
    const values = [one!.shard, 200];
    const all = Array.from({ length: shards }, (_, shard) => shard);
    const small = [await touchedBy(dueStatement, values), await touchedBy(nextDueStatement(shards), all)];
    await lab.run("DELETE FROM escapement_outbox WHERE next_at > UNIX_TIMESTAMP() * 1000 + 3600000");
    await fill(50_000);
    const large = [await touchedBy(dueStatement, values), await touchedBy(nextDueStatement(shards), all)];
    expect(large[0]).toBeLessThanOrEqual(small[0]! + 2);
    expect(large[1]).toBeLessThanOrEqual(small[1]! + 2 * shards);
    expect(small[0]).toBeLessThan(40);
  });

  test("every statement on what may be large finds its rows by an index", async () => {
    await fill(5_000);
    const id = Buffer.alloc(16);
    const statements: [string, unknown[], string][] = [
      [dueStatement, [1, 200], "due"],
      [dueAfterStatement, [1, 5, 5, 7, 200], "due"],
      [nextDueStatement(3), [1, 2, 3], "due"],
      [ownRowsStatement(2), [id, id], "tx"],
      [placesStatement(2), [3, 4, 5_000, 1_000], "lane"],
      [placesOfEachStatement(2), [3, 5_000, 10, 4, 5_000, 10], "lane"],
      [removeStatement(2), [1, 2], "PRIMARY"],
      [rowOfMessageStatement, [id], "msg"],
      [letGoStatement, [id, heldMs], "msg"],
      [heldStatement(2), [1, 2, heldMs, 60_000], "due"],
      [removeBesideStatement, [id, 1], "PRIMARY"],
      [hastenStatement(2), [50, 1, 2], "PRIMARY"],
      [delayedStatement(2), [id, id], "msg"],
      [touchedRowsStatement, [id], "tx"],
      [touchStatement(2), [5_000, 1, 2], "PRIMARY"],
      [sweepStatement, [60_000, 60_000, 60_000, 100], "PRIMARY"],
      [inboxSweepStatement, [60_000, 100], "at"],
    ];
    // A few are old, as when they are swept all the time.
    const at = "UNIX_TIMESTAMP() * 1000 - 70000 + seq * 100";
    await lab.run(`INSERT INTO escapement_tx SELECT UNHEX(MD5(seq)), 1, ${at} FROM seq_1_to_5000`);
    await lab.run(`INSERT INTO escapement_inbox SELECT seq, seq, ${at} FROM seq_1_to_5000`);
    await lab.run("ANALYZE TABLE escapement_tx, escapement_inbox");
    for (const [sql, values, key] of statements) {
      const plans = (await lab.rows(`EXPLAIN ${sql}`, values)).filter(
        ({ select_type }) => select_type !== "UNION RESULT",
      );
      for (const plan of plans) {
        // A constant that no row has needs no plan.
        if (String(plan.Extra).startsWith("Impossible WHERE noticed after")) continue;
        expect(plan.key, sql).toBe(key);
        expect(String(plan.Extra), sql).not.toMatch(/filesort|temporary/);
      }
    }
  });

  test("the overview bears a clock that stepped back", async () => {
    await write({ body: "x" });
    await lab.run("UPDATE escapement_outbox SET created_at = created_at + 5000");
    const desk = new OutboxDesk(lab.pool);
    cleanUp.push(() => desk.close());
    expect(await desk.overview()).toMatchObject({ waiting: 1, oldestMs: 0 });
  });

  test("migrating is repeatable, also by several at once, and goes on after being cut off", async () => {
    const fresh = await openLab({ migrated: false });
    cleanUp.push(async () => fresh[Symbol.asyncDispose]());
    const connections = await Promise.all([1, 2, 3].map(() => fresh.pool.getConnection()));
    const reports = await Promise.all(connections.map((connection) => migrateOutbox(fromMysql2(connection))));
    expect(reports.map(({ from, to }) => [from, to]).sort()).toEqual([
      [0, 1],
      [1, 1],
      [1, 1],
    ]);
    await fresh.run("DELETE FROM escapement_outbox_schema");
    await fresh.run("DELETE FROM escapement_outbox_shard WHERE shard > 3");
    await migrateOutbox(fromMysql2(connections[0]!));
    expect(await checkSchema(fromMysql2(connections[0]!))).toBe(16);
    for (const connection of connections) connection.release();
  });

  test("a migration that lasts holds up those of its own database only", async () => {
    const [slow, other] = await Promise.all([openLab({ migrated: false }), openLab({ migrated: false })]);
    const goOn = Promise.withResolvers<void>();
    const connections = await Promise.all([slow, slow, other].map(({ pool }) => pool.getConnection()));
    cleanUp.push(async () => {
      for (const connection of connections) connection.release();
      await Promise.all([slow, other].map(async (one) => one[Symbol.asyncDispose]()));
    });
    const [first, second, elsewhere] = connections.map((connection) => fromMysql2(connection));
    let isAtWork = false;
    const stalling: SqlExecutor = {
      async execute(sql, values) {
        if (sql.includes("escapement_inbox")) {
          isAtWork = true;
          await goOn.promise;
        }
        return first!.execute(sql, values);
      },
    };
    const stalled = migrateOutbox(stalling);
    await until("it is at work", () => isAtWork);
    let isThrough = false;
    const behind = migrateOutbox(second!).then((report) => {
      isThrough = true;
      return report;
    });
    const aside = migrateOutbox(elsewhere!);
    const soon = await Promise.race([aside.then(() => "migrated"), pauseMs(3_000).then(() => "waits")]);
    expect([soon, isThrough]).toEqual(["migrated", false]);
    goOn.resolve();
    expect([await stalled, await behind, await aside].map(({ from }) => from)).toEqual([0, 1, 0]);
  });

  test("TX-29: two versions on one table: the older one works while it can, and says so when it cannot", async () => {
    const connection = await lab.pool.getConnection();
    cleanUp.push(async () => connection.release());
    const sql = fromMysql2(connection);
    const additive = {
      version: 2,
      usableFrom: 1,
      statements: ["ALTER TABLE escapement_outbox ADD COLUMN trace VARBINARY(64) NULL"],
    };
    await write({ body: "old row, old tables" });
    expect(await migrateOutbox(sql, [...migrations, additive])).toEqual({ from: 1, to: 2 });
    expect(await checkSchema(sql)).toBe(16);
    // An older library writes and sends beside the newer one's column.
    await write({ body: "old library, new tables" });
    const sink = scriptedSink();
    await relayOn(sink).drain();
    expect(sink.bodies().sort()).toEqual(["old library, new tables", "old row, old tables"]);
    // The older library's migrations leave the newer tables alone.
    expect(await migrateOutbox(sql)).toEqual({ from: 2, to: 2 });
    await migrateOutbox(sql, [...migrations, additive, { version: 3, usableFrom: 3, statements: [] }]);
    await expect(checkSchema(sql)).rejects.toMatchObject({ code: "outbox_too_new" });
    await expect(checkSchema(sql, 4)).rejects.toMatchObject({ code: "outbox_too_old" });
    await lab.run("DROP TABLE escapement_outbox_schema");
    await expect(checkSchema(sql)).rejects.toMatchObject({ code: "outbox_missing" });
  });
});
