import type { Released } from "../../delay/delay-store.port.ts";
import { outlineOf } from "../../delay/record.ts";
import { idFromBytes } from "../../message/id.ts";
import type { EpochMs } from "../../message/time.ts";
import { type Entry, move } from "./entry-table.ts";
import { asReleased, type Call, type Ledger } from "./ledger.ts";
import { type PackedOutcome, putClaimed } from "./packing.ts";
import type { Parcel } from "./parcel.ts";
import type { Answers } from "./requests.ts";

/** What only the owner of a shard may do, each inside a transaction that someone else holds. */

/** Answers how many messages of earlier owners wait again. */
export const recover = (ledger: Ledger, call: Call, epoch: number, limit: number): number => {
  const { leases, entries, outs } = ledger;
  leases.assertOwner(call.shard, epoch);
  const found = [...outs.of(call.shard)].filter(({ claim }) => claim.epoch < epoch).slice(0, limit);
  for (const out of found) {
    const { entry } = out;
    // The attempt stays counted: a message that kills its dispatcher must run out of attempts too.
    move(entry, "give_back");
    entries.save(entry);
    outs.remove(out);
    call.count(entry.lane, 1);
  }
  return found.length;
};

/** `ids` is the caller's: 16 bytes for each. What is claimed is put into `parcel`. */
export const claim = (
  ledger: Ledger,
  call: Call,
  epoch: number,
  ids: Buffer,
  nowMs: EpochMs,
  bytesMax: number,
  parcel: Parcel,
): Answers["claim"] => {
  const { leases, entries, records, room, outs } = ledger;
  leases.assertOwner(call.shard, epoch);
  const start = parcel.length;
  const later: Answers["claim"]["later"] = [];
  const nexts: Entry[] = [];
  const taken = new Set<number>();
  const row = outs.open(call.shard, epoch);
  let bytes = 0;
  let gone = 0;
  let expired = 0;
  let at = 0;
  for (; at < ids.length && bytes <= bytesMax; at += 16) {
    const id = ids.subarray(at, at + 16);
    const entry = entries.find(call.shard, id);
    // Claimed by this owner before this call: its reply was lost, so it is handed out again as it was.
    const isRepeated = entry?.state === "claimed" && outs.get(id)?.claim.epoch === epoch && !taken.has(entry.seq);
    if (entry === undefined || !(isRepeated || room.isClaimable(entry))) gone++;
    else if (!isRepeated && entry.expireAtMs !== undefined && entry.expireAtMs <= nowMs) {
      const next = ledger.end(call, entry, "expire", nowMs);
      if (next !== undefined) nexts.push(next);
      expired++;
    } else if (!isRepeated && entry.dueMs > nowMs) later.push({ id: idFromBytes(id), dueMs: entry.dueMs });
    else {
      const record = records.read(entry.seq, entry.id);
      const outline = record === undefined ? undefined : outlineOf(record);
      if (record === undefined || outline === undefined || isContradicted(entry, outline.dueMs)) {
        const next = ledger.setAside(call, entry, nowMs);
        if (next !== undefined) nexts.push(next);
        gone++;
        continue;
      }
      if (!isRepeated) {
        move(entry, "claim");
        entry.attempt++;
        outs.add(row, entry);
        call.count(entry.lane, -1);
      }
      taken.add(entry.seq);
      bytes += outline.bodyBytes;
      putClaimed(parcel, entry.id, entry.attempt, record);
    }
  }
  const released = stillClaimable(ledger, nexts);
  return { start, count: taken.size, later, deferredFrom: at / 16, gone, expired, released };
};

export const settle = (
  ledger: Ledger,
  call: Call,
  epoch: number,
  outcomes: readonly PackedOutcome[],
  nowMs: EpochMs,
): Released[] => {
  const { leases, entries, room, outs } = ledger;
  leases.assertOwner(call.shard, epoch);
  const released: Released[] = [];
  for (const { id, kind, dueMs, reason } of outcomes) {
    const out = outs.get(id);
    if (out === undefined || out.entry.shard !== call.shard) continue; // settled already: the call was repeated
    const { entry } = out;
    if (kind === "delivered" || kind === "bury") {
      const next = ledger.end(call, entry, kind === "bury" ? "bury" : "deliver", nowMs, reason);
      if (next !== undefined) released.push(asReleased(next));
      continue;
    }
    move(entry, kind);
    outs.remove(out);
    call.count(entry.lane, 1);
    // Given back it is as its row has it all the time.
    if (kind === "give_back") continue;
    room.putBack(entry, dueMs);
    entries.save(entry);
  }
  return released;
};

/** An entry carries no checksum, but before the first attempt its due must be the one in the record: never early. */
const isContradicted = (entry: Entry, recordDueMs: EpochMs): boolean =>
  entry.state === "scheduled" && entry.attempt === 0 && entry.dueMs !== recordDueMs;

/** One that became head may have been claimed or have expired itself further down the list. */
const stillClaimable = ({ entries, room }: Ledger, nexts: readonly Entry[]): Released[] =>
  nexts
    .map((next) => entries.find(next.shard, next.id))
    .filter((next) => next !== undefined)
    .filter((next) => room.isClaimable(next))
    .map(asReleased);
