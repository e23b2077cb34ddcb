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
  | "handing-over";

let whenReached: ((point: Failpoint) => void) | undefined;

export const reach = (point: Failpoint): void => whenReached?.(point);

export const armFailpoints = (act: (point: Failpoint) => void): void => {
  whenReached = act;
};
