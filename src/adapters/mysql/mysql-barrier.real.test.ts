import { randomBytes, randomUUID } from "node:crypto";
import { createPool, type Pool, type PoolConnection, type RowDataPacket } from "mysql2/promise";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type OwnDatabase, openOwnDatabase } from "../../../test/mysql-database.ts";
import { services } from "../../../test/services.ts";
import { timeOrderedId } from "../../message/id.ts";
import type { SqlExecutor } from "../../tx/database.port.ts";
import { describeBarrier } from "../../tx/half/barrier.contract.ts";
import type { BarrierStore } from "../../tx/half/barrier.port.ts";
import { barrierSchema, barrierTable, createMysqlBarrier } from "./mysql-barrier.ts";

let database: OwnDatabase;
let pool: Pool;
let url: string;

beforeAll(async () => {
  url = (await services()).mysql.url;
  database = await openOwnDatabase(url);
  pool = createPool({ uri: database.url, connectionLimit: 12 });
  for (const statement of barrierSchema) await pool.query(statement);
  await pool.query("CREATE TABLE orders (id VARCHAR(40) PRIMARY KEY)");
});

afterAll(async () => {
  await pool?.end();
  await database?.[Symbol.asyncDispose]();
});

type OpenTx = SqlExecutor & { readonly connection: PoolConnection };

const begin = async (): Promise<OpenTx> => {
  const connection = await pool.getConnection();
  await connection.beginTransaction();
  return {
    connection,
    async execute(sql, values) {
      const [result] = await connection.query(sql, [...values]);
      return Array.isArray(result) ? (result as RowDataPacket[]) : [];
    },
  };
};
const commit = async ({ connection }: OpenTx): Promise<void> => {
  await connection.commit();
  connection.release();
};
const rollback = async ({ connection }: OpenTx): Promise<void> => {
  await connection.rollback();
  connection.release();
};
const pass = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

describeBarrier("MariaDB", async () => ({ barrier: createMysqlBarrier({ pool }), begin, commit, rollback, pass }));

const anEntry = () => ({
  id: timeOrderedId(1_800_000_000_000, randomBytes(10), 0),
  txId: randomUUID(),
  topic: "orders",
  kept: Buffer.from("kept"),
});

describe("a check against a real database", () => {
  it("TX-16: is refused by a replica, whether that is configured or seen, and nothing is written there", async () => {
    const entry = anEntry();
    const configured = createMysqlBarrier({ pool, isReplica: true });
    expect(await configured.judge(entry, 1_000)).toMatchObject({ state: "unknown", because: "replica" });
    const barrier = createMysqlBarrier({ pool });
    await pool.query("SET GLOBAL read_only = ON");
    try {
      // The user of the tests may write all the same, so that only the question itself can tell.
      expect(await barrier.judge(entry, 1_000)).toMatchObject({ state: "unknown", because: "replica" });
    } finally {
      await pool.query("SET GLOBAL read_only = OFF");
    }
    const [rows] = await pool.query(`SELECT 1 FROM ${barrierTable} WHERE tx_id = ?`, [entry.txId]);
    expect(rows).toEqual([]);
  });

  it("TX-17: waits a second for an open transaction, and leaves the connection's own limit as it was", async () => {
    const barrier = createMysqlBarrier({ pool });
    const entry = anEntry();
    const tx = await begin();
    await barrier.enlist(tx, entry, 1_000);
    const startedAt = performance.now();
    expect(await barrier.judge(entry, 1_000)).toMatchObject({ state: "unknown", because: "open" });
    expect(performance.now() - startedAt).toBeLessThan(3_000);
    await rollback(tx);
    const waits = await Promise.all(
      Array.from({ length: 12 }, () => pool.query<RowDataPacket[]>("SELECT @@session.innodb_lock_wait_timeout AS s")),
    );
    expect(new Set(waits.map(([[row]]) => Number(row!.s)))).toEqual(new Set([50]));
  });

  it("TX-18: of a check and a COMMIT that race, one wins and the other obeys: no answer is ever taken back", async () => {
    const barrier = createMysqlBarrier({ pool });
    const seen = { rolledBack: 0, committed: 0, unknown: 0 };
    const one = async (round: number): Promise<void> => {
      const entry = anEntry();
      const business = async (): Promise<boolean> => {
        const tx = await begin();
        await tx.execute("INSERT INTO orders (id) VALUES (?)", [entry.txId]);
        await pass(Math.random() * 4);
        const entered = await barrier.enlist(tx, entry, 60_000);
        await pass(Math.random() * 4);
        const ends = entered === "fenced" || round % 7 === 0 ? rollback : commit;
        await ends(tx);
        return ends === commit;
      };
      const check = async () => {
        await pass(Math.random() * 10);
        return barrier.judge(entry, 60_000);
      };
      const [didCommit, first, second] = await Promise.all([business(), check(), check()]);
      const last = await barrier.judge(entry, 60_000);
      const [orders] = await pool.query<RowDataPacket[]>("SELECT 1 FROM orders WHERE id = ?", [entry.txId]);
      expect(orders).toHaveLength(didCommit ? 1 : 0);
      expect(last.state).toBe(didCommit ? "committed" : "rolled-back");
      for (const { state } of [first, second]) {
        if (state === "rolled-back") seen.rolledBack++;
        else if (state === "committed") seen.committed++;
        else seen.unknown++;
        // What a check was told holds.
        if (state !== "unknown") expect(state).toBe(last.state);
      }
    };
    for (let round = 0; round < 60; round += 3) await Promise.all([one(round), one(round + 1), one(round + 2)]);
    // The race was one: each side won sometimes.
    expect(seen.rolledBack).toBeGreaterThan(5);
    expect(seen.committed).toBeGreaterThan(5);
  });

  it("keeps the number that was drawn for the database, whoever asks", async () => {
    const ids = await Promise.all([1, 2, 3].map(() => createMysqlBarrier({ pool }).databaseId()));
    expect(new Set(ids).size).toBe(1);
    expect(await createMysqlBarrier({ pool }).purge(-1, 1_000)).toBeGreaterThanOrEqual(0);
    expect(await createMysqlBarrier({ pool }).databaseId()).toBe(ids[0]);
  });

  it("says that it is not known when the database cannot be reached", async () => {
    const nobody = createPool({ uri: "mysql://root@127.0.0.1:9/none", connectTimeout: 500 });
    const barrier: BarrierStore<SqlExecutor> = createMysqlBarrier({ pool: nobody });
    expect(await barrier.judge(anEntry(), 1_000)).toMatchObject({ state: "unknown", because: "unreachable" });
    await nobody.end();
  });

  it("finds overdue rows by the index, however many are settled", async () => {
    const values = Array.from({ length: 2_000 }, () => [randomBytes(16), "old", 1, 1, "orders", 1]);
    await pool.query(`INSERT INTO ${barrierTable} (id, tx_id, state, seen, topic, created_ms) VALUES ?`, [values]);
    const [rows] = await pool.query<RowDataPacket[]>(
      `EXPLAIN SELECT id FROM ${barrierTable} WHERE turn_ms <= 5 AND state = 1 ORDER BY turn_ms LIMIT 50 FOR UPDATE SKIP LOCKED`,
    );
    expect(rows[0]).toMatchObject({ key: "by_turn", type: "range" });
    expect(Number(rows[0]!.rows)).toBeLessThan(50);
  });
});
