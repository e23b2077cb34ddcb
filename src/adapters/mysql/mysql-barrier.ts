import { randomUUID } from "node:crypto";
import type { PoolConnection } from "mysql2/promise";
import { idFromBytes, idToBytes, type MessageId } from "../../message/id.ts";
import type { SqlExecutor, SqlRow, SqlValue } from "../../tx/database.port.ts";
import type {
  BarrierKey,
  BarrierRow,
  BarrierStore,
  OverdueHalf,
  OverdueWanted,
  Verdict,
} from "../../tx/half/barrier.port.ts";
import { ask, type Mysql2Pool, MysqlConnection } from "./mysql-connection.ts";
import { classifyMysqlFailure, errnoOf, readOnly } from "./mysql-failure.ts";
import { marks, nowMs, removeByKeyStatement } from "./sql-text.ts";

/**
 * The barrier of half messages as one table in MySQL or MariaDB.
 *
 * The fence is InnoDB's own: an insert of a key that an open transaction has inserted waits for that transaction. So a
 * check inserts "rolled back", and either it waits (and gives up: not known), or finds the committed row, or has won, and
 * then the business transaction's insert of the same key fails. Three things that would break it are seen to: it must be
 * the primary, since a replica may not have the row yet; the wait must be short, since each takes a connection; and a
 * check is one statement outside of any transaction, so that it holds nothing itself and its row stays, also on
 * connections that the application opens with autocommit off.
 *
 * `turn_ms` is empty once there is nothing left to do for a row. So its index holds the work alone, and what is settled
 * lies together, by age.
 */
export const barrierTable = "escapement_half";

export const barrierSchema: readonly string[] = [
  `CREATE TABLE IF NOT EXISTS ${barrierTable} (
    id BINARY(16) NOT NULL PRIMARY KEY,
    tx_id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    state TINYINT NOT NULL COMMENT '1 committed, 2 rolled back',
    seen TINYINT NOT NULL DEFAULT 0,
    topic VARCHAR(127) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '',
    kept MEDIUMBLOB NULL,
    created_ms BIGINT NOT NULL,
    turn_ms BIGINT NULL COMMENT 'nobody tries to make it visible before; null when settled',
    resends INT NOT NULL DEFAULT 0,
    KEY by_turn (turn_ms, created_ms),
    KEY by_tx (tx_id)
  ) ENGINE=InnoDB`,
];

export type MysqlBarrierOptions = {
  /** To the primary. Takes one connection for itself, and one for each check that is being answered. */
  readonly pool: Mysql2Pool;
  /** Say so when these addresses lead to a replica that does not know it is one. */
  readonly isReplica?: boolean;
  /** A check waits this long for an open business transaction; whole seconds, as InnoDB counts. */
  readonly lockWaitS?: number;
};

const state = { committed: 1, rolledBack: 2 } as const;
/** Not settled, and nobody's turn: it counts for nothing yet, and is forgotten as if it were settled. */
const isHeld = `state = ${state.committed} AND seen = 0 AND turn_ms IS NULL`;
/** Its key is no UUID that we draw, and its state none that anybody looks for. */
const identityKey = Buffer.alloc(16);

export type MysqlBarrier = BarrierStore<SqlExecutor> & { close(): Promise<void> };

type Statement = (sql: string, values?: readonly SqlValue[]) => ReturnType<typeof ask>;

export const createMysqlBarrier = ({ pool, isReplica = false, lockWaitS = 1 }: MysqlBarrierOptions): MysqlBarrier => {
  const own = new MysqlConnection(pool);
  const run: Statement = (sql, values) => own.run(sql, values);

  const takeTurn = async (id: MessageId, turnMs: number, on: Statement = run): Promise<boolean> => {
    const { affected } = await on(
      `UPDATE ${barrierTable} SET turn_ms = ${nowMs} + ? WHERE id = ? AND state = ${state.committed} AND turn_ms <= ${nowMs}`,
      [turnMs, idToBytes(id)],
    );
    return affected === 1;
  };

  /** Runs `act` on a connection whose lock waits are short and that commits by itself, and gives it back as it was. */
  const withShortWaits = async <T>(act: (on: Statement) => Promise<T>): Promise<T> => {
    const connection: PoolConnection = await pool.getConnection();
    const on: Statement = (sql, values = []) => ask(connection, sql, values);
    const set = async (waitS: number, autocommit: number): Promise<void> => {
      await on("SET SESSION innodb_lock_wait_timeout = ?, SESSION autocommit = ?", [waitS, autocommit]);
    };
    let before: { readonly waitS: number; readonly autocommit: number } | undefined;
    try {
      const { rows } = await on(
        "SELECT @@session.innodb_lock_wait_timeout AS waitS, @@session.autocommit AS autocommit",
      );
      before = { waitS: Number(rows[0]!.waitS), autocommit: Number(rows[0]!.autocommit) };
      await set(lockWaitS, 1);
      return await act(on);
    } finally {
      const restored = before === undefined ? Promise.resolve() : set(before.waitS, before.autocommit);
      await restored.then(
        () => connection.release(),
        () => connection.destroy(),
      );
    }
  };

  /** Undefined when this is the primary. A configured word counts, because a writable replica cannot be told from one. */
  const whyReplica = async (on: Statement): Promise<string | undefined> => {
    if (isReplica) return "it is configured as a replica";
    const { rows } = await on("SELECT @@global.read_only AS readOnly, @@global.innodb_read_only AS fixed");
    // super_read_only, which MariaDB does not have, implies read_only.
    if (Number(rows[0]!.readOnly) !== 0) return "it is read_only";
    return Number(rows[0]!.fixed) === 0 ? undefined : "it is innodb_read_only";
  };

  /** True when "rolled back" is written now, false when there was a row. */
  const fence = async ({ id, txId }: BarrierKey, on: Statement): Promise<boolean> => {
    try {
      await on(
        `INSERT INTO ${barrierTable} (id, tx_id, state, created_ms) VALUES (?, ?, ${state.rolledBack}, ${nowMs})`,
        [idToBytes(id), txId],
      );
      return true;
    } catch (error) {
      if (classifyMysqlFailure(error) === "duplicate") return false;
      throw error;
    }
  };

  const judgeOn = async (key: BarrierKey, turnMs: number, on: Statement): Promise<Verdict> => {
    const replica = await whyReplica(on);
    if (replica !== undefined) {
      return {
        state: "unknown",
        because: "replica",
        detail: `checks must ask the primary, and this server is none: ${replica}`,
      };
    }
    if (await fence(key, on)) return { state: "rolled-back" };
    if (await takeTurn(key.id, turnMs, on)) return { state: "committed", seen: false, turn: true };
    const { rows } = await on(`SELECT state, seen FROM ${barrierTable} WHERE id = ?`, [idToBytes(key.id)]);
    const row = rows[0];
    // Forgotten between the two statements: it was settled, and is old.
    if (row === undefined || Number(row.state) === state.rolledBack) return { state: "rolled-back" };
    return { state: "committed", seen: Number(row.seen) === 1, turn: false };
  };

  return {
    async databaseId() {
      await run(
        `INSERT IGNORE INTO ${barrierTable} (id, tx_id, state, created_ms, turn_ms) VALUES (?, ?, 0, ${nowMs}, ${forever})`,
        [identityKey, randomUUID()],
      );
      const { rows } = await run(`SELECT tx_id AS drawn FROM ${barrierTable} WHERE id = ?`, [identityKey]);
      return String(rows[0]!.drawn);
    },

    async enlist(tx, { id, txId, topic, kept }, turnMs) {
      try {
        await tx.execute(
          `INSERT INTO ${barrierTable} (id, tx_id, state, topic, kept, created_ms, turn_ms) VALUES (?, ?, ${state.committed}, ?, ?, ${nowMs}, ${nowMs} + ?)`,
          [idToBytes(id), txId, topic, kept, turnMs === "held" ? null : turnMs],
        );
        return "enlisted";
      } catch (error) {
        if (classifyMysqlFailure(error) === "duplicate") return "fenced";
        throw error;
      }
    },

    async letGo(tx, id, turnMs) {
      await tx.execute(`UPDATE ${barrierTable} SET turn_ms = ${nowMs} + ? WHERE id = ? AND ${isHeld}`, [
        turnMs,
        idToBytes(id),
      ]);
    },

    async withdraw(tx, id) {
      await tx.execute(`DELETE FROM ${barrierTable} WHERE id = ?`, [idToBytes(id)]);
    },

    async surviving(tx, txId) {
      const rows = await tx.execute(`SELECT id FROM ${barrierTable} WHERE tx_id = ? AND state = ${state.committed}`, [
        txId,
      ]);
      return new Set(rows.map(({ id }) => idFromBytes(id as Buffer)));
    },

    async judge(key, turnMs) {
      try {
        return await withShortWaits((on) => judgeOn(key, turnMs, on));
      } catch (error) {
        const failure = classifyMysqlFailure(error);
        if (failure === "lock-wait-timeout" || failure === "deadlock") {
          return { state: "unknown", because: "open", detail: "its transaction is still open" };
        }
        const because = readOnly.has(errnoOf(error) ?? 0) ? "replica" : "unreachable";
        return { state: "unknown", because, detail: (error as Error).message };
      }
    },

    takeTurn,

    async isCommitted(id) {
      const sql = `SELECT 1 FROM ${barrierTable} WHERE id = ? AND state = ${state.committed}`;
      return (await run(sql, [idToBytes(id)])).rows.length > 0;
    },

    async see(ids) {
      const sql = `UPDATE ${barrierTable} SET seen = 1, turn_ms = NULL, kept = NULL WHERE id IN (${marks(ids.length)}) AND state = ${state.committed} AND seen = 0`;
      return (await run(sql, ids.map(idToBytes))).affected;
    },

    async claimOverdue({ overdueMs, turnMs, topics, limit }: OverdueWanted) {
      if (topics?.length === 0) return [];
      const connection = await pool.getConnection();
      const on: Statement = (sql, values = []) => ask(connection, sql, values);
      try {
        await on("SET TRANSACTION ISOLATION LEVEL READ COMMITTED");
        await connection.beginTransaction();
        const { rows } = await on(
          `SELECT id, tx_id, topic, kept, resends FROM ${barrierTable} WHERE turn_ms <= ${nowMs} - ? ${topics === undefined ? "" : `AND topic IN (${marks(topics.length)})`} AND state = ${state.committed} ORDER BY turn_ms LIMIT ? FOR UPDATE SKIP LOCKED`,
          [overdueMs, ...(topics ?? []), limit],
        );
        if (rows.length > 0) {
          // Each time twice as long, so that a message that cannot be seen does not become a flood of copies.
          await on(
            `UPDATE ${barrierTable} SET turn_ms = ${nowMs} + ? * POW(2, LEAST(resends, ${doublingsMax})), resends = resends + 1 WHERE id IN (${marks(rows.length)})`,
            [turnMs, ...rows.map(({ id }) => id as Buffer)],
          );
        }
        await connection.commit();
        connection.release();
        return rows.map(overdueHalf);
      } catch (error) {
        connection.destroy();
        throw error;
      }
    },

    async ofTransaction(txId) {
      const sql = `SELECT id, topic, state, seen, resends FROM ${barrierTable} WHERE tx_id = ? AND NOT (${isHeld}) ORDER BY created_ms`;
      return (await run(sql, [txId])).rows.map(barrierRow);
    },

    async purge(olderThanMs, limit) {
      // Looked for without a lock: a DELETE by this index would wait for the newest rows, those of open transactions.
      const old = `SELECT id FROM ${barrierTable} WHERE turn_ms IS NULL AND created_ms < ${nowMs} - ? LIMIT ?`;
      const ids = (await run(old, [olderThanMs, limit])).rows.map(({ id }) => id as Buffer);
      if (ids.length === 0) return 0;
      return (await run(removeByKeyStatement(barrierTable, "id", ids.length), ids)).affected;
    },

    close: () => own.close(),
  };
};

const doublingsMax = 8;
/** The year 5138: neither overdue nor settled. */
const forever = 100_000_000_000_000;

const overdueHalf = (row: SqlRow): OverdueHalf => ({
  id: idFromBytes(row.id as Buffer),
  txId: row.tx_id as string,
  topic: row.topic as string,
  kept: row.kept as Buffer,
  resends: Number(row.resends),
});

const barrierRow = (row: SqlRow): BarrierRow => ({
  id: idFromBytes(row.id as Buffer),
  topic: row.topic as string,
  state: Number(row.state) === state.committed ? "committed" : "rolled-back",
  seen: Number(row.seen) === 1,
  resends: Number(row.resends),
});
