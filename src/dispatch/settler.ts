import { type DelayStore, type Outcome, type Released, settleOutcomesMax } from "../delay/delay-store.port.ts";
import { isEscapementError } from "../message/errors.ts";
import type { Clock } from "../runtime/clock.ts";
import { reach } from "../runtime/failpoint.ts";
import type { Log } from "../runtime/log.ts";
import { sleep, type Timer, type Timers } from "../runtime/timers.ts";

/**
 * Records outcomes for one shard under one epoch, in batches. A settle may be repeated without harm, so trouble with
 * the store is answered by trying until it works or until another owner fences us; only then are outcomes dropped,
 * and the new owner sends those messages again (duplicate window D4).
 */

/** Waiting this long lets the outcomes of one send travel together; it adds to no message's lateness. */
const lingerMs = 3;
const retryFirstMs = 50;
const retryMaxMs = 2_000;

export type SettlerOptions = {
  readonly store: DelayStore;
  readonly shard: number;
  readonly epoch: number;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: Log;
  readonly onSettled: (entries: readonly SettleEntry[], released: readonly Released[]) => void;
  /** The shard has another owner: nothing of these was recorded. */
  readonly onFenced: (entries: readonly SettleEntry[]) => void;
};

/** An outcome with what its caller needs back. */
export type SettleEntry = {
  readonly outcome: Outcome;
  readonly handle: number;
  readonly bytes: number;
  readonly lane: number;
};

export class Settler {
  readonly #options: SettlerOptions;
  readonly #abort = new AbortController();
  #waiting: SettleEntry[] = [];
  #busy = false;
  #timer: Timer | undefined;

  constructor(options: SettlerOptions) {
    this.#options = options;
  }

  push(entry: SettleEntry): void {
    this.#waiting.push(entry);
    if (this.#busy) return;
    if (this.#waiting.length >= settleOutcomesMax) void this.#flush();
    else this.#timer ??= this.#options.timers.after(lingerMs, () => void this.#flush());
  }

  /** The shard is lost: what is waiting is dropped and reported as fenced. */
  stop(): void {
    this.#abort.abort();
    this.#timer?.cancel();
    const dropped = this.#waiting.splice(0);
    if (dropped.length > 0) this.#options.onFenced(dropped);
  }

  async #flush(): Promise<void> {
    this.#timer?.cancel();
    this.#timer = undefined;
    if (this.#busy) return;
    this.#busy = true;
    while (this.#waiting.length > 0 && !this.#abort.signal.aborted) {
      await this.#settle(this.#waiting.splice(0, settleOutcomesMax));
    }
    this.#busy = false;
  }

  async #settle(batch: readonly SettleEntry[]): Promise<void> {
    const { store, shard, epoch, clock, timers, log, onSettled, onFenced } = this.#options;
    const outcomes = batch.map((entry) => entry.outcome);
    for (let failures = 0; ; failures++) {
      try {
        reach("before-settle");
        const { released } = await store.settle(shard, epoch, outcomes, clock.nowMs());
        reach("settled");
        onSettled(batch, released);
        return;
      } catch (error) {
        if (isEscapementError(error, "fenced") || this.#abort.signal.aborted) {
          onFenced(batch);
          return;
        }
        if (failures === 0) log.warn({ shard, err: error }, "outcomes could not be recorded, will try until they are");
        await sleep(timers, Math.min(retryFirstMs * 2 ** failures, retryMaxMs), this.#abort.signal);
      }
    }
  }
}
