import type { BudgetSettings } from "./policy.ts";

/**
 * How many retries may go: a part of the successes, and a few a second whatever happens. Beyond it they are deferred,
 * not dropped, so that in bad times first attempts go first and old retries still get through (RT-15).
 *
 * Two purses of tokens. What successes earn fades within seconds, or hours of good days would pay for one great storm.
 * The floor does not fade, it only fills up: faded, a small share of it would never come to a whole token.
 */
export class RetryBudget {
  #earned = 0;
  #floor: number;
  #atMs: number;
  #percent: number;
  #floorPerSec: number;

  constructor({ percent, minPerSec }: BudgetSettings, nowMs: number) {
    this.#percent = percent;
    this.#floorPerSec = minPerSec;
    this.#floor = Math.max(1, minPerSec);
    this.#atMs = nowMs;
  }

  /** New terms, such as another share of the floor; what was earned stays. */
  set(percent: number, floorPerSec: number): void {
    this.#percent = percent;
    this.#floorPerSec = floorPerSec;
  }

  succeeded(): void {
    this.#earned += this.#percent / 100;
  }

  has(nowMs: number): boolean {
    this.#advance(nowMs);
    return this.#earned >= 1 || this.#floor >= 1;
  }

  /** After `has`. The floor last, because it is what remains in bad times. */
  take(): void {
    if (this.#earned >= 1) this.#earned -= 1;
    else this.#floor -= 1;
  }

  #advance(nowMs: number): void {
    const passedMs = nowMs - this.#atMs;
    if (passedMs === 0) return;
    this.#atMs = nowMs;
    if (passedMs < 0) return; // the clock was set back: no time has passed that we know of
    this.#earned *= Math.exp(-passedMs / earnedFadesMs);
    const most = Math.max(1, this.#floorPerSec * floorKeptSec);
    this.#floor = Math.min(most, this.#floor + (this.#floorPerSec * Math.min(passedMs, 60_000)) / 1_000);
  }
}

/** As the ten seconds that Finagle's budget keeps its deposits. */
const earnedFadesMs = 10_000;
const floorKeptSec = 2;
