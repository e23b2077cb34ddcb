/**
 * Named places where a crash would be interesting: between two effects that belong together. Reaching one does nothing
 * at all; the fault lab, and only it, arms them from outside to end the process exactly there.
 */
export type Failpoint =
  /** A group of accepts is durable, nobody was told. */
  | "schedule-stored"
  /** The near window knows the message, its sender does not yet know that it was accepted. */
  | "before-reply"
  /** Ingest messages are durable and not acknowledged. */
  | "ingest-stored"
  /** A page of the store has just entered the near window. */
  | "loaded"
  /** Attempts are counted, nothing is sent. */
  | "claimed"
  /** The broker has answered, nothing is recorded. */
  | "sent"
  /** An outcome is about to be recorded. */
  | "before-settle"
  /** It is recorded, the near window still holds it. */
  | "settled"
  /** The store has new leases, the keeper still counts by the old ones. */
  | "renewed"
  /** The shard is ours in the store, what its earlier owner had out is not returned yet. */
  | "taking"
  /** Drained, and not released. */
  | "handing-over"
  /** A consumer has handed a failed message over, and not acknowledged the one it received. */
  | "handed-over"
  /** A redrive has written down which messages it will bring back, and has brought back none of them. */
  | "redrive-intended"
  /** It has brought them back, and not written that down. */
  | "redrive-revived"
  /** It has stopped itself and written that into its job, not yet into the audit. */
  | "redrive-stopped"
  // The embedded broker's.
  /** A group of records is written to a log, not synced, and nobody was told. */
  | "log-written"
  /** The same, synced. */
  | "log-synced"
  /** A message was popped, its receiver does not have it yet. */
  | "popped"
  /** Done in memory, where others can see it, and not on the disk. */
  | "done-in-memory"
  /** On the disk, and not answered. */
  | "done-on-disk"
  /** The dead letter is stored, its original is not done. */
  | "buried"
  /** A half message is stored, its producer does not know its transaction. */
  | "half-stored"
  /** The message of a committed transaction is stored, the transaction is still open. */
  | "committed"
  // Half messages.
  /** The halves of a transaction are at the broker, its COMMIT is not sent. */
  | "halves-sent"
  /** COMMIT was answered, the half is not committed. */
  | "half-committing"
  /** The barrier has decided what a check is told, the broker has not heard it. */
  | "check-judged"
  /** A half is sent again, and not committed. */
  | "backstop-sent"
  /** All progress was told anew, older records are still there. */
  | "snapshot-told"
  /** The consume queues are on the disk, the checkpoint does not say so. */
  | "queues-flushed"
  /** The new text of a small file is written beside the old one. */
  | "draft-written"
  // Of a transactional send.
  /** A message's row is in the open transaction. */
  | "tx-row-written"
  /** All is written, COMMIT is next. */
  | "tx-before-commit"
  /** COMMIT was answered, nothing is sent. */
  | "tx-committed"
  /** The broker has answered the fast path, the rows are still there. */
  | "tx-sent"
  /** The fast path has removed the rows. */
  | "tx-removed"
  /** The relay has read rows. */
  | "relay-claimed"
  /** The broker has answered the relay, the rows are still there. */
  | "relay-sent"
  /** The relay has removed the rows. */
  | "relay-removed"
  /** A canceled message was not at the delay server yet: its name is taken there, and not canceled. */
  | "cancel-name-taken"
  /** The delay server has done a cancel, what it names is out of the outbox, its own row is still there. */
  | "cancel-done";

let whenReached: ((point: Failpoint) => void) | undefined;

export const reach = (point: Failpoint): void => whenReached?.(point);

export const armFailpoints = (act: (point: Failpoint) => void): void => {
  whenReached = act;
};
