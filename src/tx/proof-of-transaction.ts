import type { MessageId } from "../message/id.ts";
import type { ClassifyFailure, JoinedTransaction, SqlExecutor } from "./database.port.ts";
import type { JoinedRow, OutboxWriter } from "./outbox.port.ts";
import { TxError } from "./tx-error.ts";

/**
 * Proof that statements belong to one open transaction, by savepoints: one that was set right after BEGIN is gone before
 * COMMIT when DDL has committed or a deadlock has rolled back in between; one that is set outside of a transaction, or
 * before its end, is gone with the statement that set it, or with that end.
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

const turns = new WeakMap<object, Promise<void>>();

/**
 * Writes inside of a transaction that others will end, and proves that it was inside: nobody keeps them from ending it
 * while we write, and a row that comes after that is committed by itself. `write` must write what does no harm before
 * the proof, and `takeBack` removes it, where it would stay.
 *
 * Writers of one transaction take turns: releasing a savepoint takes along those that were set after it, so that one
 * writer's would look to the other like a transaction that is over.
 */
export const writeInside = (
  proof: OpenProof,
  sql: SqlExecutor,
  write: () => Promise<void>,
  takeBack: () => Promise<void>,
): Promise<void> => {
  const place = (sql as Partial<JoinedTransaction>).connection ?? sql;
  const turn = (turns.get(place) ?? Promise.resolve()).then(() => writeInTurn(proof, sql, write, takeBack));
  turns.set(
    place,
    turn.catch(() => {}),
  );
  return turn;
};

const writeInTurn = async (
  { set, release, classify, advice }: OpenProof,
  sql: SqlExecutor,
  write: () => Promise<void>,
  takeBack: () => Promise<void>,
): Promise<void> => {
  await set(sql);
  let refusal: unknown;
  try {
    await write();
  } catch (error) {
    // What is there already can be said only of a transaction that is open.
    if (classify(error) !== "duplicate") throw error;
    refusal = error;
  }
  try {
    await release(sql);
  } catch (error) {
    if (classify(error) !== "savepoint-gone") throw error;
    // Should this fail, too: what was written does no harm.
    if (refusal === undefined) await takeBack().catch(() => {});
    throw new TxError("not_a_transaction", advice, { cause: error });
  }
  if (refusal !== undefined) throw refusal;
};

/**
 * For a send that joins: the row, which counts for nothing yet, and the mark beside it; for who asks later, and written
 * with each message anew, because a rollback to a savepoint may have taken it away, and one sender may serve two
 * transactions of a connection. Then what the caller does with the row does nothing if the transaction was rolled back,
 * since then the row is gone.
 */
export const writeJoined = async (
  { writer, classify, marks }: ProofParts & { readonly marks: boolean },
  sql: SqlExecutor,
  txId: MessageId,
  row: JoinedRow,
  held: { readonly write: () => Promise<void>; readonly takeBack: () => Promise<void> },
): Promise<void> => {
  const proof: OpenProof = {
    set: (on) => writer.setSavepoint(on, "join"),
    release: (on) => writer.releaseSavepoint(on, "join"),
    classify,
    advice: notOpen,
  };
  await writeInside(proof, sql, held.write, held.takeBack);
  if (!marks) return;
  const mark = await writer.markBeside(sql, txId, row);
  if (mark === "fenced") {
    await held.takeBack();
    throw fenced(txId);
  }
  if (mark === "gone") throw new TxError("not_a_transaction", notOpen, { txId });
};

const notOpen =
  "The transaction is over, or this is a connection without one; call send between BEGIN and COMMIT with the transaction's own object.";

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

const fenced = (txId: MessageId, cause?: unknown): TxError => {
  const text =
    "Somebody asked how it ended and was told that it is rolled back; roll it back, and run it again: under another name it can commit.";
  return new TxError("fenced", text, { txId, cause });
};
