// The connection of our own on a real server: when it is given up for another one, and how long it waits.

import type { Pool, PoolConnection } from "mysql2/promise";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type Lab, openLab } from "../../../test/tx/lab.ts";
import { MysqlConnection } from "./mysql-connection.ts";

let lab: Lab;
const opened: PoolConnection[] = [];
const pool: Pick<Pool, "getConnection"> = {
  async getConnection() {
    const connection = await lab.pool.getConnection();
    opened.push(connection);
    return connection;
  },
};
beforeEach(async () => {
  opened.length = 0;
  lab = await openLab({ migrated: false });
});
afterEach(async () => lab[Symbol.asyncDispose]());

const signal = (errno: number) => `SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = ${errno}`;

test.each([1290, 1792, 1836, 1053, 3169, 1927])(
  "%d from the server: the next statement gets another one",
  async (errno) => {
    const connection = new MysqlConnection(pool);
    await expect(connection.run(signal(errno))).rejects.toMatchObject({ errno });
    expect((await connection.run("SELECT 1 AS one")).rows).toEqual([{ one: 1 }]);
    expect(opened).toHaveLength(2);
    await connection.close();
  },
);

test("a session that has become read only, as after a failover, is left", async () => {
  const connection = new MysqlConnection(pool);
  await connection.run("SELECT 1");
  await connection.run("SET SESSION TRANSACTION READ ONLY");
  await expect(connection.run("DELETE FROM orders")).rejects.toMatchObject({ errno: 1792 });
  await connection.run("DELETE FROM orders");
  await connection.close();
});

test("what the server refuses for the statement's sake costs no connection", async () => {
  const connection = new MysqlConnection(pool);
  await expect(connection.run("SELECT nothing FROM nowhere")).rejects.toMatchObject({ errno: 1146 });
  await connection.run("SELECT 1");
  expect(opened).toHaveLength(1);
  await connection.close();
});

test("several that queued up on a connection that is over fail together, and share its successor", async () => {
  const connection = new MysqlConnection(pool);
  await connection.run("SELECT 1");
  const results = await Promise.allSettled([1, 2, 3].map(() => connection.run(signal(1836))));
  expect(results.every(({ status }) => status === "rejected")).toBe(true);
  await Promise.all([1, 2, 3].map(() => connection.run("SELECT 1")));
  expect(opened).toHaveLength(2);
  await connection.close();
});

test("a server that does not answer holds up neither a statement nor a transaction", async () => {
  const connection = new MysqlConnection(pool, 300);
  await connection.run("SELECT 1");
  const startMs = performance.now();
  await expect(connection.run("SELECT SLEEP(5)")).rejects.toMatchObject({ code: "PROTOCOL_SEQUENCE_TIMEOUT" });
  const inTransaction = connection.transaction(async (run) => run("SELECT SLEEP(5)"));
  await expect(inTransaction).rejects.toMatchObject({ code: "PROTOCOL_SEQUENCE_TIMEOUT" });
  expect(performance.now() - startMs).toBeLessThan(3_000);
  expect((await connection.run("SELECT 1 AS one")).rows).toEqual([{ one: 1 }]);
  await connection.close();
});

const held = async (): Promise<PoolConnection> => {
  await lab.run("INSERT INTO orders VALUES ('held', NULL)");
  const holder = await lab.pool.getConnection();
  await holder.beginTransaction();
  await holder.query("UPDATE orders SET note = 'held' WHERE id = 'held'");
  return holder;
};
const orders = async () => (await lab.rows("SELECT id FROM orders ORDER BY id")).map(({ id }) => id);

test("a transaction waits for a lock no longer than a statement, and sees what was committed before each statement", async () => {
  const holder = await held();
  const connection = new MysqlConnection(pool);
  const startMs = performance.now();
  const waiting = connection.transaction(async (run) => run("UPDATE orders SET note = 'ours' WHERE id = 'held'"));
  await expect(waiting).rejects.toMatchObject({ errno: 1205 });
  expect(performance.now() - startMs).toBeLessThan(4_000);
  await holder.rollback();
  holder.release();
  const seen = await connection.transaction(async (run) => {
    const count = async () => Number((await run("SELECT COUNT(*) AS n FROM orders")).rows[0]!.n);
    const before = await count();
    await lab.run("INSERT INTO orders VALUES ('meanwhile', NULL)");
    return (await count()) - before;
  });
  expect(seen).toBe(1);
  await connection.close();
}, 15_000);

test("nobody's statement is part of somebody's transaction, and no other connection is taken for one", async () => {
  const connection = new MysqlConnection(pool);
  const ended = Promise.allSettled([
    connection.run("INSERT INTO orders VALUES ('before', NULL)"),
    connection.transaction(async (run) => {
      await run("INSERT INTO orders VALUES ('undone', NULL)");
      throw new Error("undo");
    }),
    connection.run("INSERT INTO orders VALUES ('after', NULL)"),
    connection.transaction(async (run) => run("INSERT INTO orders VALUES ('done', NULL)")),
  ]);
  expect((await ended).map(({ status }) => status)).toEqual(["fulfilled", "rejected", "fulfilled", "fulfilled"]);
  expect(await orders()).toEqual(["after", "before", "done"]);
  expect(opened).toHaveLength(2);
  await connection.close();
});

test("one that the server closed while it was idle is replaced, and nothing fails for it", async () => {
  const connection = new MysqlConnection(pool);
  for (const next of [
    () => connection.run("INSERT INTO orders VALUES ('statement', NULL)"),
    () => connection.transaction(async (run) => run("INSERT INTO orders VALUES ('transaction', NULL)")),
  ]) {
    await connection.run("SET SESSION wait_timeout = 1");
    await new Promise((resolve) => setTimeout(resolve, 2_500));
    await next();
  }
  expect(await orders()).toEqual(["statement", "transaction"]);
  await connection.close();
}, 15_000);

test("one that is lost in the middle: a SELECT is asked again, and what may have been done is not done again", async () => {
  const connection = new MysqlConnection(pool);
  const lose = async (): Promise<void> => {
    await connection.run("SELECT 1");
    const real = opened.at(-1)!;
    const query = real.query.bind(real) as (...of: unknown[]) => Promise<unknown>;
    real.query = (async (...of: unknown[]) => {
      await query(...of);
      throw Object.assign(new Error("lost"), { code: "PROTOCOL_CONNECTION_LOST", fatal: true });
    }) as never;
  };
  await lose();
  await expect(connection.run("INSERT INTO orders VALUES ('once', NULL)")).rejects.toThrow("lost");
  expect(await orders()).toEqual(["once"]);
  await lose();
  expect((await connection.run("SELECT COUNT(*) AS n FROM orders")).rows).toEqual([{ n: 1 }]);
  await connection.close();
});

test("statements that wait on a connection as it is closed under them go to its successor", async () => {
  const connection = new MysqlConnection(pool);
  await connection.run("SELECT 1");
  opened.at(-1)!.destroy(); // mysql2 takes nothing more on it, and tells nobody.
  await Promise.all(["a", "b"].map((id) => connection.run("INSERT INTO orders VALUES (?, NULL)", [id])));
  expect(await orders()).toEqual(["a", "b"]);
  expect(opened).toHaveLength(2);
  await connection.close();
});
