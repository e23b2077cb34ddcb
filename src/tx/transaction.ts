import type { MessageId } from "../message/id.ts";
import type { Clock } from "../runtime/clock.ts";
import { reach } from "../runtime/failpoint.ts";
import type { Random } from "../runtime/random.ts";
import { sleep, type Timers } from "../runtime/timers.ts";
import type { ClassifyFailure, JoinedTransaction, SqlExecutor, TransactionalDatabase } from "./database.port.ts";
import { NamedTopics } from "./named-topics.ts";
import { newTxId } from "./outcomes.ts";
import { checkMessageFields, checkRefFields, type TxMessage, type TxMessageRef } from "./outgoing.ts";
import { type ProofParts, proveUnbroken } from "./proof-of-transaction.ts";
import { Sends } from "./sends.ts";
import type { TxCounts } from "./tx-counts.ts";
import { isTxError, TxError } from "./tx-error.ts";
import type { SentInTx, TxMode, TxSession } from "./tx-mode.port.ts";

/**
 * Transactions that we begin and commit, and those we join. The way in which messages travel is the mode's; what is
 * here is what can happen to a transaction: a deadlock (everything again, the callback too), a lock that does not come,
 * a COMMIT without an answer; DDL that commits in the middle, and whatever the callback throws after it. "Rolled back" is
 * said only of what was one transaction to the end.
 */
export type TxSender = {
  /** The transaction's name, for `status`. */
  readonly txId: string;
  /** Resolves when the message is written into the transaction; it is sent when that commits. */
  send(message: TxMessage): Promise<SentInTx>;
  /** Takes a delayed message back if this transaction commits. */
  cancel(ref: TxMessageRef): Promise<void>;
};

export type TransactionsOptions<Tx> = {
  readonly db: TransactionalDatabase<Tx>;
  readonly mode: TxMode;
  readonly writer: ProofParts["writer"];
  readonly classify: ClassifyFailure;
  /** Whether commits leave marks. */
  readonly marks: boolean;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: Random;
  readonly counts: TxCounts;
  /** Transactions that this process saw rolled back, all of it. */
  readonly rolledBack: (txId: MessageId) => void;
  /** Transactions of which DDL, or a COMMIT inside the callback, has committed a part. */
  readonly endedInside: (txId: MessageId) => Promise<void>;
  /** Whether messages of a transaction are committed; asked on a connection of our own. */
  readonly isPartCommitted: (txId: MessageId) => Promise<boolean>;
};

/** That what is rolled back now is what began: shown by the savepoint, or concluded because a deadlock took that along. */
type Wholeness = "proven" | "presumed" | "unknown";

/** Two transactions that meet once rarely meet twice; ten times is a design fault that should be seen. */
const deadlockTriesMax = 10;
const deadlockWaitMs = { first: 5, max: 200 };

export class Transactions<Tx> {
  readonly #options: TransactionsOptions<Tx>;

  constructor(options: TransactionsOptions<Tx>) {
    this.#options = options;
  }

  async run<T>(callback: (tx: Tx, q: TxSender) => Promise<T>): Promise<T> {
    const { classify, timers, random, counts } = this.#options;
    for (let attempt = 1; ; attempt++) {
      const txId = this.#newId(true);
      try {
        return await this.#once(txId, callback);
      } catch (error) {
        if (error instanceof TxError) throw error;
        const failure = classify(error);
        if (failure === "lock-wait-timeout") {
          const text = "A lock was not given in time; find who holds it, or try the whole transaction again.";
          throw new TxError("lock_wait_timeout", text, { txId, cause: error });
        }
        if (failure !== "deadlock") throw error;
        if (attempt === deadlockTriesMax) {
          const text = `${deadlockTriesMax} tries met deadlocks; lock rows in one order everywhere.`;
          throw new TxError("deadlock", text, { txId, cause: error });
        }
        counts.deadlockRetried();
        const waitMs = Math.min(deadlockWaitMs.max, deadlockWaitMs.first * 2 ** (attempt - 1));
        await sleep(timers, waitMs * (0.5 + random.float()));
      }
    }
  }

  join(tx: JoinedTransaction): TxSender {
    const txId = this.#newId(false);
    return senderOf(txId, () => openOrThrow(tx), this.#options.mode.begin(txId, false));
  }

  async #once<T>(txId: MessageId, callback: (tx: Tx, q: TxSender) => Promise<T>): Promise<T> {
    const { db, mode, writer, classify, rolledBack, timers } = this.#options;
    const session = mode.begin(txId, true);
    const sends = new Sends(timers);
    let wholeness: Wholeness = "proven";
    let isCommitting = false;
    try {
      const result = await db.transaction(async (tx, sql) => {
        await writer.setSavepoint(sql, "whole");
        wholeness = "unknown";
        const answer = await this.#called(txId, sql, (sender) => callback(tx, sender), session, sends).catch(
          async (error: unknown) => {
            wholeness = await this.#wholenessOf(sql, txId, error);
            throw error;
          },
        );
        await proveUnbroken(this.#options, sql, txId);
        wholeness = "proven";
        await session.beforeCommit(sql);
        reach("tx-before-commit");
        isCommitting = true;
        return answer;
      });
      reach("tx-committed");
      session.committed();
      return result;
    } catch (error) {
      if (!isCommitting) throw await this.#failedBefore(txId, wholeness, sends, error);
      if (classify(error) === "deadlock") {
        session.rolledBack();
        rolledBack(txId);
        throw error;
      }
      session.unknown();
      const text =
        "Ask mq.status(txId), or repeat the work under the same dedupe keys; the messages follow the rows by themselves.";
      throw new TxError("commit_outcome_unknown", text, { txId, cause: error });
    }
  }

  /** The callback, and its sends to the last. */
  async #called<T>(
    txId: MessageId,
    sql: SqlExecutor,
    callback: (q: TxSender) => Promise<T>,
    session: TxSession,
    sends: Sends,
  ): Promise<T> {
    let isOver = false;
    const open = (): SqlExecutor => {
      if (!isOver) return sql;
      const text = "The transaction is over; send inside its callback and await it.";
      throw new TxError("not_a_transaction", text, { txId });
    };
    try {
      const answer = await callback(sends.of(senderOf(txId, open, session)));
      await sends.allHeard();
      return answer;
    } finally {
      isOver = true;
      await sends.settled();
    }
  }

  /** A callback has failed: is there still the transaction in which it began? Then all of it is rolled back now. */
  async #wholenessOf(sql: SqlExecutor, txId: MessageId, error: unknown): Promise<Wholeness> {
    const failure = this.#options.classify(error);
    if (failure === "deadlock") return "presumed";
    try {
      await proveUnbroken(this.#options, sql, txId, error);
      return "proven";
    } catch (proof) {
      // A server may be set to end the whole transaction at such a timeout.
      if (isTxError(proof, "transaction_ended_inside") && failure !== "lock-wait-timeout") throw proof;
      return "unknown";
    }
  }

  /**
   * Failed before COMMIT: what there is to say. A deadlock takes the savepoint along, so whether something was committed
   * before it is asked of the database, now that the rest is rolled back: running the callback again would do it twice.
   */
  async #failedBefore(txId: MessageId, wholeness: Wholeness, sends: Sends, error: unknown): Promise<unknown> {
    const { rolledBack, endedInside, isPartCommitted } = this.#options;
    if (wholeness === "unknown") {
      if (isTxError(error, "transaction_ended_inside")) await endedInside(txId);
      return error;
    }
    if (wholeness === "presumed" && sends.hasBegun && (await isPartCommitted(txId))) {
      await endedInside(txId);
      const text =
        "A statement inside the callback had committed a part of the transaction (DDL such as CREATE TABLE does, and COMMIT) before a deadlock ended the rest, so it is not run again; keep such statements out of it.";
      return new TxError("transaction_ended_inside", text, { txId, cause: error });
    }
    rolledBack(txId);
    return error;
  }

  #newId(owned: boolean): MessageId {
    const { clock, random, marks } = this.#options;
    return newTxId(clock, random, { marks, owned });
  }
}

const senderOf = (txId: MessageId, open: () => SqlExecutor, session: TxSession): TxSender => {
  const named = new NamedTopics();
  return {
    txId,
    async send(message) {
      checkMessageFields(message);
      return named.sending(message, () => session.send(open(), message));
    },
    async cancel(ref) {
      checkRefFields(ref);
      return session.cancel(open(), ref);
    },
  };
};

const openOrThrow = (tx: JoinedTransaction): SqlExecutor => {
  const fault = tx.fault();
  if (fault !== undefined) throw new TxError("not_a_transaction", fault);
  return tx;
};
