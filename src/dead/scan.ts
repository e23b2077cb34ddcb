import { crc32 } from "node:zlib";
import type { DelayStore, StoredMessage } from "../delay/delay-store.port.ts";
import { EscapementError } from "../message/errors.ts";
import { type MessageId, shardOf } from "../message/id.ts";
import type { EpochMs } from "../message/time.ts";
import { type DeadMessage, deadMessageOf } from "./dead-message.ts";
import { type DeadFilter, matches } from "./filter.ts";

/**
 * Goes through the dead of all shards, shard after shard, each oldest first, and does no more than a bounded piece at
 * once: whoever asks is told how many were looked at, and where to go on. There is no index by group or fingerprint, so
 * a rare one may take several pieces; times are found at once, because the dead lie in the order of their dying.
 */

/** Where a scan stands: everything in the shards before, and in this one everything up to the store's own cursor. */
export type Place = { readonly shard: number; readonly cursor: string | undefined };

export type Piece = {
  readonly dead: readonly DeadMessage[];
  readonly scanned: number;
  readonly next: Place | undefined;
};

/** What one request may look at: some tens of milliseconds of work of the store, and never more memory than a page of it. */
export const scanLimits = { messages: 10_000, bytes: 64_000_000, calls: 300, page: 500 } as const;

/**
 * Up to `limit` of the dead that fit. `visit` sees every one that fits instead of their being gathered, so that groups
 * of a hundred thousand need no hundred thousand messages in memory; it answers whether to keep it.
 */
export const scanDead = async (
  store: DelayStore,
  tenant: string,
  filter: DeadFilter,
  from: Place,
  limit: number,
  nowMs: EpochMs,
  keep: (dead: DeadMessage) => boolean = () => true,
): Promise<Piece> => {
  if (filter.ids !== undefined) return lookUp(store, tenant, filter, filter.ids, nowMs, keep);
  const found: DeadMessage[] = [];
  let { shard, cursor } = from;
  let [scanned, bytes, calls] = [0, 0, 0];
  while (shard < store.shardCount) {
    // A page never brings more than there is room for, because a scan cannot go on in the middle of one.
    const room = limit - found.length;
    if (room === 0 || (found.length > 0 && room < limit / 2 && calls > 0 && scanned > found.length)) break;
    if (scanned >= scanLimits.messages || bytes >= scanLimits.bytes || calls >= scanLimits.calls) break;
    const page = await store.dead(shard, cursor ?? filter.from, Math.min(room, scanLimits.page));
    calls++;
    let isPast = false;
    for (const stored of page.items) {
      if (filter.until !== undefined && stored.endedAtMs! >= filter.until) {
        isPast = true;
        break;
      }
      scanned++;
      bytes += stored.message?.body.length ?? 0;
      const dead = ofTenant(stored, tenant);
      if (dead !== undefined && matches(filter, dead) && keep(dead)) found.push(dead);
    }
    cursor = isPast ? undefined : page.cursor;
    if (cursor === undefined) shard++;
  }
  return { dead: found, scanned, next: shard < store.shardCount ? { shard, cursor } : undefined };
};

/** What of these is dead and fits; asked for by id, so nothing else is looked at. */
const lookUp = async (
  store: DelayStore,
  tenant: string,
  filter: DeadFilter,
  ids: readonly MessageId[],
  nowMs: EpochMs,
  keep: (dead: DeadMessage) => boolean,
): Promise<Piece> => {
  const dead: DeadMessage[] = [];
  for (const [shard, some] of Map.groupBy(ids, (id) => shardOf(id, store.shardCount))) {
    for (const stored of await store.get(shard, some, nowMs)) {
      if (stored?.state !== "dead") continue;
      const one = ofTenant(stored, tenant);
      if (one !== undefined && matches(filter, one) && keep(one)) dead.push(one);
    }
  }
  return { dead, scanned: ids.length, next: undefined };
};

/** A damaged record does not say whose it was, so everybody may see that it is there. */
export const ofTenant = (stored: StoredMessage, tenant: string): DeadMessage | undefined =>
  stored.message === undefined || stored.message.tenant === tenant ? deadMessageOf(stored) : undefined;

// --- cursors, as users get them ------------------------------------------------------------------------------------

/** With a checksum, so that no store ever sees a cursor that it did not make. */
export const cursorText = ({ shard, cursor }: Place): string => {
  const text = cursor === undefined ? String(shard) : `${shard}:${cursor}`;
  return `${text}~${crc32(text).toString(36)}`;
};

export const readCursor = (text: string | undefined, shardCount: number): Place => {
  if (text === undefined) return { shard: 0, cursor: undefined };
  const end = text.lastIndexOf("~");
  const inner = text.slice(0, Math.max(end, 0));
  const colon = inner.indexOf(":");
  const shard = Number(colon < 0 ? inner : inner.slice(0, colon));
  const isOurs = end > 0 && text.slice(end + 1) === crc32(inner).toString(36);
  if (!isOurs || !Number.isInteger(shard) || shard < 0 || shard >= shardCount) {
    throw new EscapementError("invalid_field", "cursor is not one that this API gave out", { field: "cursor" });
  }
  return { shard, cursor: colon < 0 ? undefined : inner.slice(colon + 1) };
};
