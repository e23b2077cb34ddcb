import type { DelayStore } from "../delay/delay-store.port.ts";
import { bayFromMs, bayOf, bayUntilMs } from "../message/bay.ts";
import { type EpochMs, epochMs, epochMsMax } from "../message/time.ts";
import type { BayBook } from "./bay-book.ts";

/** How many messages are parked, for people. Counted in the store when asked; nothing is kept in step with it. */
export class ParkedCount {
  readonly #store: DelayStore;
  readonly #bays: BayBook;

  constructor(store: DelayStore, bays: BayBook) {
    this.#store = store;
    this.#bays = bays;
  }

  total(): Promise<number> {
    return this.#count(bayFromMs(0), epochMsMax);
  }

  async of(key: string): Promise<number> {
    const bay = await this.#bays.findBay(key);
    return bay === undefined ? 0 : this.#count(bayFromMs(bay), bayUntilMs(bay));
  }

  /** Of the first dependencies that something is parked for; more would not be read. */
  async byKey(): Promise<{ readonly total: number; readonly byKey: Record<string, number> }> {
    const byKey: Record<string, number> = Object.create(null);
    const total = await this.total();
    if (total === 0) return { total, byKey };
    for (const bay of await this.#baysInUse()) {
      const key = await this.#bays.keyOf(bay);
      if (key !== undefined) byKey[key] = await this.#count(bayFromMs(bay), bayUntilMs(bay));
    }
    return { total, byKey };
  }

  async #baysInUse(): Promise<readonly number[]> {
    const found = new Set<number>();
    for (const shard of this.#shards()) {
      for (let bay = 0; found.size < keysShownMax; ) {
        const page = await this.#store.near(shard, bayFromMs(bay), epochMsMax, undefined, 1);
        const next = page.ids.length === 0 ? undefined : bayOf(epochMs(page.dueMs[0]!));
        if (next === undefined) break;
        found.add(next);
        bay = next + 1;
      }
    }
    return [...found];
  }

  async #count(fromMs: EpochMs, untilMs: EpochMs): Promise<number> {
    const counts = await Promise.all(this.#shards().map((shard) => this.#store.count(shard, fromMs, untilMs)));
    return counts.reduce((sum, count) => sum + count, 0);
  }

  #shards(): number[] {
    return Array.from({ length: this.#store.shardCount }, (_, shard) => shard);
  }
}

/** Each costs one store call per shard. */
const keysShownMax = 50;
