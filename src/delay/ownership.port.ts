/** What the keeper of shards tells those who work on them, and what they may ask it. */

export interface ShardWorker {
  /** The shard is ours under this epoch, and everything a former owner had claimed waits again. */
  gained(shard: number, epoch: number): void;
  /** The shard is not ours any more, or can no longer be proven to be: stop at once, settle nothing. */
  lost(shard: number): void;
  /** The shard will be handed over: finish what is being sent, give back the rest. Resolves when nothing is out. */
  drain(shard: number): Promise<void>;
}

export interface Leases {
  /** The instant on the monotonic clock until which the shard is ours for sure; 0 when it is not ours. */
  validUntilMs(shard: number): number;
}
