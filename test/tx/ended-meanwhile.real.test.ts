import { createRequire } from "node:module";
import { sql as drizzleSql } from "drizzle-orm";
import { drizzle } from "drizzle-orm/mysql2";
import { Kysely, sql as kyselySql, MysqlDialect } from "kysely";
import { createPool as createCallbackPool, createConnection } from "mysql2";
import type { PoolConnection } from "mysql2/promise";
import { DataSource } from "typeorm";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { heldMs } from "../../src/adapters/mysql/outbox-columns.ts";
import { startBroker } from "../../src/start-broker.ts";
import type { JoinedTransaction } from "../../src/tx/database.port.ts";
import {
  createInbox,
  createTxProducer,
  fromDrizzle,
  fromKnex,
  fromKysely,
  fromMysql2,
  fromTypeOrm,
  type TxProducer,
} from "../../src/tx-producer.ts";
import { type Lab, openLab, pauseMs } from "./lab.ts";

// A joined transaction belongs to its caller, who may end it while a send is on its way:
// `Promise.all([q.send(m), work()])`, where the work fails. Whatever falls between our statements, what was rolled back
// is not sent, and the mark does not say that it was committed.

let lab: Lab;
let cleanUp: (() => Promise<unknown>)[];
beforeEach(async () => {
  lab = await openLab();
  cleanUp = [];
});
afterEach(async () => {
  for (const end of cleanUp.reverse()) await end();
  await lab[Symbol.asyncDispose]();
});

const withoutBroker = async (): Promise<TxProducer<PoolConnection>> => {
  const mq = await createTxProducer({
    rocketmq: { endpoint: "127.0.0.1:1", sendTimeoutMs: 200 },
    db: fromMysql2(lab.pool),
    escapement: { url: "http://127.0.0.1:1" },
    relay: false,
  });
  cleanUp.push(() => mq.close());
  return mq;
};

/** The connection, on which `interruption` is run right before statement number `at`; says how many there were. */
const interrupted = (connection: PoolConnection, at: number, interruption: readonly string[]) => {
  const itself = fromMysql2(connection) as unknown as JoinedTransaction;
  let count = 0;
  const tx: JoinedTransaction = {
    ...itself,
    async execute(sql, values) {
      if (++count === at) for (const statement of interruption) await connection.query(statement);
      return itself.execute(sql, values);
    },
  };
  return { tx, statements: () => count };
};

const sendable = () => lab.rows("SELECT id FROM escapement_outbox WHERE next_at < ?", [heldMs]);

describe.each([
  ["a message", "send"],
  ["a cancel", "cancel"],
] as const)("%s on its way", (_, verb) => {
  test.each([
    ["rolled back", 1, ["ROLLBACK"]],
    // Before the first statement, all of it would be in the other one.
    ["rolled back, and another one begun", 2, ["ROLLBACK", "BEGIN"]],
  ])(
    "when its transaction is %s is not sent, before whichever statement that falls",
    async (_name, first, interruption) => {
      const mq = await withoutBroker();
      await mq.transaction((_tx, q) => q.send({ topic: "later", body: "to cancel", delay: "1h", dedupe: "the-one" }));
      const before = (await sendable()).length;
      for (let at = first; ; at++) {
        const connection = await lab.pool.getConnection();
        await connection.beginTransaction();
        const { tx, statements } = interrupted(connection, at, interruption);
        const q = mq.in(tx);
        const sending = verb === "send" ? q.send({ topic: "orders", body: `${at}` }) : q.cancel({ key: "the-one" });
        await sending.catch((error: unknown) => expect(error).toMatchObject({ code: "not_a_transaction" }));
        await connection.query("COMMIT"); // of what was begun afterwards, if anything was
        connection.release();
        if (statements() < at) break;
        expect(await sendable(), `before statement ${at}`).toHaveLength(before);
        expect((await mq.status(q.txId)).state, `before statement ${at}`).toBe("unknown");
        expect(at).toBeLessThan(20);
      }
      expect((await lab.rows("SELECT id FROM escapement_outbox WHERE kind = 1")).length).toBe(
        verb === "cancel" ? 1 : 0,
      );
    },
  );

  test("when its transaction is committed goes, or fails, and nothing is left behind that waits for ever", async () => {
    const mq = await withoutBroker();
    for (let at = 1; ; at++) {
      const connection = await lab.pool.getConnection();
      await connection.beginTransaction();
      const { tx, statements } = interrupted(connection, at, ["COMMIT"]);
      const q = mq.in(tx);
      const sending = verb === "send" ? q.send({ topic: "orders", body: `${at}` }) : q.cancel({ key: "the-one" });
      const went = await sending.then(
        () => true,
        () => false,
      );
      connection.release();
      if (statements() < at) break;
      expect(await lab.waiting(), `before statement ${at}`).toBe(went ? 1 : 0);
      expect(await sendable(), `before statement ${at}`).toHaveLength(went ? 1 : 0);
      await lab.run("DELETE FROM escapement_outbox");
    }
  });
});

test("a half on its way when its transaction is rolled back is not sent, before whichever statement that falls", async () => {
  const broker = await startBroker({ transactionCheckMs: 300 });
  cleanUp.push(() => broker.stop());
  await broker.createTopic("halves", { type: "TRANSACTION" });
  const mq = await createTxProducer({
    rocketmq: { endpoint: broker.endpoint },
    db: fromMysql2(lab.pool),
    relay: false,
    mode: "half",
    half: {
      topics: ["halves"],
      timing: { turnMs: 400, commitWithinMs: 200, backstopAfterMs: 500, backstopLatestMs: 800 },
    },
  });
  cleanUp.push(() => mq.close());
  const ids: string[] = [];
  for (let at = 1; ; at++) {
    const connection = await lab.pool.getConnection();
    await connection.beginTransaction();
    const { tx, statements } = interrupted(connection, at, ["ROLLBACK"]);
    const q = mq.in(tx);
    await q.send({ topic: "halves", body: `${at}` }).catch(() => {});
    if (statements() < at) await connection.rollback();
    connection.release();
    ids.push(q.txId);
    if (statements() < at) break;
  }
  await pauseMs(1_500); // checks and the backstop have had their say
  for (const [i, id] of ids.entries()) expect((await mq.status(id)).state, `${i + 1}`).not.toMatch(/visible|sent/);
  expect(await lab.rows("SELECT tx_id FROM escapement_tx WHERE outcome = 1")).toEqual([]);
});

test("the inbox does not remember work that was rolled back, before whichever statement that falls", async () => {
  const inbox = createInbox({ pool: lab.pool, keepMs: 60_000 });
  cleanUp.push(() => inbox.close());
  for (let at = 1; ; at++) {
    const connection = await lab.pool.getConnection();
    await connection.beginTransaction();
    const { tx, statements } = interrupted(connection, at, ["ROLLBACK"]);
    await inbox.once(tx, "group", `message ${at}`, async () => {}).catch(() => {});
    await connection.rollback();
    connection.release();
    expect(await lab.rows("SELECT * FROM escapement_inbox"), `before statement ${at}`).toEqual([]);
    if (statements() < at) break;
  }
});

describe("sends at once, each by a wrapping of its own, are all in the transaction", () => {
  const require = createRequire(import.meta.url);
  type Send = (tx: JoinedTransaction) => Promise<unknown>;
  const begun: Record<string, (work: (wrap: () => JoinedTransaction) => Promise<unknown>) => Promise<unknown>> = {
    Drizzle: (work) => {
      return drizzle(lab.pool as never).transaction((tx) =>
        work(() => fromDrizzle(tx as never, drizzleSql as never) as JoinedTransaction),
      );
    },
    Knex: async (work) => {
      const knex = (require("knex") as (options: object) => never)({ client: "mysql2", connection: lab.url }) as {
        transaction(work: (trx: never) => Promise<unknown>): Promise<unknown>;
        destroy(): Promise<void>;
      };
      cleanUp.push(() => knex.destroy());
      return knex.transaction((trx) => work(() => fromKnex(trx) as JoinedTransaction));
    },
    Kysely: async (work) => {
      const pool = createCallbackPool(lab.url);
      const db = new Kysely<object>({ dialect: new MysqlDialect({ pool: pool as never }) });
      cleanUp.push(() => db.destroy());
      return db
        .transaction()
        .execute((trx) => work(() => fromKysely(trx as never, kyselySql as never) as JoinedTransaction));
    },
    TypeORM: async (work) => {
      const source = await new DataSource({ type: "mysql", url: lab.url }).initialize();
      cleanUp.push(() => source.destroy());
      return source.transaction((manager) => work(() => fromTypeOrm(manager as never) as JoinedTransaction));
    },
    "mysql2 with callbacks": async (work) => {
      const connection = createConnection(lab.url);
      cleanUp.push(async () => connection.destroy());
      await connection.promise().beginTransaction();
      await work(() => fromMysql2(connection as never) as unknown as JoinedTransaction);
      await connection.promise().commit();
    },
  };

  test.each(Object.keys(begun))("%s", async (name) => {
    const mq = await withoutBroker();
    const send: Send = (tx) => mq.in(tx).send({ topic: "orders", body: "x" });
    await begun[name]!((wrap) => Promise.all([1, 2, 3].map(() => send(wrap()))));
    expect(await sendable()).toHaveLength(3);
  });
});

test("a name that waits already holds up nobody when it is sent again", async () => {
  const mq = await withoutBroker();
  await mq.transaction((_tx, q) => q.send({ topic: "orders", body: "first", dedupe: "again" }));
  let release = (): void => {};
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  let sent = (): void => {};
  const isSent = new Promise<void>((resolve) => {
    sent = resolve;
  });
  const open = mq.transaction(async (_tx, q) => {
    await q.send({ topic: "orders", body: "second", dedupe: "again" });
    sent();
    await held;
  });
  await isSent;
  const startedMs = performance.now();
  for (let i = 0; i < 5; i++) await mq.transaction((_tx, q) => q.send({ topic: "orders", body: `stranger ${i}` }));
  const tookMs = performance.now() - startedMs;
  release();
  await open;
  expect(tookMs).toBeLessThan(1_000);
  expect(await lab.waiting()).toBe(6);
});
