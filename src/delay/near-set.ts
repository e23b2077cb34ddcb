// The near set: the messages of the near window, by id and by due. It is what the loader fills and the ticker empties.
//
// It holds ids, not messages: 16 bytes of id, lane, shard and due. It is a cache of the store and may be dropped at any
// time; what is refused here with "full" is found again by the loader once there is room.
//
// Everything lies in flat arrays, about 64 bytes per message, so that the garbage collector sees a handful of objects
// instead of a million. A message's place in the slab is its handle in the wheel. An open-addressing table finds the
// handle for an id. All arrays have their full length from the start: memory that was never touched costs nothing, and
// doubling them on the way to a million entries stopped the process for 30 to 77 ms at a time.
//
// What surprised us: most of an id says nothing about where it should go in a table. Ids of messages accepted together
// share their first bytes (time) and their last (shard), so the hash has to stir all four words.

import type { NearWindow } from "./near-window.port.ts";
import { TimingWheel } from "./timing-wheel.ts";

/** 90 B each when all are in use, late ones included. A million due within the seconds that the near window is wide is already more than we can send. */
const entriesMaxDefault = 1_000_000;

// An entry is eight 32-bit words, half a cache line: id in 0..3, then these.
const wordsPerEntry = 8;
const laneWord = 4;
const shardWord = 5;
const hashWord = 6; // kept, because leaving the table needs it
const nextFreeWord = 7; // for an entry out of use: the next one out of use, plus one; 0 ends the chain
const inUse = -1;

export interface NearSetOptions {
  /** Where its wheel stands at first, epoch ms. */
  readonly startMs: number;
  /** Beyond this, `put` answers "full". Default 1,000,000. */
  readonly entriesMax?: number;
  /** A number that outsiders do not know keeps them from choosing ids that crowd one place of the table. Default 0. */
  readonly hashSeed?: number;
  /** Bits of the hash in use; tests narrow it to force collisions. */
  readonly hashMask?: number;
}

export class NearSet implements NearWindow {
  readonly #entriesMax: number;
  readonly #hashSeed: number;
  readonly #hashMask: number;
  readonly #wheel: TimingWheel;
  readonly #index: IdIndex;
  readonly #entriesOfShard = new Int32Array(65_536);
  readonly #slab: Int32Array;
  #used = 0; // slab entries that were ever in use
  #firstFree = 0; // as nextFreeWord
  #size = 0;

  constructor({ startMs, entriesMax = entriesMaxDefault, hashSeed = 0, hashMask = -1 }: NearSetOptions) {
    if (!Number.isInteger(entriesMax) || entriesMax < 1 || entriesMax > 2 ** 23) {
      throw new RangeError(`entriesMax is ${entriesMax}; it must be 1..${2 ** 23}`);
    }
    this.#entriesMax = entriesMax;
    this.#hashSeed = hashSeed | 0;
    this.#hashMask = hashMask | 0;
    this.#wheel = new TimingWheel({ startMs, capacity: entriesMax });
    this.#index = new IdIndex(entriesMax);
    this.#slab = new Int32Array(entriesMax * wordsPerEntry);
  }

  get size(): number {
    return this.#size;
  }

  get waiting(): number {
    return this.#wheel.size;
  }

  /**
   * Takes in the id in `id[idOffset..idOffset + 16]`. An id that is here already gets the new due ("moved"; behind what
   * waits for the same millisecond) unless it has it already ("same"); lane and shard are taken over either way. An id
   * that is out for sending stays as it is ("taken").
   */
  put(id: Buffer, idOffset: number, lane: number, shard: number, dueMs: number): PutResult {
    if (!Number.isSafeInteger(dueMs)) throw new RangeError(`dueMs is ${dueMs}; it must be whole ms`);
    if ((shard & 0xffff) !== shard) throw new RangeError(`shard is ${shard}; it must be 0..65535`);
    if (lane >>> 0 !== lane) throw new RangeError(`lane is ${lane}; it must be 0..4294967295`);
    const w0 = id.readInt32LE(idOffset);
    const w1 = id.readInt32LE(idOffset + 4);
    const w2 = id.readInt32LE(idOffset + 8);
    const w3 = id.readInt32LE(idOffset + 12);
    const hash = mixId(w0, w1, w2, w3, this.#hashSeed) & this.#hashMask;

    const present = this.#index.find(this.#slab, hash, w0, w1, w2, w3);
    if (present >= 0) {
      if (!this.#wheel.has(present)) return "taken";
      const at = present * wordsPerEntry;
      this.#countOut(at);
      this.#slab[at + laneWord] = lane;
      this.#slab[at + shardWord] = shard;
      this.#countIn(at);
      if (this.#wheel.isDueAt(present, dueMs)) return "same";
      this.#wheel.move(present, dueMs);
      return "moved";
    }

    if (this.#size >= this.#entriesMax) return "full";
    const handle = this.#allocate();
    const at = handle * wordsPerEntry;
    const slab = this.#slab;
    slab[at] = w0;
    slab[at + 1] = w1;
    slab[at + 2] = w2;
    slab[at + 3] = w3;
    slab[at + laneWord] = lane;
    slab[at + shardWord] = shard;
    slab[at + hashWord] = hash;
    this.#countIn(at);
    this.#index.add(hash, handle);
    this.#wheel.insert(handle, dueMs);
    this.#size++;
    return "added";
  }

  /** Says whether the id was waiting here. */
  remove(id: Buffer, idOffset: number): boolean {
    const w0 = id.readInt32LE(idOffset);
    const w1 = id.readInt32LE(idOffset + 4);
    const w2 = id.readInt32LE(idOffset + 8);
    const w3 = id.readInt32LE(idOffset + 12);
    const hash = mixId(w0, w1, w2, w3, this.#hashSeed) & this.#hashMask;
    const handle = this.#index.find(this.#slab, hash, w0, w1, w2, w3);
    if (handle < 0 || !this.#wheel.cancel(handle)) return false;
    this.#leave(handle);
    return true;
  }

  /** Forgets the waiting entries of a shard and says how many: for when another process has become its owner. */
  removeShard(shard: number): number {
    let left = this.#entriesOfShard[shard] ?? 0;
    let removed = 0;
    for (let handle = 0; left > 0 && handle < this.#used; handle++) {
      // A handle out of use has stale words in the slab, one that is taken waits in no slot: the wheel knows neither.
      if (this.#slab[handle * wordsPerEntry + shardWord] !== shard || !this.#wheel.cancel(handle)) continue;
      this.#leave(handle);
      removed++;
      left--;
    }
    return removed;
  }

  /**
   * The entry whose due is first and not after `nowMs`, or -1. It stays known as taken until it is dropped or requeued;
   * its handle can be read until then. After -1, ask `nextDueMs`: if it is not after now, the wheel paused in the middle
   * of a large cascade, and the next call goes on.
   */
  takeDue(nowMs: number): number {
    return this.#wheel.takeDue(nowMs);
  }

  drop(handle: number): void {
    this.#assertTaken(handle);
    this.#leave(handle);
  }

  requeue(handle: number, dueMs: number): void {
    this.#assertTaken(handle);
    this.#wheel.insert(handle, dueMs);
  }

  idInto(handle: number, target: Buffer, offset: number): void {
    const at = handle * wordsPerEntry;
    target.writeInt32LE(this.#slab[at] as number, offset);
    target.writeInt32LE(this.#slab[at + 1] as number, offset + 4);
    target.writeInt32LE(this.#slab[at + 2] as number, offset + 8);
    target.writeInt32LE(this.#slab[at + 3] as number, offset + 12);
  }

  laneOf(handle: number): number {
    return (this.#slab[handle * wordsPerEntry + laneWord] as number) >>> 0;
  }

  shardOf(handle: number): number {
    return this.#slab[handle * wordsPerEntry + shardWord] as number;
  }

  dueOf(handle: number): number {
    return this.#wheel.dueOf(handle);
  }

  /** Nothing waits that is due before this; if it is not after now, call `takeDue`. Infinity when nothing waits. */
  nextDueMs(): number {
    return this.#wheel.nextDueMs();
  }

  #countIn(at: number): void {
    const shard = this.#slab[at + shardWord] as number;
    this.#entriesOfShard[shard] = (this.#entriesOfShard[shard] as number) + 1;
  }

  #countOut(at: number): void {
    const shard = this.#slab[at + shardWord] as number;
    this.#entriesOfShard[shard] = (this.#entriesOfShard[shard] as number) - 1;
  }

  #assertTaken(handle: number): void {
    const known = handle >= 0 && handle < this.#used && this.#slab[handle * wordsPerEntry + nextFreeWord] === inUse;
    if (!known || this.#wheel.has(handle)) throw new Error(`handle ${handle} is not taken`);
  }

  /** Out of the table and the counts, and its handle is free for the next one. */
  #leave(handle: number): void {
    const at = handle * wordsPerEntry;
    this.#index.remove(this.#slab[at + hashWord] as number, handle);
    this.#countOut(at);
    this.#size--;
    this.#slab[at + nextFreeWord] = this.#firstFree;
    this.#firstFree = handle + 1;
  }

  #allocate(): number {
    let handle = this.#firstFree - 1;
    if (handle >= 0) {
      this.#firstFree = this.#slab[handle * wordsPerEntry + nextFreeWord] as number;
    } else {
      handle = this.#used++;
    }
    this.#slab[handle * wordsPerEntry + nextFreeWord] = inUse;
    return handle;
  }
}

type PutResult = "added" | "moved" | "same" | "taken" | "full";

// Odd multipliers with about half of their bits set, so that a product carries every bit of a word upwards.
const stir = 0x9e3779b1 | 0;
const stirAgain = 0x2c1b3c6d;

/** A 32-bit hash of an id's four words in which every bit of every word counts. */
export function mixId(w0: number, w1: number, w2: number, w3: number, seed: number): number {
  let h = seed;
  h = Math.imul(h ^ w0, stir);
  h = Math.imul(h ^ (h >>> 15) ^ w1, stir);
  h = Math.imul(h ^ (h >>> 15) ^ w2, stir);
  h = Math.imul(h ^ (h >>> 15) ^ w3, stir);
  h = Math.imul(h ^ (h >>> 16), stirAgain);
  return h ^ (h >>> 15);
}

/**
 * Finds handles by id: a table with linear probing. A place holds [handle + 1, hash], 0 for an empty one, so a different
 * id is nearly always told apart without looking into the slab. Filled at most to three quarters.
 *
 * Nothing is ever marked as deleted: what stands behind a gap, and belongs at or before it, moves back into it. So a
 * table that has seen a billion messages is as quick as a new one.
 */
class IdIndex {
  readonly #places: Int32Array;
  readonly #mask: number;

  constructor(entriesMax: number) {
    const places = 2 ** Math.ceil(Math.log2((entriesMax * 4) / 3 + 1));
    this.#places = new Int32Array(places * 2);
    this.#mask = places - 1;
  }

  /** The handle with this id, or -1. */
  find(slab: Int32Array, hash: number, w0: number, w1: number, w2: number, w3: number): number {
    const places = this.#places;
    for (let place = hash & this.#mask; ; place = (place + 1) & this.#mask) {
      const handle = (places[place * 2] as number) - 1;
      if (handle < 0) return -1;
      if (places[place * 2 + 1] !== hash) continue;
      const at = handle * wordsPerEntry;
      if (slab[at] === w0 && slab[at + 1] === w1 && slab[at + 2] === w2 && slab[at + 3] === w3) return handle;
    }
  }

  /** The id must not be in the table yet. */
  add(hash: number, handle: number): void {
    let place = hash & this.#mask;
    while (this.#places[place * 2] !== 0) place = (place + 1) & this.#mask;
    this.#places[place * 2] = handle + 1;
    this.#places[place * 2 + 1] = hash;
  }

  /** The handle must be in the table. */
  remove(hash: number, handle: number): void {
    const places = this.#places;
    const mask = this.#mask;
    let gap = hash & mask;
    while (places[gap * 2] !== handle + 1) {
      if (places[gap * 2] === 0) throw new Error(`handle ${handle} is not in the id index`);
      gap = (gap + 1) & mask;
    }
    for (let place = (gap + 1) & mask; places[place * 2] !== 0; place = (place + 1) & mask) {
      const home = (places[place * 2 + 1] as number) & mask;
      // Someone whose home lies behind the gap would not be found in it. Distances, because the table is a ring.
      if (((place - home) & mask) < ((place - gap) & mask)) continue;
      places[gap * 2] = places[place * 2] as number;
      places[gap * 2 + 1] = places[place * 2 + 1] as number;
      gap = place;
    }
    places[gap * 2] = 0;
  }
}
