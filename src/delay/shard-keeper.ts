import { isEscapementError } from "../message/errors.ts";
import { type DurationMs, epochMs } from "../message/time.ts";
import type { Clock } from "../runtime/clock.ts";
import { reach } from "../runtime/failpoint.ts";
import type { Log } from "../runtime/log.ts";
import { assign } from "./assignment.ts";
import type { DelayStore } from "./delay-store.port.ts";
import type { Leases, ShardWorker } from "./ownership.port.ts";

/**
 * Keeps the shards that should be ours: says that we live, looks who else does, renews our leases, takes free shards
 * that are assigned to us and hands over those assigned to others. Correctness does not rest on it (the epoch in the
 * store does); it makes sure that every shard has somebody who works on it.
 *
 * A lease is ours until an instant on the monotonic clock, counted from *before* the call that took it. When that
 * instant passes without a renewal the shard counts as lost, even if the store still names us: work in hand is
 * dropped, and the shard is taken again only under a new epoch.
 */
export type ShardKeeperOptions = {
  readonly store: DelayStore;
  readonly worker: ShardWorker;
  readonly clock: Clock;
  readonly log: Log;
  /** Unique per process, for example host and random suffix. */
  readonly node: string;
  readonly leaseMs: DurationMs;
  /** False while this process must not work (its clock is not trusted, it is stopping): it keeps no shard. */
  readonly fit: () => boolean;
};

/** Returned to waiting per call when taking over; one call stays in the low milliseconds. */
const recoverLimit = 200;

type Held = { readonly epoch: number; validUntilMs: number };

export class ShardKeeper implements Leases {
  readonly #options: ShardKeeperOptions;
  readonly #held = new Map<number, Held>();
  /** Lost by time and perhaps still in our name at the store: released before they are taken again. */
  readonly #stale = new Map<number, number>();
  /** Shards on their way out, until the store was told. */
  readonly #leaving = new Map<number, Promise<void>>();
  #members: readonly string[] = [];
  /** Others may count on us. */
  #isMember = false;
  #stopping = false;

  constructor(options: ShardKeeperOptions) {
    this.#options = options;
  }

  get members(): readonly string[] {
    return this.#members;
  }

  get heldShards(): readonly number[] {
    return [...this.#held.keys()];
  }

  validUntilMs(shard: number): number {
    return this.#held.get(shard)?.validUntilMs ?? 0;
  }

  /** Beat, renew, take, hand over. Answers when it wants to run again. */
  async runOnce(): Promise<number> {
    const { store, node, leaseMs } = this.#options;
    this.#dropExpired();
    await this.#renew();
    // What is being finished before we go needs its lease until then.
    if (this.#stopping) return leaseMs / 10;
    if (!this.#options.fit()) {
      await this.#makeRoom();
      return leaseMs / 10;
    }
    this.#isMember = true;
    this.#members = await store.heartbeat(node, leaseMs);
    // A member whose heartbeat came back without itself would assign nothing to itself; the list always holds it.
    const wanted = assign(this.#members, store.shardCount);
    // Not waited for: a broker that does not answer may hold a handover up for longer than our other leases last.
    for (const shard of this.#held.keys()) if (wanted[shard] !== node) void this.#handOver(shard);
    for (let shard = 0; shard < store.shardCount; shard++) {
      const isFree = !this.#held.has(shard) && !this.#leaving.has(shard);
      if (wanted[shard] === node && isFree && !this.#stopping) await this.#take(shard);
    }
    // Ten looks per lease: a dead member's shards are taken within lease + lease/10.
    return leaseMs / 10;
  }

  /**
   * Ends ownership in order: everything is finished or given back, then released, then we leave. `runOnce` must go on
   * meanwhile, it keeps the leases.
   */
  async handOverAll(): Promise<void> {
    this.#stopping = true;
    await Promise.all([...this.#held.keys()].map((shard) => this.#handOver(shard)));
    await Promise.all(this.#leaving.values());
    await this.#options.store.leave(this.#options.node).catch((error: unknown) => {
      this.#options.log.warn({ err: error }, "could not say goodbye; others will notice when the lease runs out");
    });
  }

  /**
   * To be called when the store may have forgotten what it recorded last. What it still counts as claimed by us we may
   * have settled long ago, and nobody would ever look at it again; so every shard is finished, given up, and taken
   * under a new epoch, which returns all that is claimed to waiting.
   */
  async startOver(): Promise<void> {
    await Promise.all([...this.#held.keys()].map((shard) => this.#handOver(shard)));
  }

  /** To be called when an owner's call under `epoch` was answered with `fenced`: somebody else has, or had, the shard. */
  fenced(shard: number, epoch: number): void {
    // An old call's answer says nothing about the epoch under which we may have taken it again since.
    if (this.#held.get(shard)?.epoch === epoch && this.#held.delete(shard)) {
      this.#options.log.warn({ shard }, "shard was taken over by another process");
      this.#options.worker.lost(shard);
    }
  }

  /** Others work while we must not: a shard that we kept would stand still. */
  async #makeRoom(): Promise<void> {
    for (const shard of this.#held.keys()) void this.#handOver(shard);
    if (!this.#isMember) return;
    await this.#options.store.leave(this.#options.node);
    this.#isMember = false;
  }

  #dropExpired(): void {
    const nowMs = this.#options.clock.monotonicMs();
    for (const [shard, held] of this.#held) {
      if (nowMs < held.validUntilMs) continue;
      this.#held.delete(shard);
      this.#stale.set(shard, held.epoch);
      this.#options.log.warn({ shard, epoch: held.epoch }, "lease could not be renewed in time, shard given up");
      this.#options.worker.lost(shard);
    }
  }

  async #renew(): Promise<void> {
    const { store, clock, node, leaseMs } = this.#options;
    const leases = [...this.#held].map(([shard, { epoch }]) => ({ shard, epoch }));
    if (leases.length === 0) return;
    const startedMs = clock.monotonicMs();
    const renewed = await store.renew(leases, node, leaseMs);
    reach("renewed");
    leases.forEach(({ shard, epoch }, i) => {
      const held = this.#held.get(shard);
      if (held?.epoch !== epoch) return;
      if (renewed[i]) held.validUntilMs = startedMs + leaseMs;
      else this.fenced(shard, epoch);
    });
    this.#dropExpired();
  }

  async #take(shard: number): Promise<void> {
    const { store, clock, node, leaseMs, worker, log } = this.#options;
    const staleEpoch = this.#stale.get(shard);
    if (staleEpoch !== undefined) {
      await store.release(shard, staleEpoch, node);
      this.#stale.delete(shard);
    }
    let validUntilMs = clock.monotonicMs() + leaseMs;
    const result = await store.acquire(shard, node, leaseMs);
    if (result.outcome === "held") return;
    const { epoch } = result;
    reach("taking");
    try {
      let recovered = 0;
      for (;;) {
        const count = await store.recover(shard, epoch, recoverLimit, epochMs(clock.nowMs()));
        recovered += count;
        if (count === 0) break;
        if (clock.monotonicMs() > validUntilMs - leaseMs / 2) {
          validUntilMs = clock.monotonicMs() + leaseMs;
          const [kept] = await store.renew([{ shard, epoch }], node, leaseMs);
          if (!kept) return;
        }
      }
      if (this.#stopping) {
        await store.release(shard, epoch, node);
        return;
      }
      this.#held.set(shard, { epoch, validUntilMs });
      log.debug({ shard, epoch, recovered }, "shard taken");
      worker.gained(shard, epoch);
    } catch (error) {
      // We may be its owner now without working on it: give it up by name before the next try.
      this.#stale.set(shard, epoch);
      if (!isEscapementError(error, "fenced")) throw error;
    }
  }

  #handOver(shard: number): Promise<void> {
    const held = this.#held.get(shard);
    const leaving = this.#leaving.get(shard);
    if (held === undefined || leaving !== undefined) return leaving ?? Promise.resolve();
    const left = this.#drainAndRelease(shard, held).finally(() => this.#leaving.delete(shard));
    this.#leaving.set(shard, left);
    return left;
  }

  async #drainAndRelease(shard: number, held: Held): Promise<void> {
    const { store, node, worker, log } = this.#options;
    await worker.drain(shard);
    if (this.#held.get(shard) !== held) return;
    this.#held.delete(shard);
    worker.lost(shard);
    reach("handing-over");
    try {
      await store.release(shard, held.epoch, node);
      log.debug({ shard, epoch: held.epoch }, "shard handed over");
    } catch (error) {
      this.#stale.set(shard, held.epoch);
      log.warn({ shard, err: error }, "shard drained but not released; it is free when the lease runs out");
    }
  }
}
