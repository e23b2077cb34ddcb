import { randomUUID } from "node:crypto";
import type { Pool, PoolConnection, ResultSetHeader, RowDataPacket } from "mysql2/promise";
import { idFromBytes, idToBytes, type MessageId } from "../../message/id.ts";
import type {
  BarrierKey,
  BarrierRow,
  BarrierStore,
  OverdueHalf,
  OverdueWanted,
  Verdict,
} from "../../tx/half/barrier.port.ts";

/**
 * The barrier of half messages as one table in MySQL or MariaDB.
 *
 * The fence is InnoDB's own: an insert of a key that an open transaction has inserted waits for that transaction. So a
 * check inserts "rolled back", and either it waits (and gives up: not known), or finds the committed row, or has won, and
 * then the business transaction's insert of the same key fails. Three things that would break it are seen to: it must be
 * the primary, since a replica may not have the row yet; the wait must be short, since each takes a connection; and a
 * check is one statement outside of any transaction, so that it holds nothing itself.
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

/** Runs statements on the connection of the caller's transaction. */
export type TxExecutor = {
  execute(
    sql: string,
    values: readonly (string | number | null | Buffer)[],
  ): Promise<readonly Readonly<Record<string, unknown>>[]>;
};

export type MysqlBarrierOptions = {
  /** To the primary. Checks, the watch and the backstop take connections from it, at most a dozen. */
  readonly pool: Pool;
  /** Say so when these addresses lead to a replica that does not know it is one. */
  readonly isReplica?: boolean;
  /** A check waits this long for an open business transaction; whole seconds, as InnoDB counts. */
  readonly lockWaitS?: number;
};

const state = { committed: 1, rolledBack: 2 } as const;
const errors = { duplicate: 1062, lockWait: 1205, deadlock: 1213, readOnly: 1290, readOnlyTransaction: 1792 } as const;
/** By the clock of the database, and in UTC: in local time an hour comes twice each autumn. */
const nowMs = "(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(3)) DIV 1000)";
/** Its key is no UUID that we draw, and its state none that anybody looks for. */
const identityKey = Buffer.alloc(16);

/** Libraries wrap what the driver throws, some twice. */
const errnoOf = (error: unknown, depth = 0): number => {
  const { errno, cause } = (error ?? {}) as { errno?: unknown; cause?: unknown };
  if (typeof errno === "number") return errno;
  return cause === undefined || depth > 5 ? 0 : errnoOf(cause, depth + 1);
};

export const createMysqlBarrier = ({
  pool,
  isReplica = false,
  lockWaitS = 1,
}: MysqlBarrierOptions): BarrierStore<TxExecutor> => {
  const change = async (sql: string, values: readonly unknown[], on: Pool | PoolConnection = pool): Promise<number> => {
    const [result] = await on.query<ResultSetHeader>(sql, [...values]);
    return result.affectedRows;
  };
  const read = async (
    sql: string,
    values: readonly unknown[],
    on: Pool | PoolConnection = pool,
  ): Promise<RowDataPacket[]> => {
    const [rows] = await on.query<RowDataPacket[]>(sql, [...values]);
    return rows;
  };

  const takeTurn = async (id: MessageId, turnMs: number, on: Pool | PoolConnection = pool): Promise<boolean> =>
    (await change(
      `UPDATE ${barrierTable} SET turn_ms = ${nowMs} + ? WHERE id = ? AND state = ${state.committed} AND turn_ms <= ${nowMs}`,
      [turnMs, idToBytes(id)],
      on,
    )) === 1;

  /** Runs `act` on a connection whose lock waits are short, and gives it back as it was. */
  const withShortWaits = async <T>(act: (connection: PoolConnection) => Promise<T>): Promise<T> => {
    const connection = await pool.getConnection();
    let before: number | undefined;
    try {
      const [found] = await read("SELECT @@session.innodb_lock_wait_timeout AS waitS", [], connection);
      before = Number(found!.waitS);
      await connection.query("SET SESSION innodb_lock_wait_timeout = ?", [lockWaitS]);
      return await act(connection);
    } finally {
      const restored =
        before === undefined
          ? Promise.resolve()
          : connection.query("SET SESSION innodb_lock_wait_timeout = ?", [before]);
      await restored.then(
        () => connection.release(),
        () => connection.destroy(),
      );
    }
  };

  /** Undefined when this is the primary. A configured word counts, because a writable replica cannot be told from one. */
  const whyReplica = async (connection: PoolConnection): Promise<string | undefined> => {
    if (isReplica) return "it is configured as a replica";
    const [found] = await read(
      "SELECT @@global.read_only AS readOnly, @@global.innodb_read_only AS fixed",
      [],
      connection,
    );
    // super_read_only, which MariaDB does not have, implies read_only.
    if (Number(found!.readOnly) !== 0) return "it is read_only";
    return Number(found!.fixed) === 0 ? undefined : "it is innodb_read_only";
  };

  /** True when "rolled back" is written now, false when there was a row. */
  const fence = async ({ id, txId }: BarrierKey, connection: PoolConnection): Promise<boolean> => {
    try {
      await change(
        `INSERT INTO ${barrierTable} (id, tx_id, state, created_ms) VALUES (?, ?, ${state.rolledBack}, ${nowMs})`,
        [idToBytes(id), txId],
        connection,
      );
      return true;
    } catch (error) {
      if (errnoOf(error) === errors.duplicate) return false;
      throw error;
    }
  };

  const judgeOn = async (key: BarrierKey, turnMs: number, connection: PoolConnection): Promise<Verdict> => {
    const replica = await whyReplica(connection);
    if (replica !== undefined) {
      return {
        state: "unknown",
        because: "replica",
        detail: `checks must ask the primary, and this server is none: ${replica}`,
      };
    }
    if (await fence(key, connection)) return { state: "rolled-back" };
    if (await takeTurn(key.id, turnMs, connection)) return { state: "committed", seen: false, turn: true };
    const [row] = await read(`SELECT state, seen FROM ${barrierTable} WHERE id = ?`, [idToBytes(key.id)], connection);
    // Forgotten between the two statements: it was settled, and is old.
    if (row === undefined || row.state === state.rolledBack) return { state: "rolled-back" };
    return { state: "committed", seen: row.seen === 1, turn: false };
  };

  return {
    async databaseId() {
      await change(
        `INSERT IGNORE INTO ${barrierTable} (id, tx_id, state, created_ms, turn_ms) VALUES (?, ?, 0, ${nowMs}, ${forever})`,
        [identityKey, randomUUID()],
      );
      const [row] = await read(`SELECT tx_id AS drawn FROM ${barrierTable} WHERE id = ?`, [identityKey]);
      return String(row!.drawn);
    },

    async enlist(tx, { id, txId, topic, kept }, turnMs) {
      try {
        await tx.execute(
          `INSERT INTO ${barrierTable} (id, tx_id, state, topic, kept, created_ms, turn_ms) VALUES (?, ?, ${state.committed}, ?, ?, ${nowMs}, ${nowMs} + ?)`,
          [idToBytes(id), txId, topic, kept, turnMs],
        );
        return "enlisted";
      } catch (error) {
        if (errnoOf(error) === errors.duplicate) return "fenced";
        throw error;
      }
    },

    async surviving(tx, txId) {
      const rows = await tx.execute(`SELECT id FROM ${barrierTable} WHERE tx_id = ? AND state = ${state.committed}`, [
        txId,
      ]);
      return new Set(rows.map(({ id }) => idFromBytes(id as Buffer)));
    },

    async judge(key, turnMs) {
      try {
        return await withShortWaits((connection) => judgeOn(key, turnMs, connection));
      } catch (error) {
        const number = errnoOf(error);
        if (number === errors.lockWait || number === errors.deadlock) {
          return { state: "unknown", because: "open", detail: "its transaction is still open" };
        }
        const isReadOnly = number === errors.readOnly || number === errors.readOnlyTransaction;
        return { state: "unknown", because: isReadOnly ? "replica" : "unreachable", detail: (error as Error).message };
      }
    },

    takeTurn,

    async isCommitted(id) {
      const [row] = await read(`SELECT 1 FROM ${barrierTable} WHERE id = ? AND state = ${state.committed}`, [
        idToBytes(id),
      ]);
      return row !== undefined;
    },

    see: (ids) =>
      change(
        `UPDATE ${barrierTable} SET seen = 1, turn_ms = NULL, kept = NULL WHERE id IN (?) AND state = ${state.committed} AND seen = 0`,
        [ids.map(idToBytes)],
      ),

    async claimOverdue({ overdueMs, turnMs, topics, limit }: OverdueWanted) {
      if (topics?.length === 0) return [];
      const connection = await pool.getConnection();
      try {
        await connection.query("SET TRANSACTION ISOLATION LEVEL READ COMMITTED");
        await connection.beginTransaction();
        const rows = await read(
          `SELECT id, tx_id, topic, kept, resends FROM ${barrierTable} WHERE turn_ms <= ${nowMs} - ? ${topics === undefined ? "" : "AND topic IN (?)"} AND state = ${state.committed} ORDER BY turn_ms LIMIT ? FOR UPDATE SKIP LOCKED`,
          [overdueMs, ...(topics === undefined ? [] : [topics]), limit],
          connection,
        );
        if (rows.length > 0) {
          // Each time twice as long, so that a message that cannot be seen does not become a flood of copies.
          await change(
            `UPDATE ${barrierTable} SET turn_ms = ${nowMs} + ? * POW(2, LEAST(resends, ${doublingsMax})), resends = resends + 1 WHERE id IN (?)`,
            [turnMs, rows.map(({ id }) => id)],
            connection,
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
      const rows = await read(
        `SELECT id, topic, state, seen, resends FROM ${barrierTable} WHERE tx_id = ? ORDER BY created_ms`,
        [txId],
      );
      return rows.map(barrierRow);
    },

    purge: (olderThanMs, limit) =>
      change(`DELETE FROM ${barrierTable} WHERE turn_ms IS NULL AND created_ms < ${nowMs} - ? LIMIT ?`, [
        olderThanMs,
        limit,
      ]),
  };
};

const doublingsMax = 8;
/** The year 5138: neither overdue nor settled. */
const forever = 100_000_000_000_000;

const overdueHalf = (row: RowDataPacket): OverdueHalf => ({
  id: idFromBytes(row.id as Buffer),
  txId: row.tx_id as string,
  topic: row.topic as string,
  kept: row.kept as Buffer,
  resends: row.resends as number,
});

const barrierRow = (row: RowDataPacket): BarrierRow => ({
  id: idFromBytes(row.id as Buffer),
  topic: row.topic as string,
  state: row.state === state.committed ? "committed" : "rolled-back",
  seen: row.seen === 1,
  resends: row.resends as number,
});
