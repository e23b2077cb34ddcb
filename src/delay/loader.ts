import { type EpochMs, epochMs } from "../message/time.ts";
import type { Clock } from "../runtime/clock.ts";
import { reach } from "../runtime/failpoint.ts";
import type { DelayStore, NearPage } from "./delay-store.port.ts";
import { nearWindowMs } from "./near-window.port.ts";

/**
 * Fills the near window from the store, for the shards that are ours. Two readings:
 *
 * - *Extend*: the window's far edge moves on with time; what lies between the old edge and the new one is read once.
 *   Whoever schedules a message inside the edge tells the owner (a wake), so nothing inside is read again.
 * - *Sweep*: wakes can be lost and the window can be full. So what is overdue by more than {@link sweepAgeMs} and
 *   still waits in the store is read again and again. In good days that is nothing. It is what makes every message
 *   found: the window and the wakes only buy precision.
 */

const extendEveryMs = 500;
const sweepEveryMs = 1_000;
const sweepAgeMs = 1_000;
/** One page is one store call, and half a millisecond to take in. */
const pageEntries = 500;
/**
 * Shards read at the same time. What has arrived is taken in within one turn of the event loop: with all 32 shards at
 * once a million messages made turns of 99 ms, with four 26 ms, and took no longer in all.
 */
const shardsAtOnce = 4;
/** A sweep may use this share of the time at most, however much is overdue. */
const sweepShare = 0.1;

export type LoaderOptions = {
  readonly store: DelayStore;
  readonly clock: Clock;
  /** Takes an entry in; false when there is no room. */
  readonly offer: (id: Buffer, offset: number, lane: number, shard: number, dueMs: number) => boolean;
};

type ShardWindow = {
  /** Everything due at or before this was read or was told to us. */
  edgeMs: number;
  sweepCursor: string | undefined;
  sweepUntilMs: number;
  nextSweepMs: number;
  nextExtendMs: number;
};

export class Loader {
  readonly #options: LoaderOptions;
  readonly #shards = new Map<number, ShardWindow>();

  constructor(options: LoaderOptions) {
    this.#options = options;
  }

  add(shard: number): void {
    const monotonicMs = this.#options.clock.monotonicMs();
    this.#shards.set(shard, {
      edgeMs: -1,
      sweepCursor: undefined,
      sweepUntilMs: 0,
      nextExtendMs: monotonicMs,
      // Spread, so that the sweeps of all shards do not fall into one instant.
      nextSweepMs: monotonicMs + sweepEveryMs + ((shard * 37) % sweepEveryMs),
    });
  }

  remove(shard: number): void {
    this.#shards.delete(shard);
  }

  /** News may have been lost: read the windows again from the start. */
  reload(): void {
    for (const window of this.#shards.values()) {
      window.edgeMs = -1;
      window.nextExtendMs = 0;
    }
  }

  /** Reads what is to be read now; answers in how many milliseconds there is more to do. */
  async runOnce(signal: AbortSignal): Promise<number> {
    const { clock } = this.#options;
    // Whoever is done with a shard takes the next one of the same list.
    const shards = [...this.#shards].values();
    const readOnes = async (): Promise<void> => {
      for (const [shard, window] of shards) {
        if (signal.aborted) return;
        if (clock.monotonicMs() >= window.nextExtendMs) await this.#extend(shard, window);
        if (clock.monotonicMs() >= window.nextSweepMs) await this.#sweep(shard, window);
      }
    };
    await Promise.all(Array.from({ length: shardsAtOnce }, readOnes));
    let nextMs = clock.monotonicMs() + 100;
    for (const window of this.#shards.values()) nextMs = Math.min(nextMs, window.nextExtendMs, window.nextSweepMs);
    return Math.max(0, nextMs - clock.monotonicMs());
  }

  async #extend(shard: number, window: ShardWindow): Promise<void> {
    const { clock } = this.#options;
    window.nextExtendMs = clock.monotonicMs() + extendEveryMs;
    const untilMs = clock.nowMs() + nearWindowMs;
    if (untilMs <= window.edgeMs) return;
    const fromMs = epochMs(Math.max(0, window.edgeMs + 1));
    // The edge moves first: a message scheduled while we read may be missed by the reading, but its wake will come.
    window.edgeMs = untilMs;
    let cursor: string | undefined;
    do {
      const page = await this.#read(shard, window, fromMs, epochMs(untilMs), cursor);
      // No room: the rest is left to the sweep, which finds it when it is overdue.
      if (!this.#take(shard, page)) return;
      cursor = page.cursor;
    } while (cursor !== undefined && this.#shards.get(shard) === window);
  }

  async #sweep(shard: number, window: ShardWindow): Promise<void> {
    const { clock } = this.#options;
    const startedMs = clock.monotonicMs();
    if (window.sweepCursor === undefined) window.sweepUntilMs = clock.nowMs() - sweepAgeMs;
    const budgetMs = sweepEveryMs * sweepShare;
    if (window.sweepUntilMs > 0) {
      do {
        const page = await this.#read(shard, window, epochMs(0), epochMs(window.sweepUntilMs), window.sweepCursor);
        // Without room the same page is offered again next time.
        if (!this.#take(shard, page)) break;
        window.sweepCursor = page.cursor;
      } while (window.sweepCursor !== undefined && clock.monotonicMs() - startedMs < budgetMs);
    }
    window.nextSweepMs = clock.monotonicMs() + sweepEveryMs;
  }

  async #read(
    shard: number,
    window: ShardWindow,
    fromMs: EpochMs,
    untilMs: EpochMs,
    cursor?: string,
  ): Promise<NearPage> {
    try {
      return await this.#options.store.near(shard, fromMs, untilMs, cursor, pageEntries);
    } catch (error) {
      // What was not read stays unread: this shard's window is read again from the start.
      window.edgeMs = -1;
      throw error;
    }
  }

  /** False as soon as one entry finds no room. */
  #take(shard: number, page: NearPage): boolean {
    for (let i = 0; i < page.ids.length; i++) {
      if (!this.#options.offer(page.ids.bytes, i * 16, page.lanes[i]!, shard, page.dueMs[i]!)) return false;
    }
    if (page.ids.length > 0) reach("loaded");
    return true;
  }
}
