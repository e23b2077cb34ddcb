import type { Pool, PoolConnection } from "mysql2/promise";
import type { SqlRow, SqlValue } from "../../tx/database.port.ts";
import { classifyMysqlFailure, errnoOf, readOnly, sessionEnded } from "./mysql-failure.ts";

/**
 * One connection of our own out of the caller's pool, for everything outside of his transactions: at READ COMMITTED, so
 * that reading what is due holds back no insert, and never waiting long for a lock. Statements queue up on it. A broken
 * one is replaced by the next statement; it never goes back to the pool, because its settings are ours. So is one whose
 * server takes no writes any more: after a failover, the address may lead to the new primary.
 */
export type SqlResult = { readonly rows: readonly SqlRow[]; readonly affected: number };

/** As much of a mysql2 promise pool as we use, so that another version of mysql2 than ours will do. */
export type Mysql2Pool = Pick<Pool, "getConnection">;

/** Undefined when the pool does not say. */
export const connectionLimitOf = (pool: Mysql2Pool): number | undefined => {
  const { config } = (pool as { pool?: { config?: { connectionLimit?: number } } }).pool ?? {};
  return config?.connectionLimit;
};

const lockWaitSeconds = 2;
const deadlocksMax = 5;
/** Far more than any statement of ours takes; a database that does not answer at all must not hold up a stop for ever. */
const answerMaxDefaultMs = 30_000;

export class MysqlConnection {
  readonly #pool: Mysql2Pool;
  #open: Promise<PoolConnection> | undefined;
  readonly #answerMaxMs: number;
  #closed = false;

  constructor(pool: Mysql2Pool, answerMaxMs = answerMaxDefaultMs) {
    this.#pool = pool;
    this.#answerMaxMs = answerMaxMs;
  }

  /** One that lost a deadlock has done nothing, and is run again. */
  async run(sql: string, values: readonly SqlValue[] = []): Promise<SqlResult> {
    for (let triesLeft = deadlocksMax; ; triesLeft--) {
      try {
        return await this.#runOnce(sql, values);
      } catch (error) {
        if (triesLeft === 0 || classifyMysqlFailure(error) !== "deadlock") throw error;
      }
    }
  }

  async #runOnce(sql: string, values: readonly SqlValue[]): Promise<SqlResult> {
    const open = this.#connection();
    const connection = await open;
    try {
      return await ask(connection, sql, values, this.#answerMaxMs);
    } catch (error) {
      if (isOver(error)) {
        connection.destroy();
        // Others that queued up on the same one fail after us, when its successor may be there already.
        if (this.#open === open) this.#open = undefined;
      }
      throw error;
    }
  }

  /** Several statements as one transaction. Nobody else's statement comes in between: the promise is the turn. */
  async transaction<T>(work: (run: MysqlConnection["run"]) => Promise<T>): Promise<T> {
    const connection = await this.#pool.getConnection();
    const run: MysqlConnection["run"] = (sql, values = []) => ask(connection, sql, values, this.#answerMaxMs);
    try {
      await run("START TRANSACTION");
      const result = await work(run);
      await run("COMMIT");
      connection.release();
      return result;
    } catch (error) {
      connection.destroy();
      throw error;
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    const open = this.#open;
    this.#open = undefined;
    (await open?.catch(() => undefined))?.destroy();
  }

  #connection(): Promise<PoolConnection> {
    if (this.#closed) return Promise.reject(new Error("the connection to the outbox is closed"));
    this.#open ??= this.#begin().catch((error: unknown) => {
      this.#open = undefined;
      throw error;
    });
    return this.#open;
  }

  async #begin(): Promise<PoolConnection> {
    const connection = await this.#pool.getConnection();
    try {
      await ask(connection, "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED", [], this.#answerMaxMs);
      await ask(connection, `SET SESSION innodb_lock_wait_timeout = ${lockWaitSeconds}`, [], this.#answerMaxMs);
      await ask(connection, "SET SESSION autocommit = 1", [], this.#answerMaxMs);
      return connection;
    } catch (error) {
      connection.destroy();
      throw error;
    }
  }
}

/** No number: it is not the server that speaks. */
const isOver = (error: unknown): boolean => {
  const errno = errnoOf(error);
  if ((error as { fatal?: boolean }).fatal === true || errno === undefined) return true;
  return sessionEnded.has(errno) || readOnly.has(errno);
};

/** Settings of the caller's pool that would change the shape of rows do not reach us. */
export const ask = async (
  connection: Pick<PoolConnection, "query">,
  sql: string,
  values: readonly SqlValue[],
  timeoutMs?: number,
): Promise<SqlResult> => {
  const [result] = await connection.query({
    sql,
    values: [...values],
    rowsAsArray: false,
    typeCast: true,
    nestTables: false as never,
    ...(timeoutMs === undefined ? undefined : { timeout: timeoutMs }),
  });
  if (Array.isArray(result)) return { rows: result as unknown as SqlRow[], affected: 0 };
  return { rows: [], affected: (result as { affectedRows?: number }).affectedRows ?? 0 };
};
