/** A first-in first-out queue of small integers in one growing ring, so that 100,000 waiting handles cost 400 KB. */
export class HandleQueue {
  #ring = new Int32Array(64);
  #head = 0;
  #length = 0;

  get length(): number {
    return this.#length;
  }

  push(handle: number): void {
    if (this.#length === this.#ring.length) this.#grow();
    this.#ring[(this.#head + this.#length) & (this.#ring.length - 1)] = handle;
    this.#length++;
  }

  pushFront(handle: number): void {
    if (this.#length === this.#ring.length) this.#grow();
    this.#head = (this.#head - 1) & (this.#ring.length - 1);
    this.#ring[this.#head] = handle;
    this.#length++;
  }

  /** The oldest handle, or -1 when the queue is empty. */
  shift(): number {
    if (this.#length === 0) return -1;
    const handle = this.#ring[this.#head]!;
    this.#head = (this.#head + 1) & (this.#ring.length - 1);
    this.#length--;
    return handle;
  }

  #grow(): void {
    const larger = new Int32Array(this.#ring.length * 2);
    for (let i = 0; i < this.#length; i++) larger[i] = this.#ring[(this.#head + i) & (this.#ring.length - 1)]!;
    this.#ring = larger;
    this.#head = 0;
  }
}
