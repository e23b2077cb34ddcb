import type { Pool, PoolConnection } from "mysql2/promise";
import type { SqlRow, SqlValue } from "../../tx/database.port.ts";
import { classifyMysqlFailure, errnoOf, readOnly, sessionEnded } from "./mysql-failure.ts";

/**
 * One connection of our own out of the caller's pool, for everything outside of his transactions: at READ COMMITTED, so
 * that reading what is due holds back no insert, and never waiting long for a lock. Statements queue up on it, and
 * transactions take turns with them. A broken one is replaced by the next statement; it never goes back to the pool,
 * because its settings are ours. So is one whose server takes no writes any more: after a failover, the address may lead
 * to the new primary.
 *
 * A statement is repeated only if it cannot have been carried out, or is a SELECT.
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
/** Connections that a pool has lying about. */
const idleMax = 20;
/** Far more than any statement of ours takes; a database that does not answer at all must not hold up a stop for ever. */
const answerMaxDefaultMs = 30_000;

export class MysqlConnection {
  readonly #pool: Mysql2Pool;
  #open: Promise<PoolConnection> | undefined;
  /** A transaction is under way. */
  #turn: Promise<void> | undefined;
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
    for (let mayRepeat = true; ; ) {
      while (this.#turn !== undefined) await this.#turn;
      const open = this.#connection();
      const connection = await open;
      // Statements go out in the order in which they are asked here; so none gets in between those of a transaction.
      if (this.#turn !== undefined) continue;
      try {
        return await this.#ask(open, connection, sql, values);
      } catch (error) {
        if (!mayRepeat || !(wasNeverSent(error) || (isSelect(sql) && isLost(error)))) throw error;
        // Servers, proxies and firewalls close what was idle for some minutes, and the next statement finds out.
        mayRepeat = false;
      }
    }
  }

  async #ask(open: Promise<PoolConnection>, connection: PoolConnection, sql: string, values: readonly SqlValue[]) {
    try {
      return await ask(connection, sql, values, this.#answerMaxMs);
    } catch (error) {
      if (isOver(error)) this.#leave(open, connection);
      throw error;
    }
  }

  /** Several statements as one transaction, by the function that `work` gets; others wait until it has ended. */
  async transaction<T>(work: (run: MysqlConnection["run"]) => Promise<T>): Promise<T> {
    while (this.#turn !== undefined) await this.#turn;
    const turn = Promise.withResolvers<void>();
    this.#turn = turn.promise;
    try {
      const { open, connection } = await this.#started();
      try {
        const run: MysqlConnection["run"] = (sql, values = []) => ask(connection, sql, values, this.#answerMaxMs);
        const result = await work(run);
        await run("COMMIT");
        return result;
      } catch (error) {
        // Rolls back, and more surely than by asking for it.
        this.#leave(open, connection);
        throw error;
      }
    } finally {
      this.#turn = undefined;
      turn.resolve();
    }
  }

  /** Nothing has been done before the transaction has begun: on a fresh connection, where the old one is lost. */
  async #started(): Promise<{ open: Promise<PoolConnection>; connection: PoolConnection }> {
    for (let mayRepeat = true; ; mayRepeat = false) {
      const open = this.#connection();
      const connection = await open;
      try {
        await this.#ask(open, connection, "START TRANSACTION", []);
        return { open, connection };
      } catch (error) {
        if (!mayRepeat || !isLost(error)) throw error;
      }
    }
  }

  #leave(open: Promise<PoolConnection>, connection: PoolConnection): void {
    connection.destroy();
    // Others that queued up on the same one fail after us, when its successor may be there already.
    if (this.#open === open) this.#open = undefined;
  }

  async close(): Promise<void> {
    this.#closed = true;
    const open = this.#open;
    this.#open = undefined;
    (await open?.catch(() => undefined))?.destroy();
  }

  #connection(): Promise<PoolConnection> {
    if (this.#closed) return Promise.reject(new Error("the connection to the outbox is closed"));
    if (this.#open !== undefined) return this.#open;
    const open = this.#begin();
    this.#open = open;
    const forget = (): void => {
      if (this.#open === open) this.#open = undefined;
    };
    // One that ends while nobody asks it anything is replaced before anybody does.
    open.then((connection) => {
      for (const event of ["error", "end"] as const) connection.on(event, forget);
    }, forget);
    return open;
  }

  async #begin(): Promise<PoolConnection> {
    for (let triesLeft = idleMax; ; triesLeft--) {
      const connection = await this.#pool.getConnection();
      try {
        await ask(connection, "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED", [], this.#answerMaxMs);
        await ask(connection, `SET SESSION innodb_lock_wait_timeout = ${lockWaitSeconds}`, [], this.#answerMaxMs);
        await ask(connection, "SET SESSION autocommit = 1", [], this.#answerMaxMs);
        return connection;
      } catch (error) {
        connection.destroy();
        // The pool's may have been idle for as long.
        if (triesLeft === 0 || !isLost(error)) throw error;
      }
    }
  }
}

/** mysql2 says so of a connection that it knows to be closed; by text, since it gives no code. */
const wasNeverSent = (error: unknown): boolean =>
  (error as Error).message === "Can't add new command when connection is in closed state";

const isSelect = (sql: string): boolean => /^\(?SELECT\b/.test(sql);

/** The connection is gone, which is no statement's fault; one that does not answer in time is another matter. */
const isLost = (error: unknown): boolean => {
  const { fatal, code } = error as { fatal?: boolean; code?: string };
  return wasNeverSent(error) || (fatal === true && code !== "PROTOCOL_SEQUENCE_TIMEOUT");
};

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
