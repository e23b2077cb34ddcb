import { pause } from "./pause.ts";

/**
 * Cuts a source of items into batches: full by count, full by bytes, or not full because the source is slow. It holds
 * at most one batch and one item, and asks the source for the next item only while somebody waits for a batch, so a
 * slow reader slows the source.
 */

export type BatchLimits = {
  readonly itemsMax: number;
  /** A batch is closed before an item that would take it above this; an item that is larger alone travels alone. */
  readonly bytesMax: number;
  /** How long the first item of a batch may wait for company, in milliseconds. */
  readonly lingerMs: number;
};

export class BatchSource<T> {
  readonly #source: AsyncIterator<T> | Iterator<T>;
  readonly #limits: BatchLimits;
  readonly #bytesOf: (item: T) => number;
  /** The read under way; it outlives a batch that was closed for waiting too long. */
  #reading: Promise<IteratorResult<T>> | undefined;
  /** Read, but it did not fit into the last batch. */
  #left: T | undefined;
  #ended = false;

  constructor(source: AsyncIterable<T> | Iterable<T>, limits: BatchLimits, bytesOf: (item: T) => number) {
    this.#source = Symbol.asyncIterator in source ? source[Symbol.asyncIterator]() : source[Symbol.iterator]();
    this.#limits = limits;
    this.#bytesOf = bytesOf;
  }

  /** The next batch, never empty; undefined at the end. An error of the source is thrown after the items before it. */
  async next(): Promise<T[] | undefined> {
    const batch: T[] = [];
    let bytes = 0;
    let linger: { readonly over: Promise<"over">; stop(): void } | undefined;
    try {
      while (batch.length < this.#limits.itemsMax) {
        const item = await this.#item(linger?.over, batch.length > 0);
        if (item === undefined) break;
        const itemBytes = this.#bytesOf(item.value);
        if (batch.length > 0 && bytes + itemBytes > this.#limits.bytesMax) {
          this.#left = item.value;
          break;
        }
        batch.push(item.value);
        bytes += itemBytes;
        linger ??= startLinger(this.#limits.lingerMs);
      }
    } finally {
      linger?.stop();
    }
    return batch.length === 0 ? undefined : batch;
  }

  /** Tells the source that no more is wanted. Not awaited: a source that waits for input would hold us here. */
  stop(): void {
    if (this.#ended) return;
    this.#ended = true;
    try {
      Promise.resolve(this.#source.return?.()).catch(() => {});
    } catch {
      // A source that fails while it is being put away has nothing more to tell.
    }
  }

  /** One item; undefined when there is none, or none in time. */
  async #item(over: Promise<"over"> | undefined, hasCompany: boolean): Promise<{ value: T } | undefined> {
    if (this.#left !== undefined) {
      const value = this.#left;
      this.#left = undefined;
      return { value };
    }
    if (this.#ended) return undefined;
    this.#reading ??= this.#read();
    let result: IteratorResult<T> | "over";
    try {
      result = over === undefined ? await this.#reading : await Promise.race([this.#reading, over]);
    } catch (error) {
      // The items before the failure go out first; the same rejected promise is met again by the next call.
      if (hasCompany) return undefined;
      this.#ended = true;
      throw error;
    }
    if (result === "over") return undefined;
    this.#reading = undefined;
    if (result.done) {
      this.#ended = true;
      return undefined;
    }
    return { value: result.value };
  }

  #read(): Promise<IteratorResult<T>> {
    const reading = (async () => await this.#source.next())();
    reading.catch(() => {});
    return reading;
  }
}

const startLinger = (ms: number) => {
  const controller = new AbortController();
  return {
    over: pause(ms, controller.signal).then(
      () => "over" as const,
      () => "over" as const,
    ),
    stop: (): void => controller.abort(),
  };
};
