/** Lateness of many messages in one growing typed array; percentiles when asked. */
export class Samples {
  #values = new Float64Array(4096);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  push(value: number): void {
    if (this.#length === this.#values.length) {
      const larger = new Float64Array(this.#length * 2);
      larger.set(this.#values);
      this.#values = larger;
    }
    this.#values[this.#length++] = value;
  }

  clear(): void {
    this.#length = 0;
  }

  summary(): Summary {
    const sorted = this.#values.slice(0, this.#length).sort();
    if (sorted.length === 0) return { count: 0, early: 0, minMs: 0, p50Ms: 0, p99Ms: 0, maxMs: 0 };
    const at = (share: number): number => sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)]!;
    let early = 0;
    while (early < sorted.length && sorted[early]! < 0) early++;
    return { count: sorted.length, early, minMs: sorted[0]!, p50Ms: at(0.5), p99Ms: at(0.99), maxMs: sorted.at(-1)! };
  }
}

export type Summary = {
  readonly count: number;
  /** How many were below zero: sent before their time. */
  readonly early: number;
  readonly minMs: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
};

export const median = (numbers: readonly number[]): number =>
  [...numbers].sort((a, b) => a - b)[numbers.length >> 1] ?? Number.NaN;
