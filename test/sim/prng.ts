import type { Random } from "../../src/runtime/random.ts";

/**
 * Where all chance of a simulation comes from: one 32-bit seed, forked by name so that a new question in one part of
 * the world does not change the answers in another. Not for secrets.
 */
export class Prng implements Random {
  #a: number;
  #b: number;
  #c: number;
  #count = 1;

  constructor(seed: number) {
    // The state starts far from zero for every seed; the first draws stir it further.
    this.#a = Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b);
    this.#b = Math.imul(seed + 0x7f4a7c15, 0xc2b2ae35);
    this.#c = seed | 0;
    for (let i = 0; i < 12; i++) this.uint32();
  }

  /** A generator of its own, decided by this one's seed and `name` only. */
  fork(name: string): Prng {
    let hash = 0x811c9dc5 ^ this.#forkBase;
    for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 0x01000193);
    return new Prng(hash);
  }

  get #forkBase(): number {
    return Math.imul(this.#a ^ this.#b, 0x2c1b3c6d) ^ this.#c;
  }

  /** A small chaotic map with a counter mixed in, so that no state is a short loop. */
  uint32(): number {
    const sum = (this.#a + this.#b + this.#count++) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = ((this.#c << 21) | (this.#c >>> 11)) + sum;
    return sum >>> 0;
  }

  float(): number {
    return this.uint32() / 2 ** 32;
  }

  bytes<T extends Uint8Array>(target: T): T {
    for (let i = 0; i < target.length; i++) target[i] = this.uint32() >>> 13;
    return target;
  }

  chance(probability: number): boolean {
    return probability > 0 && this.float() < probability;
  }

  /** A number in [from, to). */
  between(from: number, to: number): number {
    return from + this.float() * (to - from);
  }

  /** A whole number from `from` to `to`, both included. */
  whole(from: number, to: number): number {
    return from + Math.floor(this.float() * (to - from + 1));
  }

  pick<T>(choices: readonly T[]): T {
    return choices[Math.floor(this.float() * choices.length)]!;
  }
}
