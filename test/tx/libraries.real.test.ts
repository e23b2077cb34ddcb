// The executors, each with its library's real package on a real MariaDB: joining, beginning, rolling back, deadlocks
// seen through the library's own errors, and objects that are no open transaction.

import { inspect } from "node:util";
import { sql as drizzleSql } from "drizzle-orm";
import { drizzle } from "drizzle-orm/mysql2";
import knexFactory from "knex";
import { Kysely, sql as kyselySql, MysqlDialect } from "kysely";
import { createPool as createCallbackPool } from "mysql2";
import { DataSource } from "typeorm";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type RunningBroker, startBroker } from "../../src/start-broker.ts";
import {
  createTxProducer,
  fromDrizzle,
  fromKnex,
  fromKysely,
  fromMysql2,
  fromPrisma,
  fromTypeOrm,
  type JoinedTransaction,
  type TransactionalDatabase,
} from "../../src/tx-producer.ts";
import { type Collector, collect, type Lab, openLab, pauseMs, quickRelay, uniqueName, until } from "./lab.ts";
import { openPrisma } from "./prisma.ts";

let lab: Lab;
let broker: RunningBroker;
const opened: (() => Promise<unknown>)[] = [];
beforeAll(async () => {
  lab = await openLab();
  broker = await startBroker();
});
afterAll(async () => {
  for (const close of opened) await close();
  await broker?.stop();
  await lab?.[Symbol.asyncDispose]();
});

type Run = (sql: string, values: unknown[]) => Promise<unknown>;
type Case = {
  /** For the producer to begin transactions on. */
  db: TransactionalDatabase<unknown>;
  /** Runs a statement of the business on what the callback is given. */
  run(tx: unknown): Run;
  /** A transaction that the library's own code begins and ends. */
  own(work: (joined: JoinedTransaction, run: Run) => Promise<void>): Promise<void>;
  /** The database itself, mistaken for a transaction. */
  mistaken(): JoinedTransaction;
};

const prisma = async (useTextProtocol: boolean): Promise<Case> => {
  const client = openPrisma(lab.url, useTextProtocol);
  opened.push(() => client.$disconnect());
  const run =
    (tx: unknown): Run =>
    (sql, values) =>
      (tx as typeof client).$executeRawUnsafe(sql, ...values);
  return {
    db: fromPrisma(client as never) as never,
    run,
    own: (work) => client.$transaction(async (tx: never) => work(fromPrisma(tx), run(tx))),
    mistaken: () => fromPrisma(client as never),
  };
};

const cases: Record<string, () => Promise<Case>> = {
  async mysql2() {
    const pool = lab.pool;
    return {
      db: fromMysql2(pool) as never,
      run: (tx) => (sql, values) => (tx as typeof pool).query(sql, values),
      async own(work) {
        const connection = await pool.getConnection();
        await connection.beginTransaction();
        try {
          await work(fromMysql2(connection), (sql, values) => connection.query(sql, values));
          await connection.commit();
        } catch (error) {
          await connection.rollback();
          throw error;
        } finally {
          connection.release();
        }
      },
      mistaken: () => fromMysql2(pool) as never,
    };
  },
  async drizzle() {
    const db = drizzle(lab.pool);
    type Tx = Parameters<Parameters<typeof db.transaction>[0]>[0];
    const run =
      (tx: unknown): Run =>
      async (sql, values) => {
        const parts = sql.split("?");
        return (tx as Tx).execute(drizzleSql(Object.assign(parts, { raw: parts }) as never, ...values));
      };
    return {
      db: fromDrizzle(db, drizzleSql) as never,
      run,
      own: (work) => db.transaction(async (tx) => work(fromDrizzle(tx, drizzleSql), run(tx))),
      mistaken: () => fromDrizzle(db, drizzleSql),
    };
  },
  async knex() {
    const knex = knexFactory({ client: "mysql2", connection: lab.url });
    opened.push(() => knex.destroy());
    const run =
      (tx: unknown): Run =>
      async (sql, values) =>
        (tx as typeof knex).raw(sql, values as never);
    return {
      db: fromKnex(knex) as never,
      run,
      own: (work) => knex.transaction(async (trx) => work(fromKnex(trx), run(trx))),
      mistaken: () => fromKnex(knex),
    };
  },
  async typeorm() {
    const source = await new DataSource({ type: "mysql", url: lab.url }).initialize();
    opened.push(() => source.destroy());
    const run =
      (tx: unknown): Run =>
      (sql, values) =>
        (tx as typeof source).query(sql, values);
    return {
      db: fromTypeOrm(source.manager) as never,
      run,
      own: (work) => source.transaction(async (manager) => work(fromTypeOrm(manager), run(manager))),
      mistaken: () => fromTypeOrm(source.manager),
    };
  },
  async kysely() {
    const db = new Kysely<Record<string, never>>({ dialect: new MysqlDialect({ pool: createCallbackPool(lab.url) }) });
    opened.push(() => db.destroy());
    const run =
      (tx: unknown): Run =>
      async (sql, values) => {
        const parts = sql.split("?");
        return kyselySql(Object.assign(parts, { raw: parts }) as never, ...values).execute(tx as typeof db);
      };
    return {
      db: fromKysely(db, kyselySql) as never,
      run,
      own: (work) => db.transaction().execute(async (trx) => work(fromKysely(trx, kyselySql), run(trx))),
      mistaken: () => fromKysely(db, kyselySql),
    };
  },
  Prisma: () => prisma(true),
  "Prisma, prepared": () => prisma(false),
};

describe.each(Object.keys(cases))("%s", (name) => {
  let one: Case;
  let received: Collector;
  const topic = uniqueName("lib");
  const producer = () =>
    createTxProducer({ rocketmq: { endpoint: broker.endpoint }, db: one.db, pool: lab.pool, relay: quickRelay });
  const there = async (id: string) => (await lab.rows("SELECT id FROM orders WHERE id = ?", [id])).length === 1;
  beforeAll(async () => {
    one = await cases[name]!();
    received = await collect(broker.endpoint, topic);
  });
  afterAll(() => received?.stop());

  test("a transaction that the producer begins: rows, binary body, delay and message together, or none of them", async () => {
    await using mq = await producer();
    const id = uniqueName("o");
    const body = Buffer.from([0, 1, 92, 39, 34, 63, 255, ...Buffer.from(id)]);
    await mq.transaction(async (tx, q) => {
      await one.run(tx)("INSERT INTO orders VALUES (?, NULL)", [id]);
      await q.send({ topic, body, properties: { "what?": "it's" } });
    });
    await until("received", () => received.messages.some((message) => message.body.equals(body)));
    expect(await there(id)).toBe(true);
    const failing = mq.transaction(async (tx, q) => {
      await one.run(tx)("INSERT INTO orders VALUES (?, NULL)", [`${id}-no`]);
      await q.send({ topic, body: `${id}-no` });
      throw new Error("no");
    });
    await expect(failing).rejects.toThrow("no");
    expect(await there(`${id}-no`)).toBe(false);
    await pauseMs(150);
    expect(received.bodies()).not.toContain(`${id}-no`);
    expect(mq.counts()).toMatchObject({ sentFast: 1 });
  });

  test("joining the library's own transaction: commit sends, rollback does not", async () => {
    await using mq = await producer();
    const id = uniqueName("o");
    await one.own(async (joined, run) => {
      await run("INSERT INTO orders VALUES (?, NULL)", [id]);
      await mq.in(joined).send({ topic, body: id, key: "joined" });
    });
    const undone = one.own(async (joined) => {
      await mq.in(joined).send({ topic, body: `${id}-no` });
      throw new Error("no");
    });
    await expect(undone).rejects.toThrow("no");
    await until("received", () => received.bodies().includes(id));
    await pauseMs(150);
    expect(received.bodies()).not.toContain(`${id}-no`);
  });

  test("TX-14: a deadlock inside the library's errors is seen, and the callback runs again", async () => {
    await using mq = await producer();
    const [a, b] = [uniqueName("a"), uniqueName("b")];
    await lab.run("INSERT INTO orders VALUES (?, '0'), (?, '0')", [a, b]);
    const crossing = (first: string, second: string) => {
      let isFirstRun = true;
      return mq.transaction(async (tx, q) => {
        await one.run(tx)("UPDATE orders SET note = note + 1 WHERE id = ?", [first]);
        await q.send({ topic, body: `${first}!` });
        if (isFirstRun) await pauseMs(150);
        isFirstRun = false;
        await one.run(tx)("UPDATE orders SET note = note + 1 WHERE id = ?", [second]);
      });
    };
    await Promise.all([crossing(a, b), crossing(b, a)]);
    expect(mq.counts().deadlocksRetried).toBeGreaterThanOrEqual(1);
    const notes = await lab.rows("SELECT note FROM orders WHERE id IN (?, ?)", [a, b]);
    expect(notes.map(({ note }) => note)).toEqual(["2", "2"]);
    await until("received", () => [a, b].every((id) => received.bodies().includes(`${id}!`)));
  });

  test("what the database refuses says so without the body, in whatever the library has made of it", async () => {
    await using mq = await producer();
    const secret = "secret-body";
    await lab.run("ALTER TABLE escapement_outbox MODIFY head VARBINARY(1) NOT NULL");
    try {
      const owned = mq.transaction((_, q) => q.send({ topic, body: secret }));
      const joined = one.own(async (tx) => void (await mq.in(tx).send({ topic, body: secret })));
      for (const failing of [owned, joined]) {
        const error = await failing.then(
          () => undefined,
          (thrown: unknown) => thrown,
        );
        expect(error).toMatchObject({ errno: 1406, message: expect.stringContaining("Data too long") });
        const everything = inspect(error, { depth: null, showHidden: true, maxStringLength: null });
        expect(everything).not.toContain(secret);
        expect(everything).not.toContain(Buffer.from(secret).toString("hex"));
      }
    } finally {
      await lab.run("ALTER TABLE escapement_outbox MODIFY head BLOB NOT NULL");
    }
  });

  test("what is no open transaction is refused: the database itself, and a transaction that has ended", async () => {
    await using mq = await producer();
    const message = { topic, body: "never" };
    await expect(
      (async () => {
        await mq.in(one.mistaken()).send(message);
      })(),
    ).rejects.toMatchObject({ code: "not_a_transaction" });
    let kept: JoinedTransaction | undefined;
    await one.own(async (joined) => {
      kept = joined;
    });
    // Prisma and Drizzle throw errors of their own here, which is as good: nothing is written.
    await expect(mq.in(kept!).send(message)).rejects.toThrow();
    expect(await lab.waiting()).toBe(0);
  });
});
