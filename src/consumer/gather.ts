import type { Timers } from "../runtime/timers.ts";

/**
 * Gathers what comes one by one into calls that take many. A call goes out when it is full, or a moment after its
 * first item came; so many are under way at once, and what comes meanwhile fills the next one.
 */
export type GatherOptions<T, R> = {
  readonly itemsMax: number;
  readonly bytesMax?: number;
  readonly bytesOf?: (item: T) => number;
  readonly lingerMs: number;
  readonly inFlightMax: number;
  readonly timers: Timers;
  /** Answers for each item in their order; never rejects. */
  readonly call: (items: readonly T[]) => Promise<readonly R[]>;
};

export class Gather<T, R> {
  readonly #options: GatherOptions<T, R>;
  #waiting: { readonly item: T; readonly resolve: (result: R) => void }[] = [];
  #inFlight = 0;
  #lingers = false;
  readonly #idle: (() => void)[] = [];

  constructor(options: GatherOptions<T, R>) {
    this.#options = options;
  }

  add(item: T): Promise<R> {
    return new Promise((resolve) => {
      this.#waiting.push({ item, resolve });
      if (this.#waiting.length >= this.#options.itemsMax) this.#send();
      else this.#linger();
    });
  }

  /** Resolves when nothing waits and nothing is under way. */
  idle(): Promise<void> {
    if (this.#waiting.length === 0 && this.#inFlight === 0) return Promise.resolve();
    return new Promise((resolve) => this.#idle.push(resolve));
  }

  #linger(): void {
    if (this.#lingers || this.#inFlight >= this.#options.inFlightMax) return;
    this.#lingers = true;
    this.#options.timers.after(this.#options.lingerMs, () => {
      this.#lingers = false;
      this.#send();
    });
  }

  #send(): void {
    const { inFlightMax, itemsMax, call } = this.#options;
    while (this.#waiting.length > 0 && this.#inFlight < inFlightMax) {
      const batch = this.#waiting.splice(0, this.#fitting());
      this.#inFlight++;
      void call(batch.map(({ item }) => item)).then((results) => {
        this.#inFlight--;
        batch.forEach(({ resolve }, i) => {
          resolve(results[i]!);
        });
        if (this.#waiting.length >= itemsMax) this.#send();
        else if (this.#waiting.length > 0) this.#linger();
        else if (this.#inFlight === 0) for (const resolve of this.#idle.splice(0)) resolve();
      });
    }
  }

  #fitting(): number {
    const { itemsMax, bytesMax = Number.POSITIVE_INFINITY, bytesOf = () => 0 } = this.#options;
    let bytes = 0;
    let count = 0;
    for (const { item } of this.#waiting) {
      bytes += bytesOf(item);
      if (count === itemsMax || (count > 0 && bytes > bytesMax)) break;
      count++;
    }
    return count;
  }
}
