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
