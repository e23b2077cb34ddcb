import type { Pool, PoolConnection } from "mysql2/promise";
import type { SqlRow, SqlValue } from "../../tx/database.port.ts";

/**
 * One connection of our own out of the caller's pool, for everything outside of his transactions: at READ COMMITTED, so
 * that reading what is due holds back no insert, and never waiting long for a lock. Statements queue up on it. A broken
 * one is replaced by the next statement; it never goes back to the pool, because its settings are ours.
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
/** Far more than any statement of ours takes; a database that does not answer at all must not hold up a stop for ever. */
const answerMaxMs = 30_000;

export class MysqlConnection {
  readonly #pool: Mysql2Pool;
  #open: Promise<PoolConnection> | undefined;
  #closed = false;

  constructor(pool: Mysql2Pool) {
    this.#pool = pool;
  }

  async run(sql: string, values: readonly SqlValue[] = []): Promise<SqlResult> {
    return ask(await this.#connection(), sql, values, answerMaxMs).catch((error: unknown) => this.#failed(error));
  }

  /** Several statements as one transaction. Nobody else's statement comes in between: the promise is the turn. */
  async transaction<T>(work: (run: MysqlConnection["run"]) => Promise<T>): Promise<T> {
    const connection = await this.#pool.getConnection();
    try {
      await connection.beginTransaction();
      const result = await work((sql, values = []) => ask(connection, sql, values));
      await connection.commit();
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
      await ask(connection, "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED", []);
      await ask(connection, `SET SESSION innodb_lock_wait_timeout = ${lockWaitSeconds}`, []);
      await ask(connection, "SET SESSION autocommit = 1", []);
      return connection;
    } catch (error) {
      connection.destroy();
      throw error;
    }
  }

  #failed(error: unknown): never {
    // Without a number it is not the server that speaks: this connection is over.
    const { errno, fatal } = error as { errno?: number; fatal?: boolean };
    if (fatal === true || errno === undefined || errno < 1000) {
      const open = this.#open;
      this.#open = undefined;
      void open?.then(
        (connection) => connection.destroy(),
        () => {},
      );
    }
    throw error;
  }
}

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
