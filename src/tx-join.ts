import { fromMysql2 } from "./adapters/mysql/from-mysql2.ts";
import type { JoinedTransaction } from "./tx/database.port.ts";
import { TxError } from "./tx/tx-error.ts";

/** What can be joined: a library's transaction, wrapped, or a connection of mysql2 as it is. */
export type Joinable = JoinedTransaction | Parameters<typeof fromMysql2>[0];

/** @throws TxError `not_a_transaction` */
export const joinedOf = (given: Joinable): JoinedTransaction => {
  if (typeof given !== "object" || given === null) {
    throw new TxError(
      "not_a_transaction",
      "No transaction was handed over; give the connection that it is on, or fromKnex(trx) and the like.",
    );
  }
  if (isWrapped(given)) return given;
  const joined: unknown = fromMysql2(given as never);
  if (isWrapped(joined)) return joined;
  throw new TxError(
    "not_a_transaction",
    "This is a pool: its statements run on any connection; hand over the connection that the transaction is on.",
  );
};

const isWrapped = (one: unknown): one is JoinedTransaction => typeof (one as JoinedTransaction).fault === "function";
