import assert from "node:assert/strict";
import {
  type AcquireResult,
  type ChangeResult,
  type ClaimResult,
  claimIdsMax,
  type DeadReason,
  type Death,
  type DelayStore,
  type NearPage,
  type Outcome,
  type Page,
  type Released,
  type Reschedule,
  type ReviveItem,
  type ScheduleItem,
  type ScheduleResult,
  type SettleResult,
  type ShardStats,
  type StoreCheck,
  type StoredMessage,
  type StoreListener,
  scheduleBytesMax,
  scheduleItemsMax,
  settleOutcomesMax,
} from "../../delay/delay-store.port.ts";
import { EscapementError } from "../../message/errors.ts";
import { idToBytes, laneOf, type MessageId } from "../../message/id.ts";
import { IdList } from "../../message/id-list.ts";
import type { DelayedMessage } from "../../message/message.ts";
import { type MessageEvent, nextState } from "../../message/state.ts";
import { type DurationMs, type EpochMs, epochMs, hour, minute } from "../../message/time.ts";
import { SortedList } from "./sorted-list.ts";
import { type Waiting, WaitingRoom } from "./waiting-room.ts";

/**
 * The store to read first: every verb of the port in its plainest form, on maps and sorted arrays. It is what the
 * simulation runs on and what other stores are compared with. It is not for production: everything ends with the
 * process.
 *
 * Every method does all its work before it first yields, so each call is one atomic step, as the port promises. There
 * is no chance in it, and its own clock (for leases, members and tombstones) is a function, so that a test can live
 * through an hour at once.
 */
export class MemoryDelayStore implements DelayStore {
  readonly shardCount: number;
  readonly #clockMs: () => number;
  readonly #dedupeWindowMs: DurationMs;
  readonly #shards: Shard[];
  /** Member name to the end of its life. */
  readonly #members = new Map<string, number>();
  readonly #listeners: StoreListener[] = [];

  constructor(options: MemoryDelayStoreOptions) {
    this.shardCount = options.shardCount ?? 32;
    this.#clockMs = options.clockMs;
    this.#dedupeWindowMs = options.dedupeWindowMs ?? hour;
    this.#shards = Array.from({ length: this.shardCount }, emptyShard);
  }

  async schedule(shard: number, items: readonly ScheduleItem[]): Promise<ScheduleResult[]> {
    assert(items.length <= scheduleItemsMax, `${items.length} items, ${scheduleItemsMax} allowed`);
    const bytes = items.reduce((sum, item) => sum + item.message.body.length, 0);
    assert(bytes <= scheduleBytesMax, `${bytes} bytes of bodies, ${scheduleBytesMax} allowed`);
    const { entries } = this.#open(shard);
    const fresh = new Set<MessageId>();
    for (const { message, onConflict } of items) {
      if (onConflict !== undefined) continue;
      assert(!entries.has(message.id) && !fresh.has(message.id), `${message.id} is not fresh: say onConflict`);
      fresh.add(message.id);
    }
    return items.map((item) => this.#scheduleOne(shard, item));
  }

  #scheduleOne(shard: number, { message, onConflict, wakeUntilMs }: ScheduleItem): ScheduleResult {
    const { entries, room, tombstones, dead, takeOrder } = this.#open(shard);
    const entry = entries.get(message.id);
    if (entry === undefined) {
      const accepted = newEntry(message, takeOrder());
      entries.set(message.id, accepted);
      this.#wakeRisen(shard, accepted, room.enter(accepted), wakeUntilMs);
      return { outcome: "scheduled", ...factsOf(accepted) };
    }
    if (onConflict !== "replace") return { outcome: "kept", ...factsOf(entry) };

    const event = entry.state === "scheduled" ? "reschedule" : "revive";
    if (nextState(entry.state, event) === undefined) return { outcome: "too_late", ...factsOf(entry) };
    const next = event === "reschedule" ? room.leave(entry) : undefined;
    if (event === "revive") {
      dead.remove(entry);
      tombstones.delete(entry.id);
      entry.order = takeOrder();
      entry.endedAtMs = undefined;
      entry.reason = undefined;
    }
    move(entry, event);
    entry.message = ownCopy(message);
    entry.dueMs = message.deliverAtMs;
    entry.attempt = 0;
    this.#wakeRisen(shard, entry, room.enter(entry), wakeUntilMs);
    this.#wakeNext(shard, next);
    return { outcome: "replaced", ...factsOf(entry) };
  }

  async bury(shard: number, items: readonly { message: DelayedMessage; reason: DeadReason }[], nowMs: EpochMs) {
    const { entries, dead, takeOrder } = this.#open(shard);
    for (const { message, reason } of items) {
      if (entries.has(message.id)) continue; // buried already: the call was repeated
      const entry: Entry = { ...newEntry(message, takeOrder()), state: "dead", attempt: message.attempt };
      entry.endedAtMs = nowMs;
      entry.reason = reason;
      entries.set(entry.id, entry);
      dead.add(entry);
    }
  }

  async cancel(shard: number, ids: readonly MessageId[], nowMs: EpochMs): Promise<ChangeResult[]> {
    const { entries } = this.#open(shard);
    return ids.map((id) => {
      const entry = entries.get(id);
      if (entry === undefined) return { outcome: "not_found" };
      if (entry.state === "canceled") return { outcome: "done", ...factsOf(entry) };
      if (nextState(entry.state, "cancel") === undefined) return { outcome: "too_late", ...factsOf(entry) };
      this.#wakeNext(shard, this.#end(shard, entry, "cancel", nowMs));
      return { outcome: "done", ...factsOf(entry) };
    });
  }

  async reschedule(shard: number, changes: readonly Reschedule[]): Promise<ChangeResult[]> {
    const { entries, room } = this.#open(shard);
    return changes.map((change) => {
      const entry = entries.get(change.id);
      if (entry === undefined) return { outcome: "not_found" };
      if (nextState(entry.state, "reschedule") === undefined) return { outcome: "too_late", ...factsOf(entry) };
      // Leaving and entering again is what puts it in its new place, among the due and in its group.
      const next = room.leave(entry);
      move(entry, "reschedule");
      entry.message = changed(entry.message, change);
      entry.dueMs = change.deliverAtMs;
      this.#wakeRisen(shard, entry, room.enter(entry), change.wakeUntilMs);
      this.#wakeNext(shard, next);
      const waiting = room.isClaimable(entry) ? { waiting: { lane: laneOfEntry(entry), dueMs: entry.dueMs } } : {};
      return { outcome: "done", ...factsOf(entry), ...waiting };
    });
  }

  async get(shard: number, ids: readonly MessageId[]): Promise<(StoredMessage | undefined)[]> {
    const { entries } = this.#open(shard);
    return ids.map((id) => {
      const entry = entries.get(id);
      return entry === undefined ? undefined : stored(entry);
    });
  }

  async dead(shard: number, from: string | EpochMs | undefined, limit: number): Promise<Page<StoredMessage>> {
    const { dead } = this.#open(shard);
    const isBefore =
      typeof from === "number"
        ? (entry: Entry) => entry.endedAtMs! < from
        : (entry: Entry) => isUpTo(parseCursor(from), entry.endedAtMs!, entry.order);
    const page = dead.page(isBefore, limit);
    const last = page.at(-1);
    const isLast = page.length < limit || last === undefined;
    return { items: page.map(stored), cursor: isLast ? undefined : `${last.endedAtMs}:${last.order}` };
  }

  async revive(shard: number, items: readonly ReviveItem[]): Promise<boolean[]> {
    assert(items.length <= scheduleItemsMax, `${items.length} items, ${scheduleItemsMax} allowed`);
    const { entries } = this.#open(shard);
    return items.map(({ diedAtMs, ...item }) => {
      if (!isDeath(entries.get(item.message.id), diedAtMs)) return false;
      this.#scheduleOne(shard, { ...item, onConflict: "replace" });
      return true;
    });
  }

  async discard(shard: number, deaths: readonly Death[], nowMs: EpochMs): Promise<boolean[]> {
    const { entries, dead } = this.#open(shard);
    return deaths.map(({ id, diedAtMs }) => {
      const entry = entries.get(id);
      if (!isDeath(entry, diedAtMs)) return false;
      dead.remove(entry);
      entry.reason = undefined;
      this.#leaveTombstone(shard, entry, "discard", nowMs);
      return true;
    });
  }

  async stats(shard: number, nowMs: EpochMs): Promise<ShardStats> {
    const { entries, room, lease, dead } = this.#open(shard);
    const waitingByTopic = new Map<string, number>();
    let claimed = 0;
    for (const { state, message } of entries.values()) {
      if (state === "claimed") claimed++;
      if (state === "scheduled") waitingByTopic.set(message.topic, (waitingByTopic.get(message.topic) ?? 0) + 1);
    }
    // Who stands behind the head of a group has no due of its own yet, so only claimable messages count from here on.
    let dueNow = 0;
    const duePerMinute = new Array<number>(60).fill(0);
    const duePerHour = new Array<number>(24).fill(0);
    for (const { dueMs } of room.claimable) {
      const inMs = dueMs - nowMs;
      if (inMs <= 0) dueNow++;
      else {
        countInto(duePerMinute, Math.ceil(inMs / minute) - 1);
        countInto(duePerHour, Math.ceil(inMs / hour) - 1);
      }
    }
    const owner = this.#isHeld(lease) ? lease.owner : undefined;
    return { owner, epoch: lease.epoch, waitingByTopic, claimed, dead: dead.size, dueNow, duePerMinute, duePerHour };
  }

  async acquire(shard: number, owner: string, leaseMs: DurationMs): Promise<AcquireResult> {
    const { lease } = this.#open(shard);
    if (this.#isHeld(lease) && lease.owner !== owner) {
      return { outcome: "held", owner: lease.owner!, expiresInMs: lease.endsAtMs - this.#clockMs() };
    }
    if (!this.#isHeld(lease)) lease.epoch++;
    lease.owner = owner;
    lease.endsAtMs = this.#clockMs() + leaseMs;
    return { outcome: "acquired", epoch: lease.epoch };
  }

  async renew(leases: readonly { shard: number; epoch: number }[], owner: string, leaseMs: DurationMs) {
    return leases.map(({ shard, epoch }) => {
      const { lease } = this.#open(shard);
      const isOurs = this.#isHeld(lease) && lease.owner === owner && lease.epoch === epoch;
      if (isOurs) lease.endsAtMs = this.#clockMs() + leaseMs;
      return isOurs;
    });
  }

  async release(shard: number, epoch: number, owner: string): Promise<void> {
    const { lease } = this.#open(shard);
    if (lease.owner === owner && lease.epoch === epoch) lease.owner = undefined;
  }

  async recover(shard: number, epoch: number, limit: number): Promise<number> {
    const { entries, room } = this.#openAsOwner(shard, epoch);
    let recovered = 0;
    for (const entry of entries.values()) {
      if (recovered === limit) break;
      if (entry.state !== "claimed" || entry.claimedInEpoch === epoch) continue;
      // The attempt stays counted: a message that kills its dispatcher must run out of attempts too.
      move(entry, "give_back");
      room.putBack(entry);
      recovered++;
    }
    return recovered;
  }

  async near(shard: number, fromMs: EpochMs, untilMs: EpochMs, cursor: string | undefined, limit: number) {
    const { claimable } = this.#open(shard).room;
    const after = parseCursor(cursor);
    const entries = claimable
      .page((entry) => entry.dueMs < fromMs || isUpTo(after, entry.dueMs, entry.order), limit)
      .filter((entry) => entry.dueMs <= untilMs);
    const last = entries.at(-1);
    const page: NearPage = {
      ids: IdList.of(entries.map((entry) => entry.id)),
      lanes: Uint32Array.from(entries, laneOfEntry),
      dueMs: Float64Array.from(entries, (entry) => entry.dueMs),
      cursor: last === undefined || entries.length < limit ? undefined : `${last.dueMs}:${last.order}`,
    };
    return page;
  }

  async count(shard: number, fromMs: EpochMs, untilMs: EpochMs): Promise<number> {
    const { claimable } = this.#open(shard).room;
    const before = claimable.countBefore(({ dueMs }) => dueMs < fromMs);
    return Math.max(0, claimable.countBefore(({ dueMs }) => dueMs <= untilMs) - before);
  }

  async claim(shard: number, epoch: number, ids: IdList, nowMs: EpochMs, bytesMax: number): Promise<ClaimResult> {
    assert(ids.length <= claimIdsMax, `${ids.length} ids, ${claimIdsMax} allowed`);
    const { entries, room } = this.#openAsOwner(shard, epoch);
    const claimed: DelayedMessage[] = [];
    const later: { id: MessageId; dueMs: EpochMs }[] = [];
    const deferred: MessageId[] = [];
    const nexts: Entry[] = [];
    const taken = new Set<MessageId>();
    let bytes = 0;
    let gone = 0;
    let expired = 0;
    for (const id of ids.toArray()) {
      const entry = entries.get(id);
      // Claimed by this owner before this call: its reply was lost, so it is handed out again as it was.
      const isRepeated = entry?.state === "claimed" && entry.claimedInEpoch === epoch && !taken.has(id);
      if (bytes > bytesMax) deferred.push(id);
      else if (entry === undefined || !(isRepeated || room.isClaimable(entry))) gone++;
      else if (!isRepeated && entry.message.expireAtMs !== undefined && entry.message.expireAtMs <= nowMs) {
        const next = this.#end(shard, entry, "expire", nowMs);
        if (next !== undefined) nexts.push(next);
        expired++;
      } else if (!isRepeated && entry.dueMs > nowMs) later.push({ id, dueMs: entry.dueMs });
      else {
        if (!isRepeated) takeForSending(entry, room, epoch);
        taken.add(id);
        bytes += entry.message.body.length;
        claimed.push({ ...entry.message, attempt: entry.attempt });
      }
    }
    // One that became head may have been claimed or have expired itself further down the list.
    const released = nexts.filter((next) => room.isClaimable(next)).map(asReleased);
    return { claimed, later, deferred: IdList.of(deferred), gone, expired, released };
  }

  async settle(shard: number, epoch: number, outcomes: readonly Outcome[], nowMs: EpochMs): Promise<SettleResult> {
    assert(outcomes.length <= settleOutcomesMax, `${outcomes.length} outcomes, ${settleOutcomesMax} allowed`);
    const { entries, room } = this.#openAsOwner(shard, epoch);
    const released: Released[] = [];
    for (const outcome of outcomes) {
      const entry = entries.get(outcome.id);
      if (entry?.state !== "claimed") continue; // settled already: the call was repeated
      if (outcome.kind === "delivered" || outcome.kind === "bury") {
        if (outcome.kind === "bury") entry.reason = outcome.reason;
        const next = this.#end(shard, entry, outcome.kind === "bury" ? "bury" : "deliver", nowMs);
        if (next !== undefined) released.push(asReleased(next));
        continue;
      }
      move(entry, outcome.kind);
      if (outcome.kind === "retry") entry.dueMs = outcome.dueMs;
      else entry.attempt--;
      room.putBack(entry);
    }
    return { released };
  }

  async heartbeat(member: string, ttlMs: DurationMs): Promise<string[]> {
    const nowMs = this.#clockMs();
    for (const [other, endsAtMs] of this.#members) if (endsAtMs <= nowMs) this.#members.delete(other);
    const isNew = !this.#members.has(member);
    this.#members.set(member, nowMs + ttlMs);
    if (isNew) for (const listener of this.#listeners) listener.onMembersChanged();
    return [...this.#members.keys()].sort();
  }

  async leave(member: string): Promise<void> {
    if (this.#members.delete(member)) for (const listener of this.#listeners) listener.onMembersChanged();
  }

  async listen(listener: StoreListener): Promise<void> {
    this.#listeners.push(listener);
  }

  async check(): Promise<StoreCheck> {
    const warnings = ["messages are kept in this process's memory only: they end with it"];
    return { incarnation: "memory", timeMs: epochMs(this.#clockMs()), roundTripMs: 0, problems: [], warnings };
  }

  async close(): Promise<void> {
    this.#listeners.length = 0;
  }

  #open(shard: number): Shard {
    const found = this.#shards[shard];
    assert(found !== undefined, `shard ${shard} of ${this.shardCount}`);
    for (const entry of found.tombstones.values()) {
      if (entry.forgetAtMs > this.#clockMs()) break; // they lie in the order of their ending
      found.tombstones.delete(entry.id);
      found.entries.delete(entry.id);
    }
    return found;
  }

  #openAsOwner(shard: number, epoch: number): Shard {
    const found = this.#open(shard);
    if (found.lease.epoch !== epoch) {
      throw new EscapementError(
        "fenced",
        `shard ${shard} is at epoch ${found.lease.epoch}, this call came from ${epoch}`,
      );
    }
    return found;
  }

  #isHeld(lease: Lease): boolean {
    return lease.owner !== undefined && lease.endsAtMs > this.#clockMs();
  }

  /** Ends a message and answers the next of its group. The dead stay whole; the others become tombstones for a while. */
  #end(shard: number, entry: Entry, event: MessageEvent, nowMs: EpochMs): Entry | undefined {
    const { room, dead } = this.#open(shard);
    const next = room.leave(entry);
    if (event === "bury") {
      move(entry, event);
      entry.endedAtMs = nowMs;
      dead.add(entry);
    } else this.#leaveTombstone(shard, entry, event, nowMs);
    return next;
  }

  #leaveTombstone(shard: number, entry: Entry, event: MessageEvent, nowMs: EpochMs): void {
    move(entry, event);
    entry.endedAtMs = nowMs;
    entry.message = { ...entry.message, body: Buffer.alloc(0), properties: new Map() };
    entry.forgetAtMs = this.#clockMs() + this.#dedupeWindowMs;
    this.#open(shard).tombstones.set(entry.id, entry);
  }

  /** Tells of what came in if it is due soon, and of who took another's place instead of it in any case. */
  #wakeRisen(shard: number, entry: Entry, risen: Entry | undefined, wakeUntilMs: EpochMs | undefined): void {
    if (risen !== entry) this.#wakeNext(shard, risen);
    else if (wakeUntilMs !== undefined && entry.dueMs <= wakeUntilMs) this.#wake(shard, entry);
  }

  /** Who became head because of another is always told of: nobody else knows its due, which may be long past. */
  #wakeNext(shard: number, next: Entry | undefined): void {
    if (next !== undefined && this.#open(shard).room.isClaimable(next)) this.#wake(shard, next);
  }

  #wake(shard: number, entry: Entry): void {
    const id = idToBytes(entry.id);
    for (const listener of this.#listeners) listener.onWake(shard, id, 0, laneOfEntry(entry), entry.dueMs);
  }
}

export type MemoryDelayStoreOptions = {
  /** The store's own clock, as a database has one; epoch ms. */
  readonly clockMs: () => number;
  /** How long ended messages stay known. Default: one hour. */
  readonly dedupeWindowMs?: DurationMs;
  /** Default: 32. */
  readonly shardCount?: number;
};

type Entry = Waiting & {
  endedAtMs: EpochMs | undefined;
  reason: DeadReason | undefined;
  claimedInEpoch: number;
  /** When a tombstone is forgotten, on the store's own clock. */
  forgetAtMs: number;
};

type Lease = { owner: string | undefined; epoch: number; endsAtMs: number };

type Shard = {
  readonly lease: Lease;
  readonly entries: Map<MessageId, Entry>;
  /** Scheduled and claimed messages. */
  readonly room: WaitingRoom<Entry>;
  /** Ended messages that are not dead, in the order of their ending. */
  readonly tombstones: Map<MessageId, Entry>;
  readonly dead: SortedList<Entry>;
  readonly takeOrder: () => number;
};

const emptyShard = (): Shard => {
  let accepted = 0;
  return {
    lease: { owner: undefined, epoch: 0, endsAtMs: 0 },
    entries: new Map(),
    room: new WaitingRoom(),
    tombstones: new Map(),
    dead: new SortedList((a, b) => a.endedAtMs! - b.endedAtMs! || a.order - b.order),
    takeOrder: () => ++accepted,
  };
};

const newEntry = (message: DelayedMessage, order: number): Entry => ({
  id: message.id,
  message: ownCopy(message),
  state: "scheduled",
  dueMs: message.deliverAtMs,
  attempt: 0,
  order,
  endedAtMs: undefined,
  reason: undefined,
  claimedInEpoch: 0,
  forgetAtMs: 0,
});

/** The one place where a state changes. */
const move = (entry: Entry, event: MessageEvent): void => {
  const next = nextState(entry.state, event);
  assert(next !== undefined, `${entry.id} is ${entry.state}: ${event} is not possible`);
  entry.state = next;
};

const isDeath = (entry: Entry | undefined, diedAtMs: EpochMs): entry is Entry =>
  entry?.state === "dead" && entry.endedAtMs === diedAtMs;

const takeForSending = (entry: Entry, room: WaitingRoom<Entry>, epoch: number): void => {
  move(entry, "claim");
  room.takeOut(entry);
  entry.attempt++;
  entry.claimedInEpoch = epoch;
};

/** The caller may use its buffer again, as with a store that writes it to a socket. */
const ownCopy = (message: DelayedMessage): DelayedMessage => ({
  ...message,
  keys: [...message.keys],
  properties: new Map(message.properties),
  body: Buffer.from(message.body),
});

const changed = (message: DelayedMessage, change: Reschedule): DelayedMessage => {
  const { expireAtMs: kept, ...rest } = message;
  const expireAtMs = change.expireAtMs === undefined ? kept : change.expireAtMs;
  return ownCopy({
    ...rest,
    ...(expireAtMs === undefined || expireAtMs === null ? {} : { expireAtMs }),
    deliverAtMs: change.deliverAtMs,
    body: change.body ?? message.body,
    properties: change.properties ?? message.properties,
  });
};

const factsOf = ({ state, dueMs, attempt }: Entry) => ({ state, deliverAtMs: dueMs, attempt });

const stored = (entry: Entry): StoredMessage => {
  const isWhole = entry.state === "scheduled" || entry.state === "claimed" || entry.state === "dead";
  return {
    id: entry.id,
    ...factsOf(entry),
    ...(entry.endedAtMs === undefined ? {} : { endedAtMs: entry.endedAtMs }),
    ...(entry.reason === undefined ? {} : { reason: entry.reason }),
    ...(isWhole ? { message: { ...entry.message, attempt: entry.attempt } } : {}),
  };
};

const laneOfEntry = ({ message }: Entry): number => laneOf(message.tenant, message.topic);

const asReleased = (entry: Entry): Released => ({ id: entry.id, lane: laneOfEntry(entry), dueMs: entry.dueMs });

const countInto = (buckets: number[], index: number): void => {
  if (index < buckets.length) buckets[index]!++;
};

/** A page continues behind (time, order) of the last item of the page before, whether or not that is still there. */
type Position = { readonly timeMs: number; readonly order: number };

const parseCursor = (cursor: string | undefined): Position => {
  const [timeMs, order] = cursor === undefined ? [-1, 0] : cursor.split(":").map(Number);
  return { timeMs: timeMs!, order: order! };
};

const isUpTo = (position: Position, timeMs: number, order: number): boolean =>
  timeMs < position.timeMs || (timeMs === position.timeMs && order <= position.order);
