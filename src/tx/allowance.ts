/** So many a second, evenly: a bucket of a fifth of a second, full at the beginning. Pure but for what it remembers. */
export class Allowance {
  readonly #perSecond: number;
  readonly #max: number;
  #left: number;
  #atMs = Number.NEGATIVE_INFINITY;

  constructor(perSecond: number) {
    this.#perSecond = perSecond;
    this.#max = Math.max(1, perSecond / 5);
    this.#left = this.#max;
  }

  /** How many may be spent now. */
  at(nowMs: number): number {
    this.#left = Math.min(this.#max, this.#left + ((nowMs - this.#atMs) * this.#perSecond) / 1_000);
    this.#atMs = nowMs;
    return Math.max(0, Math.floor(this.#left));
  }

  get isSpent(): boolean {
    return this.#left < 1;
  }

  spend(count: number): void {
    this.#left -= count;
  }
}
