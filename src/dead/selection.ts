import type { DelayStore } from "../delay/delay-store.port.ts";
import { shardOf } from "../message/id.ts";
import type { EpochMs } from "../message/time.ts";
import type { DeadMessage } from "./dead-message.ts";
import { type DeadFilter, matches } from "./filter.ts";
import type { RedriveJob } from "./redrive-job.ts";
import { ofTenant } from "./scan.ts";

/**
 * What a redrive is about, message by message: what matches its filter and was dead before it began. Nothing is copied
 * for that, because the dead lie in the order of their dying: what dies later lies behind the end of the selection,
 * also when it is one of the selected that was brought back.
 *
 * Pages are taken from the shards in turn, so that no owner of a shard gets everything at once. A page that is used up
 * only in part is read again after a restart: what was brought back is not in it any more, and what was passed over is
 * known from the portions.
 */
export class Selection {
  readonly #store: DelayStore;
  readonly #tenant: string;
  readonly #filter: DeadFilter;
  readonly #places: (string | null)[];
  #idsDone: number;
  #scanned: number;
  #shard = 0;
  #page: { readonly shard: number; readonly next: string | null; readonly left: DeadMessage[] } | undefined;

  constructor(store: DelayStore, { tenant, plan, beforeMs, places, idsDone, scanned }: RedriveJob) {
    const until = plan.filter.until;
    this.#store = store;
    this.#tenant = tenant;
    this.#filter = { ...plan.filter, until: until === undefined || until > beforeMs ? beforeMs : until };
    this.#places = [...places];
    this.#idsDone = idsDone;
    this.#scanned = scanned;
  }

  /** Where it stands: given to a new one, that goes on from here. */
  get position(): Pick<RedriveJob, "places" | "idsDone" | "scanned"> {
    return { places: [...this.#places], idsDone: this.#idsDone, scanned: this.#scanned };
  }

  get isThrough(): boolean {
    const { ids } = this.#filter;
    if (ids !== undefined) return this.#idsDone >= ids.length;
    return this.#page === undefined && this.#places.every((place) => place === null);
  }

  /** Up to `count` of the next ones. Fewer, or none, when there are no more or many were looked at in vain. */
  async next(count: number, bytesMax: number, nowMs: EpochMs): Promise<DeadMessage[]> {
    if (this.#filter.ids !== undefined) return this.#nextOfIds(count, nowMs);
    const found: DeadMessage[] = [];
    let bytes = 0;
    for (let calls = 0; found.length < count && bytes < bytesMax; ) {
      if (this.#page === undefined) {
        if (calls++ >= callsMax || !(await this.#read())) break;
        continue;
      }
      const { left, shard, next } = this.#page;
      while (left.length > 0 && found.length < count && bytes < bytesMax) {
        const dead = left.shift()!;
        bytes += dead.message?.body.length ?? 0;
        found.push(dead);
      }
      if (left.length > 0) break;
      this.#places[shard] = next;
      this.#page = undefined;
    }
    return found;
  }

  /** False when no shard has anything left. */
  async #read(): Promise<boolean> {
    const count = this.#places.length;
    for (let i = 0; i < count; i++) {
      const shard = (this.#shard + i) % count;
      const place = this.#places[shard];
      if (place === null || place === undefined) continue;
      this.#shard = shard + 1;
      const page = await this.#store.dead(shard, place === "" ? this.#filter.from : place, pageMax);
      const inTime = page.items.filter(({ endedAtMs }) => endedAtMs! < this.#filter.until!);
      this.#scanned += inTime.length;
      const dead = inTime.map((stored) => ofTenant(stored, this.#tenant)).filter((one) => one !== undefined);
      const isLast = page.cursor === undefined || inTime.length < page.items.length;
      const left = dead.filter((one) => matches(this.#filter, one));
      this.#page = { shard, next: isLast ? null : page.cursor!, left };
      return true;
    }
    return false;
  }

  async #nextOfIds(count: number, nowMs: EpochMs): Promise<DeadMessage[]> {
    const ids = this.#filter.ids!.slice(this.#idsDone, this.#idsDone + Math.min(count, pageMax));
    const found: DeadMessage[] = [];
    for (const [shard, some] of Map.groupBy(ids, (id) => shardOf(id, this.#store.shardCount))) {
      for (const stored of await this.#store.get(shard, some, nowMs)) {
        const dead = stored?.state === "dead" ? ofTenant(stored, this.#tenant) : undefined;
        if (dead !== undefined && matches(this.#filter, dead)) found.push(dead);
      }
    }
    this.#idsDone += ids.length;
    this.#scanned += ids.length;
    return found;
  }
}

/** As many as one call of the store brings back. */
const pageMax = 200;
/** Then the job says how far it has come, and goes on: 10,000 messages looked at. */
const callsMax = 50;
