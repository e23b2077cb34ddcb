import type { LaneNames } from "../../delay/record.ts";
import { idBytes, laneOf } from "../../message/id.ts";

/**
 * Tenant and topic of each lane of each shard, as the shard's hash `w` keeps them. Records name their lane by its
 * number only. A lane's names are written before its first record and never change, so what was read once stays true.
 *
 * Two lanes may share a number by chance. Then the number belongs to whoever came first in that shard, and the records
 * of the other carry their names with them.
 */
export class LaneNameCache {
  readonly #names = new Map<number, LaneNames>();

  get(shard: number, lane: number): LaneNames | undefined {
    return this.#names.get(cacheKey(shard, lane));
  }

  put(shard: number, lane: number, names: LaneNames): void {
    if (this.#names.size >= lanesMax) this.#names.clear();
    this.#names.set(cacheKey(shard, lane), names);
  }
}

/** About 100 bytes each; more are read again when they are needed. */
const lanesMax = 200_000;

const cacheKey = (shard: number, lane: number): number => shard * 2 ** 32 + lane;

/** The lanes of one call, as the scripts want them: (u32 lane, u16 length, names)… with each lane once. */
export class LanesOfCall {
  readonly #cache: LaneNameCache;
  readonly #shard: number;
  readonly #lanes = new Map<number, LaneNames>();

  constructor(cache: LaneNameCache, shard: number) {
    this.#cache = cache;
    this.#shard = shard;
  }

  /** Says how the record of a message of this lane must name it. */
  add(names: LaneNames): "byLane" | "inline" {
    const lane = laneOf(names.tenant, names.topic);
    const holder = this.#lanes.get(lane) ?? this.#cache.get(this.#shard, lane);
    if (holder !== undefined && (holder.tenant !== names.tenant || holder.topic !== names.topic)) return "inline";
    if (!this.#lanes.has(lane)) this.#lanes.set(lane, names);
    return "byLane";
  }

  encode(): Buffer {
    const parts: Buffer[] = [];
    for (const [lane, names] of this.#lanes) {
      const text = encodeNames(names);
      const head = Buffer.allocUnsafe(6);
      head.writeUInt32BE(lane);
      head.writeUInt16BE(text.length, 4);
      parts.push(head, text);
    }
    return Buffer.concat(parts);
  }

  remember(): void {
    for (const [lane, names] of this.#lanes) this.#cache.put(this.#shard, lane, names);
  }
}

const encodeNames = ({ tenant, topic }: LaneNames): Buffer => {
  const tenantBytes = Buffer.from(tenant);
  const head = Buffer.allocUnsafe(2);
  head.writeUInt16BE(tenantBytes.length);
  return Buffer.concat([head, tenantBytes, Buffer.from(topic)]);
};

export const decodeNames = (bytes: Buffer): LaneNames => {
  const end = 2 + bytes.readUInt16BE(0);
  return { tenant: bytes.toString("utf8", 2, end), topic: bytes.toString("utf8", end) };
};

/** Bytes of a packed id with its lane in front, as scripts answer them. */
export const laneAndIdBytes = 4 + idBytes;
