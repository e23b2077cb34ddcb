import type { MessageId } from "../message/id.ts";
import type { ClassifyFailure, SqlExecutor } from "./database.port.ts";
import type { OutboxWriter } from "./outbox.port.ts";
import { TxError } from "./tx-error.ts";

/**
 * Proof that statements belong to one open transaction, by savepoints: one that was set right after BEGIN is gone before
 * COMMIT when DDL has committed or a deadlock has rolled back in between; one that is set outside of a transaction is
 * gone with the statement that set it.
 */
export type ProofParts = { readonly writer: OutboxWriter; readonly classify: ClassifyFailure };

/** For a transaction that was begun by us, when its callback is over, or has failed `because`. */
export const proveUnbroken = async (
  { writer, classify }: ProofParts,
  sql: SqlExecutor,
  txId: MessageId,
  because?: unknown,
): Promise<void> => {
  try {
    await writer.releaseSavepoint(sql, "whole");
  } catch (error) {
    if (classify(error) !== "savepoint-gone") throw error;
    const advice =
      "A statement inside the callback ended the transaction (DDL such as CREATE TABLE commits it, and so do COMMIT and ROLLBACK); keep such statements out of it.";
    throw new TxError("transaction_ended_inside", advice, { txId, cause: because ?? error });
  }
};

/** A savepoint of one's own, and what to say when there is no transaction. */
export type OpenProof = {
  readonly set: (sql: SqlExecutor) => Promise<void>;
  readonly release: (sql: SqlExecutor) => Promise<void>;
  readonly classify: ClassifyFailure;
  readonly advice: string;
};

const turns = new WeakMap<SqlExecutor, Promise<void>>();

/**
 * For one that was begun by others. Sends at once take turns here: releasing a savepoint takes along those that were set
 * after it, so that one send's would look to the other like a transaction that is over.
 */
export const proveOpen = (proof: OpenProof, sql: SqlExecutor): Promise<void> => {
  const turn = (turns.get(sql) ?? Promise.resolve()).then(() => proveOpenNow(proof, sql));
  turns.set(
    sql,
    turn.catch(() => {}),
  );
  return turn;
};

const proveOpenNow = async ({ set, release, classify, advice }: OpenProof, sql: SqlExecutor): Promise<void> => {
  await set(sql);
  try {
    await release(sql);
  } catch (error) {
    if (classify(error) !== "savepoint-gone") throw error;
    throw new TxError("not_a_transaction", advice, { cause: error });
  }
};

/** For a send that joins. */
export const proveJoined = ({ writer, classify }: ProofParts, sql: SqlExecutor): Promise<void> =>
  proveOpen(
    {
      set: (on) => writer.setSavepoint(on, "join"),
      release: (on) => writer.releaseSavepoint(on, "join"),
      classify,
      advice:
        "The transaction is over, or this is a connection without one; call send between BEGIN and COMMIT with the transaction's own object.",
    },
    sql,
  );

/** That this transaction was committed, for who asks later; fails when somebody was told already that it was not. */
export const markCommitted = async (
  { writer, classify }: ProofParts,
  sql: SqlExecutor,
  txId: MessageId,
): Promise<void> => {
  try {
    await writer.mark(sql, txId);
  } catch (error) {
    if (classify(error) !== "duplicate") throw error;
    throw fenced(txId, error);
  }
};

/**
 * The same in a transaction that others commit, with each message anew: a rollback to a savepoint may have taken the
 * mark away, and one sender may serve two transactions of a connection.
 */
export const markJoined = async ({ writer }: ProofParts, sql: SqlExecutor, txId: MessageId): Promise<void> => {
  if ((await writer.markAgain(sql, txId)) === "fenced") throw fenced(txId);
};

const fenced = (txId: MessageId, cause?: unknown): TxError => {
  const text = "The transaction was too slow for whoever asked; run it again, under another name it can commit.";
  return new TxError("fenced", text, { txId, cause });
};
