import type { Prng } from "../prng.ts";
import type { World } from "../world.ts";
import type { Book, Outage } from "./book.ts";

/** What handlers call: it may be gone for a while, and come back with room for only so many calls a second. */
export class Dependencies {
  readonly keys: readonly string[];
  readonly calls: { readonly key: string; readonly atMs: number; readonly isAnswered: boolean }[] = [];
  readonly #world: World;
  readonly #book: Book;
  readonly #random: Prng;
  readonly #down = new Map<string, Outage>();
  readonly #limited = new Set<string>();
  readonly #capacityPerSec: number;
  readonly #answered = new Map<string, number[]>();

  constructor(world: World, book: Book, count: number, capacityPerSec: number) {
    this.#world = world;
    this.#book = book;
    this.#random = world.random.fork("dependencies");
    this.#capacityPerSec = capacityPerSec;
    this.keys = Array.from({ length: count }, (_, i) => `dep${i + 1}`);
  }

  fail(key: string): void {
    if (this.#down.has(key)) return;
    const outage: Outage = { key, fromMs: this.#world.nowMs, toMs: Number.POSITIVE_INFINITY };
    this.#down.set(key, outage);
    this.#book.outages.push(outage);
    this.#world.trace.mark(key, "is gone");
  }

  comeBack(key: string): void {
    const outage = this.#down.get(key);
    if (outage === undefined) return;
    outage.toMs = this.#world.nowMs;
    this.#down.delete(key);
    if (this.#capacityPerSec > 0) this.#limited.add(key);
    this.#world.trace.mark(key, `is back${this.#capacityPerSec > 0 ? `, for ${this.#capacityPerSec} calls/s` : ""}`);
  }

  /** Undefined when it answered. */
  async call(
    key: string,
    work: (ms: number) => Promise<void>,
  ): Promise<{ readonly error: unknown; readonly code: string } | undefined> {
    const random = this.#random;
    const { nowMs } = this.#world;
    const isDown = this.#down.has(key);
    const answered = (this.#answered.get(key) ?? []).filter((atMs) => atMs > nowMs - 1_000);
    const isFull = this.#limited.has(key) && answered.length >= this.#capacityPerSec;
    const isAnswered = !isDown && !isFull;
    this.calls.push({ key, atMs: nowMs, isAnswered });
    if (isAnswered) this.#answered.set(key, [...answered, nowMs]);
    await work(isDown ? random.pick([1, 20, 300]) : random.between(1, 15));
    if (isDown) {
      const [error, code] = random.pick([
        [Object.assign(new Error(`connect ECONNREFUSED ${key}`), { code: "ECONNREFUSED" }), "ECONNREFUSED"],
        [Object.assign(new Error("socket hang up"), { code: "ECONNRESET" }), "ECONNRESET"],
        [Object.assign(new Error("bad gateway"), { status: 502 }), "http_502"],
      ] as const);
      return { error, code };
    }
    if (isFull) return { error: Object.assign(new Error("too many"), { status: 429 }), code: "http_429" };
    return undefined;
  }
}
