// Transactional sends on a real MariaDB and the embedded broker: what holds for one transaction.

import type { Pool, PoolConnection } from "mysql2/promise";
import { createPool } from "mysql2/promise";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { MysqlOutbox } from "../../src/adapters/mysql/mysql-outbox.ts";
import { OutboxDesk } from "../../src/adapters/mysql/outbox-desk.ts";
import { idToBytes, type MessageId, timeOrderedId } from "../../src/message/id.ts";
import { type RunningBroker, startBroker } from "../../src/start-broker.ts";
import { RolledBack, statusOf } from "../../src/tx/status.ts";
import { createTxProducer, fromMysql2, type TxProducer, type TxProducerOptions } from "../../src/tx-producer.ts";
import { TcpProxy } from "../faults/tcp-proxy.ts";
import { type Collector, collect, type Lab, openLab, pauseMs, quickRelay, uniqueName, until } from "./lab.ts";

let lab: Lab;
let broker: RunningBroker;
beforeAll(async () => {
  lab = await openLab();
  broker = await startBroker();
});
afterAll(async () => {
  await broker?.stop();
  await lab?.[Symbol.asyncDispose]();
});

const producer = (over: Partial<TxProducerOptions<PoolConnection>> = {}): Promise<TxProducer<PoolConnection>> =>
  createTxProducer({
    rocketmq: { endpoint: broker.endpoint },
    db: fromMysql2(lab.pool),
    relay: quickRelay,
    fastPath: { graceMs: 800 },
    ...over,
  });

/** Runs with a topic that somebody listens to. */
const listening = async (work: (topic: string, received: Collector) => Promise<void>): Promise<void> => {
  const topic = uniqueName("t");
  const received = await collect(broker.endpoint, topic);
  try {
    await work(topic, received);
  } finally {
    await received.stop();
  }
};

const emptyOutbox = () => until("the outbox is empty", async () => (await lab.waiting()) === 0);
const orders = async (): Promise<string[]> => (await lab.rows("SELECT id FROM orders ORDER BY id")).map(({ id }) => id);

describe("a committed transaction", () => {
  test("its rows and its messages are there, sent right after COMMIT and removed from the outbox", async () => {
    await using mq = await producer({ relay: false });
    await listening(async (topic, received) => {
      const answer = await mq.transaction(async (tx, q) => {
        await tx.query("INSERT INTO orders VALUES ('a1', 'x')");
        const first = await q.send({
          topic,
          key: "a1",
          json: { id: "a1" },
          tag: "created",
          properties: { color: "red" },
        });
        const second = await q.send({ topic, body: Buffer.from([0, 255, 39, 92]) });
        return { first, second, txId: q.txId };
      });
      await until("both received", () => received.messages.length === 2);
      const [first, second] = [answer.first.id, answer.second.id].map(
        (id) => received.messages.find(({ properties }) => properties.get("ESC_ID") === id)!,
      );
      expect(first).toMatchObject({ tag: "created", keys: ["a1"] });
      expect(first!.body.toString()).toBe('{"id":"a1"}');
      expect(first!.properties.get("color")).toBe("red");
      expect(second!.body).toEqual(Buffer.from([0, 255, 39, 92]));
      await emptyOutbox();
      const status = await mq.status(answer.txId);
      expect(status).toMatchObject({ state: "sent", evidence: [{ kind: "commit-mark" }] });
      expect(mq.counts()).toMatchObject({ sentFast: 2, sentByRelay: 0, perhapsTwice: 0 });
    });
  });

  test("without a fast path the relay sends the same", async () => {
    await using mq = await producer({ fastPath: false });
    await listening(async (topic, received) => {
      await mq.transaction(async (_, q) => {
        for (let i = 0; i < 30; i++) await q.send({ topic, body: `m${i}` });
      });
      await until("all received", () => received.messages.length === 30);
      expect(new Set(received.bodies()).size).toBe(30);
      await emptyOutbox();
      expect(mq.counts()).toMatchObject({ sentFast: 0, sentByRelay: 30 });
    });
  });

  test("one hundred at once: every message once", async () => {
    // With the tests' short grace, a busy machine would have the relay send what the fast path is about to.
    await using mq = await producer({ fastPath: { graceMs: 5_000 } });
    await listening(async (topic, received) => {
      await Promise.all(
        Array.from({ length: 100 }, (_, i) =>
          mq.transaction(async (tx, q) => {
            await tx.query("INSERT INTO orders VALUES (?, NULL)", [`hundred-${i}`]);
            await q.send({ topic, body: `m${i}` });
          }),
        ),
      );
      await until("all received", () => received.messages.length >= 100);
      await emptyOutbox();
      await pauseMs(200);
      expect(received.bodies().sort()).toEqual(Array.from({ length: 100 }, (_, i) => `m${i}`).sort());
    });
  });

  test("a send that is not awaited belongs to it, too, and its failure fails it", async () => {
    await using mq = await producer();
    await listening(async (topic, received) => {
      await mq.transaction(async (_, q) => {
        q.send({ topic, body: "not awaited" });
      });
      await until("received", () => received.messages.length === 1);
    });
  });

  test("a send that fails early and whose promise is dropped fails the transaction, too; one that was caught does not", async () => {
    await using mq = await producer();
    const dropped = mq.transaction(async (tx, q) => {
      q.send({ topic: "t", body: Buffer.alloc(4_000_001) });
      await tx.query("INSERT INTO orders VALUES ('dropped', NULL)");
    });
    await expect(dropped).rejects.toMatchObject({ code: "body_too_large" });
    await mq.transaction(async (tx, q) => {
      const caught = q.send({ topic: "t", body: Buffer.alloc(4_000_001) }).catch(() => {});
      await tx.query("INSERT INTO orders VALUES ('caught', NULL)");
      await caught;
      await Promise.allSettled([q.cancel({ key: "not cancelable here" })]);
    });
    const found = await orders();
    expect([found.includes("dropped"), found.includes("caught")]).toEqual([false, true]);
  });

  test("status says committed-unsent with the reason while a message cannot be sent", async () => {
    await using mq = await producer({ fastPath: false, relay: false });
    const txId = await mq.transaction(async (_, q) => {
      await q.send({ topic: uniqueName("t"), body: "waits" });
      return q.txId;
    });
    expect(await mq.status(txId)).toMatchObject({
      state: "committed-unsent",
      evidence: [{ kind: "commit-mark" }, { kind: "waiting", attempts: 0 }],
    });
    await lab.run("DELETE FROM escapement_outbox");
  });
});

describe("a transaction that does not commit", () => {
  test("TX-05: after a rollback nothing is sent and nothing is left", async () => {
    await using mq = await producer();
    await listening(async (topic, received) => {
      let txId = "";
      const failing = mq.transaction(async (tx, q) => {
        txId = q.txId;
        await tx.query("INSERT INTO orders VALUES ('tx05', NULL)");
        await q.send({ topic, body: "never" });
        throw new Error("no");
      });
      await expect(failing).rejects.toThrow("no");
      expect(await orders()).not.toContain("tx05");
      expect(await lab.waiting()).toBe(0);
      expect(await mq.status(txId)).toMatchObject({ state: "rolled-back", evidence: [{ kind: "rollback-seen" }] });
      await pauseMs(300);
      expect(received.messages).toEqual([]);
    });
  });

  test("TX-06: what a savepoint rolled back is not sent, by the fast path neither; the rest is", async () => {
    await using mq = await producer();
    await listening(async (topic, received) => {
      await mq.transaction(async (tx, q) => {
        await q.send({ topic, body: "before" });
        await tx.query("SAVEPOINT mine");
        await q.send({ topic, body: "undone" });
        await tx.query("ROLLBACK TO SAVEPOINT mine");
        await q.send({ topic, body: "after" });
      });
      await until("received", () => received.messages.length >= 2);
      await emptyOutbox();
      await pauseMs(300);
      expect(received.bodies().sort()).toEqual(["after", "before"]);
    });
  });

  test("TX-06: a name used again after a savepoint rollback sends the second body", async () => {
    await using mq = await producer();
    await listening(async (topic, received) => {
      await mq.transaction(async (tx, q) => {
        await tx.query("SAVEPOINT mine");
        await q.send({ topic, body: "undone", dedupe: "same-name" });
        await tx.query("ROLLBACK TO SAVEPOINT mine");
        await q.send({ topic, body: "stays", dedupe: "same-name" });
      });
      await until("received", () => received.messages.length === 1, 12_000);
      expect(received.bodies()).toEqual(["stays"]);
    });
  });

  test("TX-14: a deadlock runs the whole callback again, and no row is doubled", async () => {
    await using mq = await producer();
    await lab.run("INSERT INTO orders VALUES ('dead-a', '0'), ('dead-b', '0')");
    await listening(async (topic, received) => {
      let runs = 0;
      const crossing = (first: string, second: string, body: string) => {
        let isFirstRun = true;
        return mq.transaction(async (tx, q) => {
          runs++;
          await tx.query("UPDATE orders SET note = note + 1 WHERE id = ?", [first]);
          await q.send({ topic, body });
          if (isFirstRun) await pauseMs(150);
          isFirstRun = false;
          await tx.query("UPDATE orders SET note = note + 1 WHERE id = ?", [second]);
        });
      };
      await Promise.all([crossing("dead-a", "dead-b", "one"), crossing("dead-b", "dead-a", "two")]);
      expect(runs).toBe(3);
      expect(mq.counts().deadlocksRetried).toBe(1);
      const notes = await lab.rows("SELECT note FROM orders WHERE id IN ('dead-a', 'dead-b')");
      expect(notes.map(({ note }) => note)).toEqual(["2", "2"]);
      await until("received", () => received.messages.length >= 2);
      await pauseMs(200);
      expect(received.bodies().sort()).toEqual(["one", "two"]);
    });
  });

  test("TX-27: a deadlock after a COMMIT inside does not run the callback again; what was committed is not called rolled back", async () => {
    await using mq = await producer({ relay: false, fastPath: false });
    await lab.run("INSERT INTO orders VALUES ('half-a', '0'), ('half-b', '0')");
    const other = await lab.pool.getConnection();
    await other.query("SET SESSION innodb_lock_wait_timeout = 5");
    await other.beginTransaction();
    // The lighter of two transactions loses.
    await other.query("INSERT INTO orders VALUES ('heavy-1', ''), ('heavy-2', ''), ('heavy-3', ''), ('heavy-4', '')");
    await other.query("UPDATE orders SET note = 'other' WHERE id = 'half-b'");
    const txIds: string[] = [];
    const failing = mq.transaction(async (tx, q) => {
      txIds.push(q.txId);
      await q.send({ topic: uniqueName("t"), body: "committed" });
      await tx.query("COMMIT");
      await tx.query("BEGIN");
      await tx.query("UPDATE orders SET note = 'mine' WHERE id = 'half-a'");
      const winning = other.query("UPDATE orders SET note = 'other' WHERE id = 'half-a'");
      await pauseMs(100);
      await tx.query("UPDATE orders SET note = 'mine' WHERE id = 'half-b'").finally(() => winning);
    });
    await expect(failing).rejects.toMatchObject({ code: "transaction_ended_inside", cause: { errno: 1213 } });
    await other.rollback();
    other.release();
    expect(txIds).toHaveLength(1);
    expect(await mq.status(txIds[0]!)).toMatchObject({ state: "committed-unsent" });
    await lab.run("DELETE FROM escapement_outbox"); // sent
    expect(await mq.status(txIds[0]!)).toMatchObject({ state: "unknown", evidence: [{ kind: "ended-inside" }] });
  });

  test("TX-27: the same when what was committed by the callback is a half message", async () => {
    const half = uniqueName("half");
    await broker.createTopic(half, { type: "TRANSACTION" });
    await using mq = await producer({ relay: false, mode: "half", half: { topics: [half] } });
    await lab.run("INSERT INTO orders VALUES ('half-snapshot', '0')");
    let runs = 0;
    const failing = mq.transaction(async (tx, q) => {
      runs++;
      await q.send({ topic: half, body: "committed" });
      await tx.query("COMMIT");
      await tx.query("SET SESSION innodb_snapshot_isolation = ON");
      await tx.query("BEGIN");
      await tx.query("SELECT note FROM orders WHERE id = 'half-snapshot'");
      await lab.run("UPDATE orders SET note = note + 1 WHERE id = 'half-snapshot'");
      await tx.query("UPDATE orders SET note = note + 1 WHERE id = 'half-snapshot'");
    });
    await expect(failing).rejects.toMatchObject({ code: "transaction_ended_inside" });
    expect(runs).toBe(1);
  });

  test("a row that changed since the snapshot (MariaDB, innodb_snapshot_isolation) is a deadlock to us", async () => {
    await using mq = await producer();
    await lab.run("INSERT INTO orders VALUES ('snapshot', '0')");
    let runs = 0;
    await mq.transaction(async (tx, q) => {
      runs++;
      await tx.query("SET SESSION innodb_snapshot_isolation = ON");
      await tx.query("SELECT note FROM orders WHERE id = 'snapshot'");
      await q.send({ topic: uniqueName("t"), body: `run ${runs}` });
      if (runs === 1) await lab.run("UPDATE orders SET note = note + 1 WHERE id = 'snapshot'");
      await tx.query("UPDATE orders SET note = note + 1 WHERE id = 'snapshot'");
    });
    expect(runs).toBe(2);
    expect(await lab.rows("SELECT note FROM orders WHERE id = 'snapshot'")).toMatchObject([{ note: "2" }]);
  });

  test("a lock-wait timeout rolls back everything and says that trying again is fine", async () => {
    await using mq = await producer();
    await lab.run("INSERT INTO orders VALUES ('locked', '0')");
    const holder = await lab.pool.getConnection();
    await holder.beginTransaction();
    await holder.query("UPDATE orders SET note = 'held' WHERE id = 'locked'");
    const waiting = mq.transaction(async (tx, q) => {
      await tx.query("SET SESSION innodb_lock_wait_timeout = 1");
      await q.send({ topic: uniqueName("t"), body: "never" });
      await tx.query("UPDATE orders SET note = 'mine' WHERE id = 'locked'");
    });
    await expect(waiting).rejects.toMatchObject({ code: "lock_wait_timeout" });
    await holder.rollback();
    holder.release();
    expect(await lab.waiting()).toBe(0);
  });

  test("TX-27: DDL that commits in the middle is noticed, and what it committed is sent with its rows", async () => {
    await using mq = await producer();
    await listening(async (topic, received) => {
      const table = uniqueName("ddl");
      const failing = mq.transaction(async (tx, q) => {
        await tx.query("INSERT INTO orders VALUES ('tx27', NULL)");
        await q.send({ topic, body: "committed by the DDL" });
        await tx.query(`CREATE TABLE ${table} (id INT)`);
        throw_never(); // the callback itself notices nothing
      });
      await expect(failing).rejects.toMatchObject({ code: "transaction_ended_inside" });
      expect(await orders()).toContain("tx27");
      await until("received", () => received.messages.length === 1, 12_000);
    });
  });

  test("TX-27: also when the callback throws afterwards; status never says rolled-back of what is committed", async () => {
    await using mq = await producer({ relay: false, fastPath: false });
    let txId = "";
    const failing = mq.transaction(async (tx, q) => {
      txId = q.txId;
      await tx.query("INSERT INTO orders VALUES ('tx27-thrown', NULL)");
      await q.send({ topic: "t", body: "committed by the DDL" });
      await tx.query(`CREATE TABLE ${uniqueName("ddl")} (id INT)`);
      throw new Error("later");
    });
    await expect(failing).rejects.toMatchObject({ code: "transaction_ended_inside", cause: { message: "later" } });
    expect(await orders()).toContain("tx27-thrown");
    expect(await mq.status(txId, { fence: true })).toMatchObject({ state: "committed-unsent" });
    await lab.run("DELETE FROM escapement_outbox"); // sent
    const ended = { state: "unknown", evidence: [{ kind: "ended-inside" }] };
    expect(await mq.status(txId, { fence: true })).toMatchObject(ended);
  });

  test("TX-27: who fences it in the middle is told of what DDL has committed, and writes no mark that denies it", async () => {
    await using mq = await producer({ relay: false, fastPath: false });
    const said: string[] = [];
    let txId = "";
    const failing = mq.transaction(async (tx, q) => {
      txId = q.txId;
      await q.send({ topic: "t", body: "committed by the DDL" });
      await tx.query(`CREATE TABLE ${uniqueName("ddl")} (id INT)`);
      const { state, evidence } = await mq.status(txId, { fence: true });
      said.push(state, ...evidence.map(({ kind }) => kind));
      await lab.run("DELETE FROM escapement_outbox"); // sent
      said.push((await mq.status(txId)).state);
    });
    await expect(failing).rejects.toMatchObject({ code: "transaction_ended_inside" });
    expect(said).toEqual(["committed-unsent", "waiting", "unknown"]);
  });

  test("TX-27: COMMIT or ROLLBACK by the callback itself is noticed, also before the first send", async () => {
    await using mq = await producer();
    for (const statement of ["COMMIT", "ROLLBACK"]) {
      const failing = mq.transaction(async (tx, q) => {
        await tx.query(statement);
        await q.send({ topic: uniqueName("t"), body: "x" });
      });
      await expect(failing, statement).rejects.toMatchObject({ code: "transaction_ended_inside" });
    }
    await emptyOutbox();
  });
});

const throw_never = (): void => {};

describe("TX-04: COMMIT is sent and the connection is lost", () => {
  /** Through a proxy that carries everything but, from COMMIT on, one direction. */
  const cutAtCommit = async (drop: "request" | "reply") => {
    const server = new URL(lab.url);
    const proxy = await TcpProxy.open(Number(server.port));
    const through = new URL(lab.url);
    through.port = String(proxy.port);
    const pool = createPool({ uri: through.href, connectionLimit: 1 });
    const topic = uniqueName("t");
    const received = await collect(broker.endpoint, topic);
    const mq = await producer({ db: fromMysql2(pool), pool: lab.pool, fastPath: { graceMs: 200 } });
    let txId = "";
    const id = `tx04-${drop}`;
    const outcome = mq.transaction(async (tx, q) => {
      txId = q.txId;
      await tx.query("INSERT INTO orders VALUES (?, NULL)", [id]);
      await q.send({ topic, body: "x" });
      const commit = tx.commit.bind(tx);
      tx.commit = async () => {
        if (drop === "request") proxy.cut();
        else void proxy.swallowReplies(200);
        return commit();
      };
    });
    return {
      outcome,
      received,
      mq,
      id,
      txId: () => txId,
      end: async () => {
        await mq.close();
        await received.stop();
        await pool.end().catch(() => {});
        await proxy.close();
      },
    };
  };

  test("before the server got it: rolled back, nothing is sent, and status can make that final", async () => {
    const cut = await cutAtCommit("request");
    const error = await cut.outcome.catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: "commit_outcome_unknown", txId: cut.txId() });
    await until(
      "the server has rolled back",
      async () => (await cut.mq.status(cut.txId(), { fence: true })).state !== "unknown",
    );
    expect(await cut.mq.status(cut.txId())).toMatchObject({ state: "rolled-back", evidence: [{ kind: "fence" }] });
    expect(await orders()).not.toContain(cut.id);
    await pauseMs(400);
    expect(cut.received.messages).toEqual([]);
    await cut.end();
  });

  test("after the server got it: committed, and the relay sends, never the fast path", async () => {
    const cut = await cutAtCommit("reply");
    await expect(cut.outcome).rejects.toMatchObject({ code: "commit_outcome_unknown" });
    await until("received", () => cut.received.messages.length === 1);
    expect(await orders()).toContain(cut.id);
    await until("sent", async () => (await cut.mq.status(cut.txId(), { fence: true })).state === "sent");
    expect(cut.mq.counts()).toMatchObject({ sentFast: 0, sentByRelay: 1 });
    await cut.end();
  });
});

describe("status and its fence", () => {
  test("a transaction that was fenced while it was open cannot commit any more", async () => {
    await using mq = await producer();
    let txId = "";
    const slow = mq.transaction(async (tx, q) => {
      txId = q.txId;
      await tx.query("INSERT INTO orders VALUES ('fenced', NULL)");
      await q.send({ topic: uniqueName("t"), body: "never" });
      expect(await mq.status(txId)).toMatchObject({ state: "unknown" });
      expect(await mq.status(txId, { fence: true })).toMatchObject({ state: "rolled-back" });
    });
    await expect(slow).rejects.toMatchObject({ code: "fenced" });
    expect(await orders()).not.toContain("fenced");
    expect(await lab.waiting()).toBe(0);
  });

  /** As if it had begun and been marked this long ago: the id's time, and the mark's. */
  const ageTo = async (txId: string, ms: number): Promise<string> => {
    const old = timeOrderedId(Date.now() - ms, Buffer.alloc(10, 7), 1);
    await lab.run("UPDATE escapement_tx SET tx_id = ?, at = at - ? WHERE tx_id = ?", [
      idToBytes(old),
      ms,
      idToBytes(txId as MessageId),
    ]);
    return old;
  };
  const marksOf = async (txId: string): Promise<number> =>
    (await lab.rows("SELECT tx_id FROM escapement_tx WHERE tx_id = ?", [idToBytes(txId as MessageId)])).length;
  const fence = { fence: true };
  const noTrace = { state: "unknown", evidence: [{ kind: "no-trace", detail: expect.stringMatching(/^not fenced/) }] };

  test("what began longer ago than marks are kept for sure is not fenced: it stays unknown", async () => {
    await using mq = await producer({ relay: false, fastPath: false });
    const committed = await mq.transaction(async (_, q) => {
      await q.send({ topic: "t", body: "x" });
      return q.txId;
    });
    await lab.run("DELETE FROM escapement_outbox"); // sent
    const outbox = new MysqlOutbox(lab.pool, 16);
    const young = await ageTo(committed, 839_000);
    expect(await mq.status(young, fence)).toMatchObject({ state: "sent" });
    const old = await ageTo(young, 901_000);
    expect(await mq.status(old, fence)).toMatchObject({ state: "sent" });
    await outbox.sweep({ marksMs: 900_000, fencesMs: 900_000 }, 1_000);
    expect(await marksOf(old)).toBe(0);
    expect(await mq.status(old, fence)).toMatchObject(noTrace);
    await outbox.close();
  });

  test("nobody sweeps the mark of what a fence may still be asked about, nor a fence for a day, whatever he keeps", async () => {
    await using mq = await producer({ relay: false, fastPath: false });
    const begin = (agoMs: number) => timeOrderedId(Date.now() - agoMs, Buffer.from(uniqueName("x").slice(-10)), 1);
    const fenced = begin(800_000);
    expect(await mq.status(fenced, fence)).toMatchObject({ state: "rolled-back" });
    const insert = "INSERT INTO escapement_tx (tx_id, outcome, at) VALUES (?, ?, ?)";
    const young = begin(800_000);
    const oldMark = begin(950_000);
    const oldFence = begin(950_000);
    const older = begin(90_000_000);
    for (const [id, outcome, agoMs] of [
      [young, 1, 950_000],
      [oldMark, 1, 950_000],
      [oldFence, 2, 950_000],
      [older, 2, 90_000_000],
    ] as const)
      await lab.run(insert, [idToBytes(id), outcome, Date.now() - agoMs]);
    const all = [fenced, young, oldMark, oldFence, older];
    const left = async () => Promise.all(all.map(marksOf));
    const hasty = [{ keepOutcomesMs: 0 }, { keepOutcomesMs: 1 }];
    for (const over of hasty) {
      await using other = await producer({ ...over, fastPath: false });
      if (over.keepOutcomesMs === 0) await pauseMs(300);
      else await until("swept", async () => (await marksOf(older)) === 0);
      expect(await left()).toEqual(over.keepOutcomesMs === 0 ? [1, 1, 1, 1, 1] : [1, 1, 0, 1, 0]);
      await other.close();
    }
  });

  test("an open transaction that has held its mark for long does not hold up the relay", async () => {
    await using mq = await producer({ relay: false, fastPath: false });
    const connection = await lab.pool.getConnection();
    await connection.beginTransaction();
    await mq.in(connection).send({ topic: "t", body: "x" });
    const outbox = new MysqlOutbox(lab.pool, 16);
    try {
      const began = performance.now();
      await outbox.sweep({ marksMs: -60_000, fencesMs: 86_400_000 }, 100_000);
      expect(performance.now() - began).toBeLessThan(1_000);
    } finally {
      await connection.rollback();
      connection.release();
      await outbox.close();
    }
  });

  test("a producer that keeps no outcomes is not fenced, whoever asks", async () => {
    await using keeping = await producer({ relay: false, fastPath: false });
    await using keepsNone = await producer({ relay: false, fastPath: false, keepOutcomesMs: 0 });
    const said: unknown[] = [];
    await keepsNone.transaction(async (_, q) => {
      await q.send({ topic: "t", body: "x" });
      for (const mq of [keeping, keepsNone]) said.push(await mq.status(q.txId, fence));
    });
    expect(said).toMatchObject([noTrace, noTrace]);
    await lab.run("DELETE FROM escapement_outbox");
  });

  test("a transaction without messages leaves its mark, too", async () => {
    await using mq = await producer({ relay: false });
    const txId = await mq.transaction(async (tx, q) => {
      await tx.query("INSERT INTO orders VALUES ('silent', NULL)");
      return q.txId;
    });
    expect((await mq.status(txId, fence)).state).toBe("sent");
  });

  test("joined: a rollback to a savepoint takes the mark, and the next send writes it again, or finds the fence", async () => {
    await using mq = await producer({ relay: false, fastPath: false });
    const connection = await lab.pool.getConnection();
    for (const isFenced of [false, true]) {
      await connection.beginTransaction();
      const q = mq.in(connection);
      await connection.query("SAVEPOINT mine");
      await q.send({ topic: "t", body: "undone" });
      await connection.query("ROLLBACK TO SAVEPOINT mine");
      if (isFenced) {
        // Read before the fence, so that the transaction's snapshot is older than it.
        await connection.query("SELECT COUNT(*) FROM orders");
        expect((await mq.status(q.txId, fence)).state).toBe("rolled-back");
        await expect(q.send({ topic: "t", body: "b" })).rejects.toMatchObject({ code: "fenced" });
        await connection.rollback();
      } else {
        await q.send({ topic: "t", body: "b" });
        expect(await mq.status(q.txId, fence)).toMatchObject({ state: "unknown", evidence: [{ kind: "open" }] });
        await connection.commit();
        await lab.run("DELETE FROM escapement_outbox");
        expect((await mq.status(q.txId, fence)).state).toBe("sent");
      }
    }
    // One sender over two transactions of a connection: the first one's mark went with it.
    const q = mq.in(connection);
    await connection.beginTransaction();
    await q.send({ topic: "t", body: "first" });
    await connection.rollback();
    await connection.beginTransaction();
    await q.send({ topic: "t", body: "second" });
    expect((await mq.status(q.txId, fence)).state).toBe("unknown");
    await connection.commit();
    connection.release();
    await lab.run("DELETE FROM escapement_outbox");
    expect((await mq.status(q.txId, fence)).state).toBe("sent");
  });

  test("is no 'sent' while what was put aside goes back to what waits", async () => {
    const id = timeOrderedId(Date.now(), Buffer.alloc(10, 3), 1);
    await lab.run("INSERT INTO escapement_tx (tx_id, outcome, at) VALUES (?, 1, 1)", [idToBytes(id)]);
    await lab.run(
      `INSERT INTO escapement_outbox_dead (tx_id, msg_id, kind, topic, created_at, buried_at, attempts, head, body, reason)
       VALUES (?, ?, 0, 't', 1, 1, 1, '{}', 'b', 'refused')`,
      [idToBytes(id), idToBytes(id)],
    );
    const desk = new OutboxDesk(lab.pool);
    let resent = 0;
    // The worst moment for it: whenever the outbox asks for the dead.
    const pool: Pick<Pool, "getConnection"> = {
      async getConnection() {
        const connection = await lab.pool.getConnection();
        const query = connection.query.bind(connection) as (of: { sql: string }) => Promise<unknown>;
        connection.query = (async (asked: { sql: string }) => {
          if (asked.sql.includes("FROM escapement_outbox_dead")) resent += await desk.resend(undefined);
          return query(asked);
        }) as never;
        return connection;
      },
    };
    const outbox = new MysqlOutbox(pool, 16);
    const { state } = await statusOf({ txId: id, fence: false, outbox, rolledBack: new RolledBack() });
    expect([state, resent]).toEqual(["committed-unsent", 1]);
    await lab.run("DELETE FROM escapement_outbox");
    await Promise.all([outbox.close(), desk.close()]);
  });

  test("of a transaction nobody has heard of it says unknown", async () => {
    await using mq = await producer();
    expect((await mq.status("0198f7a0-0000-7000-8000-000000000000")).state).toBe("unknown");
    await expect(mq.status("tx-1")).rejects.toThrow(/UUID/);
  });
});

describe("joining somebody else's transaction", () => {
  test("its messages go when it commits, and not when it rolls back", async () => {
    await using mq = await producer();
    await listening(async (topic, received) => {
      const connection = await lab.pool.getConnection();
      for (const [body, end] of [
        ["gone", "rollback"],
        ["goes", "commit"],
      ] as const) {
        await connection.beginTransaction();
        await mq.in(connection).send({ topic, body });
        await connection[end]();
      }
      connection.release();
      await until("received", () => received.messages.length === 1);
      await pauseMs(200);
      expect(received.bodies()).toEqual(["goes"]);
    });
  });

  test("sends at once, by one sender or by several of one connection, do not take each other for the end", async () => {
    await using mq = await producer({ relay: false, fastPath: false });
    const connection = await lab.pool.getConnection();
    await connection.beginTransaction();
    try {
      const q = mq.in(connection);
      const senders = [q, q, q, mq.in(connection), mq.in(connection)];
      const ended = await Promise.allSettled(senders.map((one) => one.send({ topic: "t", body: "x" })));
      expect(ended.map(({ status }) => status)).toEqual(senders.map(() => "fulfilled"));
    } finally {
      await connection.rollback();
      connection.release();
    }
  });

  test("a join inside a transaction of ours, on its connection, is part of it", async () => {
    await using mq = await producer({ relay: false, fastPath: false });
    await mq.transaction(async (tx, q) => {
      await q.send({ topic: "t", body: "a" });
      await mq.in(tx).send({ topic: "t", body: "b" });
      await q.send({ topic: "t", body: "c" });
    });
    expect(await lab.waiting()).toBe(3);
    await lab.run("DELETE FROM escapement_outbox");
  });

  test("a connection without a transaction, an ended one, a pool and a stranger are refused, and nothing is written", async () => {
    await using mq = await producer();
    const message = { topic: uniqueName("t"), body: "x" };
    const connection = await lab.pool.getConnection();
    await expect(mq.in(connection).send(message)).rejects.toMatchObject({ code: "not_a_transaction" });
    await connection.beginTransaction();
    const joined = mq.in(connection);
    await joined.send(message);
    await connection.rollback();
    await expect(joined.send(message)).rejects.toMatchObject({ code: "not_a_transaction" });
    connection.release();
    expect(() => mq.in(lab.pool)).toThrow(expect.objectContaining({ code: "not_a_transaction" }));
    for (const txId of [undefined as never, "abc"]) {
      await expect(mq.status(txId)).rejects.toMatchObject({ code: "invalid_id", field: "txId" });
    }
    expect(() => mq.in(undefined as never)).toThrow(expect.objectContaining({ code: "not_a_transaction" }));
    expect(() => mq.in({} as never)).toThrow(expect.objectContaining({ code: "not_a_transaction" }));
    expect(await lab.waiting()).toBe(0);
  });

  test("the sender of an ended transaction of ours is refused", async () => {
    await using mq = await producer();
    const kept = await mq.transaction(async (_, q) => q);
    await expect(kept.send({ topic: "t", body: "x" })).rejects.toMatchObject({ code: "not_a_transaction" });
  });
});

describe("outside of a transaction", () => {
  test("throws unless sending at once was asked for", async () => {
    await using strict = await producer();
    await expect(strict.send({ topic: "t", body: "x" })).rejects.toMatchObject({ code: "outside_transaction" });
    await using loose = await producer({ outsideTx: "send-now" });
    await listening(async (topic, received) => {
      const { id } = await loose.send({ topic, body: "now" });
      await until("received", () => received.messages.length === 1);
      expect(received.messages[0]!.properties.get("ESC_ID")).toBe(id);
    });
    await expect(loose.send({ topic: "TBW102", body: "x" })).rejects.toMatchObject({ code: "invalid_topic" });
  });
});

describe("TX-12: what RocketMQ would refuse", () => {
  test("is refused before it is written, and the transaction may go on or not", async () => {
    await using mq = await producer();
    await listening(async (topic, received) => {
      await mq.transaction(async (_, q) => {
        await expect(q.send({ topic, body: Buffer.alloc(4_000_001) })).rejects.toMatchObject({
          code: "body_too_large",
        });
        await expect(q.send({ topic: "no spaces", body: "x" })).rejects.toMatchObject({ code: "invalid_topic" });
        await expect(q.send({ topic, body: "" })).rejects.toMatchObject({ code: "empty_body" });
        await expect(q.send({ topic, body: "x", properties: { ESC_ID: "x" } })).rejects.toMatchObject({
          code: "reserved_property",
        });
        await expect(q.send({ topic, body: "x", key: "a b" })).rejects.toMatchObject({ code: "invalid_field" });
        await expect(q.send({ topic, body: "x", delay: "366d" })).rejects.toMatchObject({ code: "delay_too_long" });
        await expect(q.send({ topic, body: "x", delay: 1, deliverAt: 1 })).rejects.toMatchObject({
          code: "time_ambiguous",
        });
        await q.send({ topic, body: "fine" });
      });
      await until("received", () => received.messages.length === 1);
      expect(received.bodies()).toEqual(["fine"]);
    });
  });

  test("a body of 4 MB goes through", async () => {
    await using mq = await producer();
    await listening(async (topic, received) => {
      await mq.transaction(async (_, q) => void (await q.send({ topic, body: Buffer.alloc(4_000_000, 7) })));
      await until("received", () => received.messages.length === 1);
      expect(received.messages[0]!.body.equals(Buffer.alloc(4_000_000, 7))).toBe(true);
      await emptyOutbox();
    });
  });
});

test("TX-25: the application's clock does not matter for what is due: a day of skew either way", async () => {
  await using mq = await producer({ fastPath: false });
  await listening(async (topic, received) => {
    for (const skewMs of [-86_400_000, 86_400_000]) {
      const real = Date.now;
      Date.now = () => real() + skewMs;
      try {
        await mq.transaction(async (_, q) => void (await q.send({ topic, body: `skew ${skewMs}` })));
        await until("received", () => received.bodies().includes(`skew ${skewMs}`), 3_000);
      } finally {
        Date.now = real;
      }
    }
  });
});

test("a pool that would leave no connection for transactions is refused", async () => {
  const pool = createPool({ uri: lab.url, connectionLimit: 2 });
  await expect(producer({ db: fromMysql2(pool) })).rejects.toThrow(/2 connections/);
  await pool.end();
});

test("two sends under one dedupe name are one row while the first waits, and carry one id", async () => {
  await using mq = await producer({ fastPath: false, relay: false });
  const topic = uniqueName("t");
  const ids: string[] = [];
  for (let i = 0; i < 2; i++) {
    await mq.transaction(async (_, q) => void ids.push((await q.send({ topic, body: `${i}`, dedupe: "order-7" })).id));
  }
  expect(ids[0]).toBe(ids[1]);
  expect(await lab.waiting()).toBe(1);
  await lab.run("DELETE FROM escapement_outbox");
});
