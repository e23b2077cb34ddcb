import type { ClaimResult, Outcome, Released, SettleResult } from "../../delay/delay-store.port.ts";
import { idToBytes, type MessageId } from "../../message/id.ts";
import { IdList } from "../../message/id-list.ts";
import type { DelayedMessage } from "../../message/message.ts";
import type { EpochMs } from "../../message/time.ts";
import { type Entry, move } from "./entry-table.ts";
import { asReleased, type Call, type Ledger } from "./ledger.ts";

/** What only the owner of a shard may do, each inside a transaction that someone else holds. */

/** Answers how many messages of earlier owners wait again. */
export const recover = ({ leases, entries, room }: Ledger, call: Call, epoch: number, limit: number): number => {
  leases.assertOwner(call.shard, epoch);
  const found = entries.claimedBefore(call.shard, epoch, limit);
  for (const entry of found) {
    // The attempt stays counted: a message that kills its dispatcher must run out of attempts too.
    move(entry, "give_back");
    entries.save(entry);
    room.putBack(entry);
    call.count(entry.lane, 1);
  }
  return found.length;
};

export const claim = (
  ledger: Ledger,
  call: Call,
  epoch: number,
  ids: IdList,
  nowMs: EpochMs,
  bytesMax: number,
): ClaimResult => {
  const { leases, entries, records, room } = ledger;
  leases.assertOwner(call.shard, epoch);
  const claimed: DelayedMessage[] = [];
  const later: { id: MessageId; dueMs: EpochMs }[] = [];
  const deferred: MessageId[] = [];
  const nexts: Entry[] = [];
  const taken = new Set<number>();
  let bytes = 0;
  let gone = 0;
  let expired = 0;
  for (let i = 0; i < ids.length; i++) {
    if (bytes > bytesMax) {
      deferred.push(ids.at(i));
      continue;
    }
    const entry = entries.find(call.shard, ids.bytes.subarray(16 * i, 16 * i + 16));
    // Claimed by this owner before this call: its reply was lost, so it is handed out again as it was.
    const isRepeated = entry?.state === "claimed" && entry.epoch === epoch && !taken.has(entry.seq);
    if (entry === undefined || !(isRepeated || room.isClaimable(entry))) gone++;
    else if (!isRepeated && entry.expireAtMs !== undefined && entry.expireAtMs <= nowMs) {
      const next = ledger.end(call, entry, "expire", nowMs);
      if (next !== undefined) nexts.push(next);
      expired++;
    } else if (!isRepeated && entry.dueMs > nowMs) later.push({ id: ids.at(i), dueMs: entry.dueMs });
    else {
      const contents = records.read(entry.seq, entry.id);
      if (contents === undefined || isContradicted(entry, contents.dueMs)) {
        const next = ledger.setAside(call, entry, nowMs);
        if (next !== undefined) nexts.push(next);
        gone++;
        continue;
      }
      if (!isRepeated) takeForSending(ledger, call, entry, epoch);
      taken.add(entry.seq);
      bytes += contents.message.body.length;
      claimed.push({ ...contents.message, attempt: entry.attempt });
    }
  }
  return { claimed, later, deferred: IdList.of(deferred), gone, expired, released: stillClaimable(ledger, nexts) };
};

export const settle = (
  ledger: Ledger,
  call: Call,
  epoch: number,
  outcomes: readonly Outcome[],
  nowMs: EpochMs,
): SettleResult => {
  const { leases, entries, room } = ledger;
  leases.assertOwner(call.shard, epoch);
  const released: Released[] = [];
  for (const outcome of outcomes) {
    const entry = entries.find(call.shard, idToBytes(outcome.id));
    if (entry?.state !== "claimed") continue; // settled already: the call was repeated
    if (outcome.kind === "delivered" || outcome.kind === "bury") {
      const next =
        outcome.kind === "bury"
          ? ledger.end(call, entry, "bury", nowMs, outcome.reason)
          : ledger.end(call, entry, "deliver", nowMs);
      if (next !== undefined) released.push(asReleased(next));
      continue;
    }
    move(entry, outcome.kind);
    if (outcome.kind === "retry") entry.dueMs = outcome.dueMs;
    else entry.attempt--;
    entries.save(entry);
    room.putBack(entry);
    call.count(entry.lane, 1);
  }
  return { released };
};

const takeForSending = ({ entries, room }: Ledger, call: Call, entry: Entry, epoch: number): void => {
  room.takeOut(entry);
  move(entry, "claim");
  entry.attempt++;
  entry.epoch = epoch;
  entries.save(entry);
  call.count(entry.lane, -1);
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
