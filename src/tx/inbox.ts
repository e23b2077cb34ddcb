import type { ClassifyFailure, JoinedTransaction } from "./database.port.ts";
import type { InboxStore } from "./inbox-store.port.ts";
import { type OpenProof, writeInside } from "./proof-of-transaction.ts";
import { TxError } from "./tx-error.ts";

/**
 * The other end: a consumer that does its work once, though messages come more than once. That a message was worked on
 * is a row in the consumer's own transaction, so both are there or neither is. Two deliveries at the same time wait for
 * each other in the database; the second finds the first one's row, or none when that was rolled back.
 *
 * Rows are kept for `keepMs`. A copy that comes later than that runs once more: keep longer than the longest delay and
 * the longest retry of the group together.
 */
export type Inbox = {
  once(
    tx: JoinedTransaction,
    group: string,
    messageId: string,
    work: () => Promise<unknown>,
  ): Promise<"ran" | "duplicate">;
  /** Removes rows older than `keepMs`, at most `limit` at a time; answers how many. */
  sweep(limit?: number): Promise<number>;
};

export type InboxOptions = { readonly store: InboxStore; readonly classify: ClassifyFailure; readonly keepMs: number };

const textBytesMax = 255;
const sweepMax = 5_000;

export const createInboxOn = ({ store, classify, keepMs }: InboxOptions): Inbox => {
  /** Without a transaction the row would stay when the work fails, and the work would never be done. */
  const proof: OpenProof = {
    set: (sql) => store.setSavepoint(sql),
    release: (sql) => store.releaseSavepoint(sql),
    classify,
    advice: "This connection has no open transaction; call once between BEGIN and COMMIT.",
  };

  return {
    async once(tx, group, messageId, work) {
      checkText(group, "group");
      checkText(messageId, "messageId");
      const fault = tx.fault();
      if (fault !== undefined) throw new TxError("not_a_transaction", fault);
      const note = () => store.note(tx, group, messageId);
      try {
        await writeInside(proof, tx, note, () => store.forget(tx, group, messageId));
      } catch (error) {
        if (classify(error) === "duplicate") return "duplicate";
        throw error;
      }
      await work();
      return "ran";
    },
    sweep: (limit = sweepMax) => store.sweep(keepMs, limit),
  };
};

/** A cut text could make two messages one. */
const checkText = (text: string, field: string): void => {
  const bytes = Buffer.byteLength(text);
  if (bytes === 0 || bytes > textBytesMax) {
    throw new RangeError(`${field} has ${bytes} bytes; give 1 to ${textBytesMax}`);
  }
};
