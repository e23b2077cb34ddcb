/** Since the start, but for the last three. */
export type ConsumerStats = {
  received: number;
  /** Handlers that were run. */
  attempts: number;
  succeeded: number;
  failed: number;
  /** Handed over (in a blocking group: given back), by why. */
  retried: number;
  snoozed: number;
  deferred: number;
  parked: number;
  dead: number;
  /** Handed over without an attempt because the consumer stopped. */
  returned: number;
  /** Deliveries of messages that somebody had and gave no answer for. */
  crashes: number;
  /** Could not be handed over and were left with the broker. */
  notHandedOver: number;
  /** Done with, and the broker did not take the acknowledgement. */
  notAcknowledged: number;
  /** Deliveries of messages that this process has or is done with. */
  cameAgain: number;
  /** Receipts whose time was over in our hands. */
  stale: number;
  running: number;
  held: number;
  /** Handlers that did not end in their time and have not ended since. */
  leftBehind: number;
};

export const emptyStats = (): ConsumerStats => ({
  received: 0,
  attempts: 0,
  succeeded: 0,
  failed: 0,
  retried: 0,
  snoozed: 0,
  deferred: 0,
  parked: 0,
  dead: 0,
  returned: 0,
  crashes: 0,
  notHandedOver: 0,
  notAcknowledged: 0,
  cameAgain: 0,
  stale: 0,
  running: 0,
  held: 0,
  leftBehind: 0,
});
