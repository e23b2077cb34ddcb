/**
 * An array that stays sorted: the memory store's only data structure besides `Map`. Finding is a binary search, adding
 * and removing move the rest by one, which is plenty for what tests and simulations hold. No two items may compare as
 * equal, so every item has one place and a page can continue behind any item, even one that has left since.
 */
export class SortedList<T> {
  readonly #items: T[] = [];
  readonly #compare: (a: T, b: T) => number;

  constructor(compare: (a: T, b: T) => number) {
    this.#compare = compare;
  }

  get size(): number {
    return this.#items.length;
  }

  get first(): T | undefined {
    return this.#items[0];
  }

  add(item: T): void {
    this.#items.splice(this.#placeOf(item), 0, item);
  }

  /** Does nothing when the item is not there. */
  remove(item: T): void {
    const place = this.#placeOf(item);
    if (this.#items[place] === item) this.#items.splice(place, 1);
  }

  /** Up to `limit` items from the first one that is not before `isBefore` on; items before it must all be "before". */
  page(isBefore: (item: T) => boolean, limit: number): T[] {
    const start = this.#partition(isBefore);
    return this.#items.slice(start, start + limit);
  }

  /** How many items at the front are "before"; items before it must all be "before". */
  countBefore(isBefore: (item: T) => boolean): number {
    return this.#partition(isBefore);
  }

  [Symbol.iterator](): Iterator<T> {
    return this.#items[Symbol.iterator]();
  }

  #placeOf(item: T): number {
    return this.#partition((other) => this.#compare(other, item) < 0);
  }

  /** How many items at the front are "before". */
  #partition(isBefore: (item: T) => boolean): number {
    let low = 0;
    let high = this.#items.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (isBefore(this.#items[middle]!)) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
