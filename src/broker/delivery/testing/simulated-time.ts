import type { EpochMs } from "../../../message/time.ts";
import type { Clock } from "../../../runtime/clock.ts";
import type { Timers } from "../../../runtime/timers.ts";

/** A clock and timers whose time passes when told to. The time of day can be set apart from it. */
export class SimulatedTime implements Clock, Timers {
  wallOffsetMs = 1_750_000_000_000;
  timersSet = 0;
  #nowMs = 1_000;
  #pending: { atMs: number; callback: () => void }[] = [];

  nowMs(): EpochMs {
    return Math.floor(this.wallOffsetMs + this.#nowMs) as EpochMs;
  }

  monotonicMs(): number {
    return this.#nowMs;
  }

  after(delayMs: number, callback: () => void) {
    this.timersSet++;
    const entry = { atMs: this.#nowMs + delayMs, callback };
    this.#pending.push(entry);
    return {
      cancel: () => {
        this.#pending = this.#pending.filter((other) => other !== entry);
      },
    };
  }

  get pending(): number {
    return this.#pending.length;
  }

  /** Runs what falls due, and everything that it sets in motion by promises. */
  async pass(ms: number): Promise<void> {
    const untilMs = this.#nowMs + ms;
    for (;;) {
      await settled();
      const next = this.#pending.filter(({ atMs }) => atMs <= untilMs).sort((a, b) => a.atMs - b.atMs)[0];
      if (next === undefined) break;
      this.#nowMs = Math.max(this.#nowMs, next.atMs);
      this.#pending = this.#pending.filter((entry) => entry !== next);
      next.callback();
    }
    this.#nowMs = untilMs;
  }

  /** The result of something that needs timers that are due at once, and nothing more. */
  async now<T>(work: Promise<T>): Promise<T> {
    work.catch(() => {});
    await this.pass(0);
    return work;
  }
}

const settled = (): Promise<void> =>
  new Promise((resolve) => process.nextTick(() => queueMicrotask(() => setImmediate(resolve))));
