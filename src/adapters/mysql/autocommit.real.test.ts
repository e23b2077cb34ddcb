import { createPool, type Pool } from "mysql2/promise";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Lab, openLab } from "../../../test/tx/lab.ts";
import type { MessageId } from "../../message/id.ts";
import { migrate } from "../../tx-producer.ts";
import { createMysqlBarrier } from "./mysql-barrier.ts";

// Pools whose connections are opened with autocommit off: what we write on them must stay all the same.

let lab: Lab;
let pool: Pool;
beforeAll(async () => {
  lab = await openLab({ migrated: false });
  pool = createPool({ uri: lab.url, connectionLimit: 3 });
  (pool as unknown as { pool: { on(event: string, act: (one: { query(sql: string): void }) => void): void } }).pool.on(
    "connection",
    (one) => one.query("SET SESSION autocommit = 0"),
  );
});
afterAll(async () => {
  await pool?.end();
  await lab?.[Symbol.asyncDispose]();
});

describe("connections with autocommit off", () => {
  it("the version that migrate writes is there, and the connection as it was", async () => {
    await migrate(pool);
    expect(await lab.rows("SELECT version FROM escapement_outbox_schema")).toHaveLength(1);
    const connection = await pool.getConnection();
    const [rows] = await connection.query("SELECT @@session.autocommit AS a");
    connection.release();
    expect(rows).toEqual([{ a: 0 }]);
  });

  it("an answered check leaves its fence, and the connection as it was", async () => {
    const barrier = createMysqlBarrier({ pool });
    const id = "0198f7a0-0000-7000-8000-000000000001" as MessageId;
    expect(await barrier.judge({ id, txId: "tx-1" }, 10_000)).toEqual({ state: "rolled-back" });
    expect(await lab.rows("SELECT state FROM escapement_half")).toEqual([{ state: 2 }]);
    const connection = await pool.getConnection();
    const [rows] = await connection.query("SELECT @@session.autocommit AS a, @@session.innodb_lock_wait_timeout AS w");
    connection.release();
    expect(rows).toEqual([{ a: 0, w: 50 }]);
    await barrier.close();
  });
});
