import type { Connection, PoolConnection } from "mysql2/promise";
import type { JoinedTransaction, SqlExecutor, TransactionalDatabase } from "../../tx/database.port.ts";
import { TxError } from "../../tx/tx-error.ts";
import { bare } from "./bare-error.ts";
import { ask, type Mysql2Pool } from "./mysql-connection.ts";

/** mysql2's own pools and connections: a pool to begin transactions on, a connection to join one. */
export type Mysql2Database = TransactionalDatabase<PoolConnection> & { readonly pool: Mysql2Pool };

export function fromMysql2(pool: Mysql2Pool): Mysql2Database;
export function fromMysql2(connection: Connection): JoinedTransaction;
export function fromMysql2(given: Mysql2Pool | Connection): Mysql2Database | JoinedTransaction {
  const promised = promisedOf(given);
  if (typeof (promised as Mysql2Pool).getConnection === "function") return databaseOf(promised as Mysql2Pool);
  if (typeof (promised as Connection).query === "function") return joined(promised as Connection);
  throw new TxError(
    "not_a_transaction",
    "This is neither a pool nor a connection of mysql2; for another library wrap its transaction: fromDrizzle, fromPrisma, fromKnex, fromTypeOrm, fromKysely.",
  );
}

/** `mysql2` and `mysql2/promise` make different objects; of the first we take its promise side. */
const promisedOf = (given: unknown): unknown => {
  const { promise, then } = (given ?? {}) as { promise?: () => unknown; then?: unknown };
  return typeof promise === "function" && then === undefined ? promise.call(given) : given;
};

const executorOf = (connection: Pick<Connection, "query">): SqlExecutor => ({
  execute: async (sql, values) => (await bare(() => ask(connection, sql, values))).rows,
});

const joined = (connection: Connection): JoinedTransaction => ({
  ...executorOf(connection),
  // A promise side is new each time that it is asked for; what it is the side of is not.
  connection: (connection as { connection?: object }).connection ?? connection,
  fault: () => undefined, // The savepoint tells; mysql2 itself keeps no record of transactions.
});

const databaseOf = (pool: Mysql2Pool): Mysql2Database => ({
  pool,
  async transaction(work) {
    const connection = await pool.getConnection();
    try {
      await connection.beginTransaction();
      const result = await work(connection, executorOf(connection));
      await connection.commit();
      connection.release();
      return result;
    } catch (error) {
      // A connection that cannot even roll back is no use to the next one; the server rolls back when it is gone.
      await connection.rollback().then(
        () => connection.release(),
        () => connection.destroy(),
      );
      throw error;
    }
  },
});
