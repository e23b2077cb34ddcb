// The wheel: which handles are due, in the order of (due millisecond, insertion).
//
// It knows integers only. It has no clock (the caller says what time it is), no ids, no messages; near-set.ts gives
// handles a meaning. Every operation works inside arrays that were made at the start, and allocates nothing.
//
// Read a time as digits in base 256, as one reads a date as year, month, day. Level 0 has a slot for each value of the
// last digit (1 ms), level 1 for the digit before it (256 ms), and so on. `cursor` is the time the wheel stands at. An
// entry hangs at the highest digit in which its due differs from the cursor: while the "year" differs, month and day do
// not matter yet. When the cursor enters a slot above level 0, the slot's entries agree with it in that digit from now
// on, and are hung again, lower: this is the cascade.
//
// An example, with digits written 0.0.0 (65,536 ms, 256 ms, 1 ms):
//
//   at 0.0.0     insert A due 0.0.9     level 0, slot 9    differs in the last digit
//                insert B due 0.2.1     level 1, slot 2    differs in the middle digit; its last digit is for later
//                insert C due 0.2.1     level 1, slot 2    behind B
//   at 0.1.0     A comes out. The next filled slot is found by bits: level 1, slot 2, which begins at 0.2.0. Not yet.
//                nextDueMs() says 0.2.0: nothing is due before.
//   at 0.2.1     The cursor enters 0.2.0: B, then C move to level 0, slot 1. Then it goes on to 0.2.1: B, C come out.
//
// Three things that are easy to get wrong and hold here by construction:
// - Where an entry hangs follows from (due, cursor) alone, so all entries of one millisecond always share one slot.
//   Lists are appended at the end and cascaded from the front, so insertion order survives every cascade. (Choosing the
//   level by distance to now, as many wheels do, splits one millisecond over two levels.)
// - Seven digits of eight bits hold every safe integer: there is no horizon, hence no overflow list.
// - Epoch milliseconds need 41 bits and JavaScript's bit operators keep 32. Where the upper parts agree, the low 32
//   bits may be compared alone; otherwise the upper part is taken by division first.
//
// What surprised us: a due before the cursor has no digit to hang at, and "put it at the cursor" would deliver
// yesterday's messages in order of arrival. Late entries therefore wait in a small heap, which empties first.

const levelBits = 8;
const slotsPerLevel = 2 ** levelBits;
const levels = 7; // 7 x 8 = 56 bits >= the 53 of a safe integer
const levelsIn32Bits = 4;
const slots = levels * slotsPerLevel;
const wordsPerLevel = slotsPerLevel / 32;
const twoTo32 = 2 ** 32;
const slotWidthsMs = Float64Array.from({ length: levels }, (_, level) => slotsPerLevel ** level);

// A node is 16 bytes, so that touching an entry costs one cache line: [next int32, previous int32, due float64].
// Node 0 is nobody (a zero link means "hangs nowhere"), then comes one list head per slot, then the entries.
// Lists are rings through their head: hanging and unhanging need no special case for first and last.
const firstHead = 1;
const firstEntry = firstHead + slots;
const bytesPerNode = 16;
const inLateHeap = -1; // in place of `previous`: waits in the late heap instead of a slot

export interface TimingWheelOptions {
  /** Where the wheel stands at first, epoch ms. Anything due earlier is late from the start. */
  readonly startMs: number;
  /**
   * Handles are 0..capacity - 1. Their memory, 40 B each, is reserved at once and taken from the system as it is used.
   * At most 2 ** 24 (640 MiB); more than that belongs in the store, not in memory.
   */
  readonly capacity: number;
  /** Entries that one call moves to a lower level at most. */
  readonly cascadeMax?: number;
}

const capacityMax = 2 ** 24;
const cascadeMaxDefault = 65_536; // 2.6 ms at 39 ns each (order in memory at random); a million at once took 39 ms

export class TimingWheel {
  readonly #capacity: number;
  readonly #cascadeMax: number;
  readonly #occupied = new Int32Array(levels * wordsPerLevel);
  readonly #late: LateHeap;
  readonly #links: Int32Array;
  readonly #dues: Float64Array;
  #size = 0;
  // The cursor and what the hot path needs of it: its upper part, and where its 32-bit stretch ends.
  #cursor = 0;
  #cursorUpper = 0;
  #stretchEnd = twoTo32;
  // The slot being cascaded, and where it ends. Between two calls only a slot of more than cascadeMax entries is here.
  #cascading = -1;
  #cascadingEnd = -1;

  constructor({ startMs, capacity, cascadeMax = cascadeMaxDefault }: TimingWheelOptions) {
    if (!Number.isSafeInteger(startMs) || startMs < 0)
      throw new RangeError(`startMs is ${startMs}; it must be an epoch time in whole ms`);
    if (!Number.isInteger(capacity) || capacity < 1 || capacity > capacityMax)
      throw new RangeError(`capacity is ${capacity}; it must be 1..${capacityMax}`);
    if (!Number.isSafeInteger(cascadeMax) || cascadeMax < 1)
      throw new RangeError(`cascadeMax is ${cascadeMax}; it must be >= 1`);
    this.#cascadeMax = cascadeMax;
    this.#capacity = capacity;
    this.#late = new LateHeap(capacity);
    const nodes = new ArrayBuffer((firstEntry + capacity) * bytesPerNode);
    this.#links = new Int32Array(nodes);
    this.#dues = new Float64Array(nodes);
    for (let head = firstHead; head < firstEntry; head++) this.#emptyRing(head);
    this.#moveCursor(startMs);
  }

  get size(): number {
    return this.#size;
  }

  has(handle: number): boolean {
    return handle >>> 0 === handle && handle < this.#capacity && this.#links[(firstEntry + handle) * 4 + 1] !== 0;
  }

  /** The due a handle has, or had last: it stays readable after the handle came out, until it is inserted again. */
  dueOf(handle: number): number {
    return this.#dues[(firstEntry + handle) * 2 + 1] as number;
  }

  /** As comparing with `dueOf`, which may have to box its answer. */
  isDueAt(handle: number, dueMs: number): boolean {
    return this.#dues[(firstEntry + handle) * 2 + 1] === dueMs;
  }

  /** A handle may wait once; use `move` to give it another due. */
  insert(handle: number, dueMs: number): void {
    if (!Number.isSafeInteger(dueMs)) throw new RangeError(`dueMs is ${dueMs}; it must be whole ms`);
    if (handle >>> 0 !== handle || handle >= this.#capacity)
      throw new RangeError(`handle is ${handle}; it must be 0..${this.#capacity - 1}`);
    const node = firstEntry + handle;
    if (this.#links[node * 4 + 1] !== 0) throw new Error(`handle ${handle} waits already; cancel or move it`);
    this.#dues[node * 2 + 1] = dueMs;
    if (dueMs < this.#cursor) {
      this.#links[node * 4 + 1] = inLateHeap;
      this.#late.add(handle, dueMs);
    } else {
      // What falls into a half cascaded slot joins its end: hung lower at once, it would overtake those still in it.
      this.#hang(node, dueMs < this.#cascadingEnd ? this.#cascading : this.#slotFor(dueMs));
    }
    this.#size++;
  }

  /** Says whether the handle was waiting. */
  cancel(handle: number): boolean {
    if (!this.has(handle)) return false;
    const node = firstEntry + handle;
    if (this.#links[node * 4 + 1] === inLateHeap) {
      this.#late.remove(handle);
      this.#links[node * 4 + 1] = 0;
    } else {
      this.#unhang(node);
    }
    this.#size--;
    return true;
  }

  /** The handle goes behind those that wait for the same millisecond already. */
  move(handle: number, dueMs: number): void {
    if (!Number.isSafeInteger(dueMs)) throw new RangeError(`dueMs is ${dueMs}; it must be whole ms`);
    this.cancel(handle);
    this.insert(handle, dueMs);
  }

  /**
   * Takes out up to `max` handles whose due is not after `nowMs`, first by due, then by insertion, and says how many.
   * The rest stays for the next call. Fewer than `max` may come out although more is due, when a slot of more than
   * `cascadeMax` entries has to be cascaded first: then `nextDueMs()` is not after `nowMs`, and the next call goes on.
   * `out` as a function may insert and cancel; what it inserts as already due can still come out of this call.
   */
  advance(nowMs: number, out: Int32Array | ((handle: number) => void), max: number): number {
    let taken = 0;
    if (typeof out === "function") {
      for (; taken < max; taken++) {
        const handle = this.takeDue(nowMs);
        if (handle < 0) break;
        out(handle);
      }
    } else {
      const room = Math.min(max, out.length);
      for (; taken < room; taken++) {
        const handle = this.takeDue(nowMs);
        if (handle < 0) break;
        out[taken] = handle;
      }
    }
    return taken;
  }

  /**
   * One step of `advance`: the first handle whose due is not after `nowMs`, or -1. A clock that went back finds less,
   * and does no harm.
   */
  takeDue(nowMs: number): number {
    if (!Number.isSafeInteger(nowMs)) throw new RangeError(`nowMs is ${nowMs}; it must be whole ms`);
    if (this.#late.size > 0) {
      // All that is late is due before the cursor, and all that hangs in a slot is due at the cursor or after.
      const handle = this.#late.first();
      if (this.dueOf(handle) > nowMs) return -1;
      this.#late.remove(handle);
      this.#links[(firstEntry + handle) * 4 + 1] = 0;
      this.#size--;
      return handle;
    }
    while (this.#cursor <= nowMs) {
      if (this.#cascading >= 0 && !this.#cascade()) return -1;
      const node = this.#links[(firstHead + (this.#cursor & (slotsPerLevel - 1))) * 4] as number;
      if (node >= firstEntry) {
        this.#unhang(node);
        this.#size--;
        return node - firstEntry;
      }
      const slot = this.#firstOccupied();
      if (slot < 0) break;
      const startMs = this.#startOf(slot); // `slot < 0 ? Infinity : ...` made the engine box every start: 16 B per call
      if (startMs > nowMs) break;
      this.#moveCursor(startMs);
      if (slot >= slotsPerLevel) {
        this.#cascading = slot;
        this.#cascadingEnd = startMs + (slotWidthsMs[slot >>> levelBits] as number);
      }
    }
    if (this.#cursor < nowMs) this.#moveCursor(nowMs); // no filled slot begins by then, so there is nothing to cascade
    return -1;
  }

  /**
   * Nothing is due before this; Infinity when nothing waits. Exact for what is due in the cursor's present 256 ms; for
   * what is further away it is the beginning of a slot. Asking again at that time may give a later answer, at most once
   * per level.
   */
  nextDueMs(): number {
    if (this.#late.size > 0) return this.dueOf(this.#late.first());
    const slot = this.#firstOccupied();
    return slot < 0 ? Infinity : this.#startOf(slot);
  }

  /** For a due not before the cursor: the level of the highest digit that differs, and the slot of the due's digit. */
  #slotFor(dueMs: number): number {
    if (dueMs < this.#stretchEnd) {
      // `| 1` makes "no digit differs" the last digit. Both operands lose their upper bits here, which are equal.
      const level = (31 - Math.clz32((dueMs ^ this.#cursor) | 1)) >>> 3;
      return level * slotsPerLevel + ((dueMs >>> (level * levelBits)) & (slotsPerLevel - 1));
    }
    const upper = Math.floor(dueMs / twoTo32);
    const level = (31 - Math.clz32(upper ^ this.#cursorUpper)) >>> 3;
    return (levelsIn32Bits + level) * slotsPerLevel + ((upper >>> (level * levelBits)) & (slotsPerLevel - 1));
  }

  /** The filled slot that begins first, or -1: one of a lower level always begins before any of a higher one. */
  #firstOccupied(): number {
    if (this.#cascading >= 0 && this.#links[(firstHead + this.#cascading) * 4] !== firstHead + this.#cascading) {
      return this.#cascading;
    }
    for (let level = 0; level < levels; level++) {
      const digit =
        level < levelsIn32Bits
          ? (this.#cursor >>> (level * levelBits)) & (slotsPerLevel - 1)
          : (this.#cursorUpper >>> ((level - levelsIn32Bits) * levelBits)) & (slotsPerLevel - 1);
      const lastWord = (level + 1) * wordsPerLevel;
      let word = level * wordsPerLevel + (digit >>> 5);
      let bits = (this.#occupied[word] as number) & (-1 << (digit & 31));
      while (bits === 0 && ++word < lastWord) bits = this.#occupied[word] as number;
      if (bits !== 0) return word * 32 + (31 - Math.clz32(bits & -bits));
    }
    return -1;
  }

  /** When a slot begins, given that it lies in the cursor's present turn of that level. */
  #startOf(slot: number): number {
    const level = slot >>> levelBits;
    const widthMs = slotWidthsMs[level] as number;
    const turnMs = widthMs * slotsPerLevel;
    return Math.floor(this.#cursor / turnMs) * turnMs + (slot & (slotsPerLevel - 1)) * widthMs;
  }

  #moveCursor(ms: number): void {
    this.#cursor = ms;
    if (ms < this.#stretchEnd && ms >= this.#stretchEnd - twoTo32) return;
    this.#cursorUpper = Math.floor(ms / twoTo32);
    this.#stretchEnd = (this.#cursorUpper + 1) * twoTo32;
  }

  /** The cursor stands at the slot's beginning: its entries belong to lower levels now. Says whether all went there. */
  #cascade(): boolean {
    const slot = this.#cascading;
    const head = firstHead + slot;
    const links = this.#links;
    let node = links[head * 4] as number;
    for (let moved = 0; node !== head && moved < this.#cascadeMax; moved++) {
      const next = links[node * 4] as number;
      this.#hang(node, this.#slotFor(this.#dues[node * 2 + 1] as number));
      node = next;
    }
    if (node !== head) {
      links[head * 4] = node;
      links[node * 4 + 1] = head;
      return false;
    }
    this.#emptyRing(head);
    this.#markEmpty(slot);
    this.#cascading = -1;
    this.#cascadingEnd = -1;
    return true;
  }

  #hang(node: number, slot: number): void {
    const links = this.#links;
    const head = firstHead + slot;
    const last = links[head * 4 + 1] as number;
    links[last * 4] = node;
    links[node * 4 + 1] = last;
    links[node * 4] = head;
    links[head * 4 + 1] = node;
    this.#occupied[slot >>> 5] = (this.#occupied[slot >>> 5] as number) | (1 << (slot & 31));
  }

  #unhang(node: number): void {
    const links = this.#links;
    const next = links[node * 4] as number;
    const previous = links[node * 4 + 1] as number;
    links[previous * 4] = next;
    links[next * 4 + 1] = previous;
    links[node * 4 + 1] = 0;
    // Both neighbours are the same only when the ring's head alone is left: so the slot is known without storing it.
    if (next === previous) this.#markEmpty(next - firstHead);
  }

  #emptyRing(head: number): void {
    this.#links[head * 4] = head;
    this.#links[head * 4 + 1] = head;
  }

  #markEmpty(slot: number): void {
    this.#occupied[slot >>> 5] = (this.#occupied[slot >>> 5] as number) & ~(1 << (slot & 31));
  }
}

/** A binary heap of handles by (due, arrival). */
class LateHeap {
  size = 0;
  readonly #heap: Int32Array; // by place
  readonly #places: Int32Array; // by handle
  readonly #dues: Float64Array; // by handle
  readonly #arrivals: Float64Array; // by handle
  #arrived = 0;

  constructor(capacity: number) {
    this.#heap = new Int32Array(capacity);
    this.#places = new Int32Array(capacity);
    this.#dues = new Float64Array(capacity);
    this.#arrivals = new Float64Array(capacity);
  }

  first(): number {
    return this.#heap[0] as number;
  }

  add(handle: number, dueMs: number): void {
    this.#dues[handle] = dueMs;
    this.#arrivals[handle] = this.#arrived++;
    this.#rise(handle, this.size++);
  }

  remove(handle: number): void {
    const place = this.#places[handle] as number;
    const last = this.#heap[--this.size] as number;
    if (last === handle) return;
    // The last one fills the gap, and belongs either above it or below it.
    this.#rise(last, place);
    this.#sink(last, this.#places[last] as number);
  }

  #before(a: number, b: number): boolean {
    const dueA = this.#dues[a] as number;
    const dueB = this.#dues[b] as number;
    return dueA < dueB || (dueA === dueB && (this.#arrivals[a] as number) < (this.#arrivals[b] as number));
  }

  #put(handle: number, place: number): void {
    this.#heap[place] = handle;
    this.#places[handle] = place;
  }

  #rise(handle: number, from: number): void {
    let place = from;
    while (place > 0) {
      const parentPlace = (place - 1) >>> 1;
      const parent = this.#heap[parentPlace] as number;
      if (!this.#before(handle, parent)) break;
      this.#put(parent, place);
      place = parentPlace;
    }
    this.#put(handle, place);
  }

  #sink(handle: number, from: number): void {
    let place = from;
    for (;;) {
      let childPlace = place * 2 + 1;
      if (childPlace >= this.size) break;
      const right = childPlace + 1;
      if (right < this.size && this.#before(this.#heap[right] as number, this.#heap[childPlace] as number))
        childPlace = right;
      const child = this.#heap[childPlace] as number;
      if (!this.#before(child, handle)) break;
      this.#put(child, place);
      place = childPlace;
    }
    this.#put(handle, place);
  }
}
