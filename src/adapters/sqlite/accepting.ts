import type { ChangeResult, DeadReason, Death, OnConflict, ScheduleResult } from "../../delay/delay-store.port.ts";
import { EscapementError } from "../../message/errors.ts";
import { idToBytes, type MessageId } from "../../message/id.ts";
import type { DelayedMessage } from "../../message/message.ts";
import { nextState } from "../../message/state.ts";
import type { EpochMs } from "../../message/time.ts";
import { type Entry, move } from "./entry-table.ts";
import { type Call, factsOf, type Ledger } from "./ledger.ts";
import { readMessage } from "./packing.ts";
import { asBuffer, encodeRecord } from "./record-table.ts";
import type { Answers, PlainReschedule } from "./requests.ts";

/** What anyone may do to messages: the verbs of the port, each inside a transaction that someone else holds. */

/** Undefined when all of them were new. */
export const schedule = (ledger: Ledger, call: Call, items: readonly Accepted[]): Answers["schedule"] => {
  const results = items.map((item) => scheduleOne(ledger, call, item));
  return results.every(({ outcome }) => outcome === "scheduled") ? undefined : results;
};

const scheduleOne = (ledger: Ledger, call: Call, item: Accepted): ScheduleResult => {
  const { onConflict, wakeUntilMs } = item;
  const { entries, dead, records, room } = ledger;
  // A fresh random id cannot be known; a caller that is wrong about that runs into the table's key.
  const entry = onConflict === undefined ? undefined : entries.find(call.shard, item.id);
  if (entry === undefined) {
    const added = newEntry(ledger, call, item);
    entries.add(added, onConflict !== undefined);
    wakeRisen(ledger, call, added, enter(ledger, call, added), wakeUntilMs);
    return { outcome: "scheduled", ...factsOf(added) };
  }
  if (onConflict !== "replace") return { outcome: "kept", ...factsOf(entry) };

  const event = entry.state === "scheduled" ? "reschedule" : "revive";
  if (nextState(entry.state, event) === undefined) return { outcome: "too_late", ...factsOf(entry) };
  let next: Entry | undefined;
  if (event === "reschedule") {
    next = room.leave(entry);
    call.count(entry.lane, -1);
    records.put(entry.seq, item.id, item.record);
  } else {
    if (entry.state === "dead") {
      dead.remove(entry);
      records.remove(entry.seq);
    }
    entry.seq = records.add(item.id, item.record);
    entry.endedAtMs = undefined;
    entry.forgetAtMs = undefined;
  }
  move(entry, event);
  entry.dueMs = item.deliverAtMs;
  entry.attempt = 0;
  entry.lane = item.lane;
  entry.expireAtMs = item.expireAtMs;
  entry.group = item.group;
  entries.save(entry);
  wakeRisen(ledger, call, entry, enter(ledger, call, entry), wakeUntilMs);
  wakeNext(ledger, call, next);
  return { outcome: "replaced", ...factsOf(entry) };
};

export const bury = (
  ledger: Ledger,
  call: Call,
  items: readonly Accepted[],
  reasons: readonly DeadReason[],
  nowMs: EpochMs,
): void => {
  items.forEach((accepted, i) => {
    if (ledger.entries.find(call.shard, accepted.id) !== undefined) return; // buried already: the call was repeated
    const entry = newEntry(ledger, call, accepted);
    entry.state = "dead";
    entry.attempt = accepted.attempt;
    entry.group = undefined;
    entry.endedAtMs = nowMs;
    ledger.entries.add(entry, true);
    ledger.dead.add(entry, reasons[i]!);
  });
};

export const revive = (
  ledger: Ledger,
  call: Call,
  items: readonly Accepted[],
  diedAtMs: readonly EpochMs[],
): boolean[] =>
  items.map((item, i) => {
    if (!isDeath(ledger.entries.find(call.shard, item.id), diedAtMs[i]!)) return false;
    scheduleOne(ledger, call, item);
    return true;
  });

export const discard = (ledger: Ledger, call: Call, deaths: readonly Death[], nowMs: EpochMs): boolean[] =>
  deaths.map(({ id, diedAtMs }) => {
    const entry = ledger.entries.find(call.shard, idToBytes(id));
    if (!isDeath(entry, diedAtMs)) return false;
    ledger.discard(entry, nowMs);
    return true;
  });

const isDeath = (entry: Entry | undefined, diedAtMs: EpochMs): entry is Entry =>
  entry?.state === "dead" && entry.endedAtMs === diedAtMs;

export const cancel = (ledger: Ledger, call: Call, ids: readonly MessageId[], nowMs: EpochMs): ChangeResult[] =>
  ids.map((id) => {
    const entry = ledger.entries.find(call.shard, idToBytes(id));
    if (entry === undefined) return { outcome: "not_found" };
    if (entry.state === "canceled") return { outcome: "done", ...factsOf(entry) };
    if (nextState(entry.state, "cancel") === undefined) return { outcome: "too_late", ...factsOf(entry) };
    wakeNext(ledger, call, ledger.end(call, entry, "cancel", nowMs));
    return { outcome: "done", ...factsOf(entry) };
  });

export const reschedule = (ledger: Ledger, call: Call, changes: readonly PlainReschedule[]): ChangeResult[] =>
  changes.map((change) => {
    const { entries, records, room } = ledger;
    const entry = entries.find(call.shard, idToBytes(change.id));
    if (entry === undefined) return { outcome: "not_found" };
    if (nextState(entry.state, "reschedule") === undefined) return { outcome: "too_late", ...factsOf(entry) };
    const record = records.read(entry.seq, entry.id);
    if (record === undefined) {
      throw new EscapementError("store_refusing", `the record of ${change.id} is damaged; cancel it, or replace it.`);
    }
    const message = changed(readMessage(record, 0, record.length, asBuffer(entry.id), 0, 0), change);
    // Leaving and entering again is what puts it in its new place, among the due and in its group.
    const next = room.leave(entry);
    call.count(entry.lane, -1);
    move(entry, "reschedule");
    records.put(entry.seq, entry.id, encodeRecord(message));
    entry.dueMs = message.deliverAtMs;
    entry.expireAtMs = message.expireAtMs;
    entries.save(entry);
    wakeRisen(ledger, call, entry, enter(ledger, call, entry), change.wakeUntilMs);
    wakeNext(ledger, call, next);
    const waiting = room.isClaimable(entry) ? { waiting: { lane: entry.lane, dueMs: entry.dueMs } } : {};
    return { outcome: "done", ...factsOf(entry), ...waiting };
  });

/** A message as it came in its parcel; its bytes are views that end with the call. */
export type Accepted = {
  readonly id: Buffer;
  readonly record: Buffer;
  readonly lane: number;
  readonly group: Uint8Array | undefined;
  readonly deliverAtMs: EpochMs;
  readonly expireAtMs: EpochMs | undefined;
  readonly attempt: number;
  readonly onConflict: OnConflict | undefined;
  readonly wakeUntilMs: EpochMs | undefined;
};

const newEntry = ({ records }: Ledger, { shard }: Call, item: Accepted): Entry => ({
  id: item.id,
  shard,
  state: "scheduled",
  seq: records.add(item.id, item.record),
  dueMs: item.deliverAtMs,
  attempt: 0,
  lane: item.lane,
  expireAtMs: item.expireAtMs,
  group: item.group,
  endedAtMs: undefined,
  forgetAtMs: undefined,
});

const enter = ({ room }: Ledger, call: Call, entry: Entry): Entry | undefined => {
  call.count(entry.lane, 1);
  return room.enter(entry);
};

/** Tells of what came in if it is due soon, and of who took another's place instead of it in any case. */
const wakeRisen = (
  ledger: Ledger,
  call: Call,
  entry: Entry,
  risen: Entry | undefined,
  wakeUntilMs: EpochMs | undefined,
): void => {
  if (risen?.seq !== entry.seq) wakeNext(ledger, call, risen);
  else if (wakeUntilMs !== undefined && entry.dueMs <= wakeUntilMs) call.wake(entry);
};

/** Who became head because of another is always told of: nobody else knows its due, which may be long past. */
const wakeNext = ({ room }: Ledger, call: Call, next: Entry | undefined): void => {
  if (next !== undefined && room.isClaimable(next)) call.wake(next);
};

const changed = (message: DelayedMessage, change: PlainReschedule): DelayedMessage => {
  const { expireAtMs: kept, ...rest } = message;
  const expireAtMs = change.expireAtMs === undefined ? kept : change.expireAtMs;
  return {
    ...rest,
    ...(expireAtMs === undefined || expireAtMs === null ? {} : { expireAtMs }),
    deliverAtMs: change.deliverAtMs,
    body: change.body === undefined ? message.body : asBuffer(change.body),
    properties: change.properties ?? message.properties,
  };
};
