/** What a producer or a relay has done, counted. Read as a whole: `snapshot()`. */
export type TxCountsSnapshot = {
  /** Sent right after COMMIT, and by the relay. */
  readonly sentFast: number;
  readonly sentByRelay: number;
  /** What the fast path did not do; with what a savepoint or a cancel took back before COMMIT. */
  readonly leftToRelay: number;
  /** Sent by us and removed by somebody else, who has sent it too: an upper bound of the duplicates. */
  readonly perhapsTwice: number;
  readonly buried: number;
  readonly deadlocksRetried: number;
  /** Failed tries by `class:code`. */
  readonly failures: Readonly<Record<string, number>>;
};

export class TxCounts {
  #sentFast = 0;
  #sentByRelay = 0;
  #leftToRelay = 0;
  #perhapsTwice = 0;
  #buried = 0;
  #deadlocksRetried = 0;
  readonly #failures: Record<string, number> = {};

  sent(by: "fast" | "relay", count: number): void {
    if (by === "fast") this.#sentFast += count;
    else this.#sentByRelay += count;
  }

  leftToRelay(count: number): void {
    this.#leftToRelay += count;
  }

  perhapsTwice(count: number): void {
    this.#perhapsTwice += count;
  }

  buried(count: number): void {
    this.#buried += count;
  }

  deadlockRetried(): void {
    this.#deadlocksRetried++;
  }

  failed(failureClass: string, code: string): void {
    const name = `${failureClass}:${code}`;
    this.#failures[name] = (this.#failures[name] ?? 0) + 1;
  }

  snapshot(): TxCountsSnapshot {
    return {
      sentFast: this.#sentFast,
      sentByRelay: this.#sentByRelay,
      leftToRelay: this.#leftToRelay,
      perhapsTwice: this.#perhapsTwice,
      buried: this.#buried,
      deadlocksRetried: this.#deadlocksRetried,
      failures: { ...this.#failures },
    };
  }
}
