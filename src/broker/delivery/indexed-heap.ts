/**
 * A binary heap whose items know their place in it, so that any of them can be taken out at once. Without that, what
 * was acknowledged would stay here until its invisibility ends: at 20,000 a second and twelve hours that is all memory.
 */
export interface Placed {
  /** Where it lies in the heap that holds it; -1 while none does. An item is in one heap at a time. */
  place: number;
}

export class IndexedHeap<Item extends Placed> {
  readonly #items: Item[] = [];
  readonly #keyOf: (item: Item) => number;

  constructor(keyOf: (item: Item) => number) {
    this.#keyOf = keyOf;
  }

  get size(): number {
    return this.#items.length;
  }

  /** The item with the smallest key. */
  peek(): Item | undefined {
    return this.#items[0];
  }

  add(item: Item): void {
    this.#items.push(item);
    this.#rise(item, this.#items.length - 1);
  }

  remove(item: Item): void {
    const place = item.place;
    if (this.#items[place] !== item) return;
    item.place = -1;
    const last = this.#items.pop()!;
    if (last === item) return;
    this.#rise(last, place);
    if (last.place === place) this.#sink(last, place);
  }

  #rise(item: Item, from: number): void {
    const items = this.#items;
    const key = this.#keyOf(item);
    let place = from;
    while (place > 0) {
      const above = (place - 1) >> 1;
      const other = items[above]!;
      if (this.#keyOf(other) <= key) break;
      items[place] = other;
      other.place = place;
      place = above;
    }
    items[place] = item;
    item.place = place;
  }

  #sink(item: Item, from: number): void {
    const items = this.#items;
    const key = this.#keyOf(item);
    let place = from;
    for (;;) {
      let below = 2 * place + 1;
      if (below >= items.length) break;
      if (below + 1 < items.length && this.#keyOf(items[below + 1]!) < this.#keyOf(items[below]!)) below++;
      const other = items[below]!;
      if (this.#keyOf(other) >= key) break;
      items[place] = other;
      other.place = place;
      place = below;
    }
    items[place] = item;
    item.place = place;
  }
}
