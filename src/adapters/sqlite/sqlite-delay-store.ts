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
import type { DocumentStore } from "../../documents/document-store.port.ts";
import type { TopicMemory } from "../../ingest/topic-directory.port.ts";
import { isEscapementError } from "../../message/errors.ts";
import { idBytes, idToBytes, laneOf, type MessageId } from "../../message/id.ts";
import { IdList } from "../../message/id-list.ts";
import type { DelayedMessage } from "../../message/message.ts";
import { type DurationMs, type EpochMs, hour } from "../../message/time.ts";
import type { MachineClock } from "../../runtime/clock.ts";
import type { Timers } from "../../runtime/timers.ts";
import { Desk, type Take } from "./desk.ts";
import { engineHere, engineOnItsOwnThread } from "./engine-link.ts";
import { putMessage, putOutcomes, readMessage, takeClaimed, takeWakes } from "./packing.ts";
import { asBuffer } from "./record-table.ts";
import type { Answers, LaneName, PlainStored, Request, Verb } from "./requests.ts";
import { SqliteDocumentStore } from "./sqlite-document-store.ts";
import type { SqliteFileOptions } from "./sqlite-file.ts";

/**
 * The store on one SQLite file, for a service that is one process. This file turns the port's verbs into requests to
 * the engine and its answers into what the port promises; everything that knows of the file is on the other side, on a
 * thread of its own, so that neither a slow disk nor the work of the file holds up the event loop here.
 *
 * It is single by nature: a second process is refused, so one process owns all shards and its members are kept in
 * memory. Leases and epochs hold all the same, as the port demands.
 */
export class SqliteDelayStore implements DelayStore {
  readonly shardCount: number;
  /** Both live in the same file, since only one connection can have it open. */
  readonly topicMemory: TopicMemory;
  readonly documents: DocumentStore;
  readonly #clock: MachineClock;
  readonly #desk: Desk;
  /** Member name to the end of its life. */
  readonly #members = new Map<string, number>();
  readonly #listeners: StoreListener[] = [];

  /**
   * Opens the folder's file, or makes both. Throws `store_refusing` when it is in use, not writable, damaged or newer
   * than this program, and `invalid_config` when its shard count is another.
   */
  static async open(options: SqliteDelayStoreOptions): Promise<SqliteDelayStore> {
    const { clock, timers, thread = "own", shardCount = 32, dedupeWindowMs = hour, ...file } = options;
    const engine = { ...file, shardCount, dedupeWindowMs };
    const connect = thread === "own" ? engineOnItsOwnThread : engineHere;
    const desk = await Desk.open((ends) => connect(engine, ends), { timers, clockMs: () => clock.wallMs() });
    return new SqliteDelayStore(desk, clock, shardCount);
  }

  private constructor(desk: Desk, clock: MachineClock, shardCount: number) {
    this.#desk = desk;
    this.#clock = clock;
    this.shardCount = shardCount;
    this.documents = new SqliteDocumentStore(desk);
    this.topicMemory = {
      known: () => desk.ask({ verb: "topics" }, (topics) => topics),
      remember: (topic) => desk.ask({ verb: "remember", topic }, () => undefined),
    };
  }

  async schedule(shard: number, items: readonly ScheduleItem[], _nowMs: EpochMs): Promise<ScheduleResult[]> {
    assert(items.length <= scheduleItemsMax, `${items.length} items, ${scheduleItemsMax} allowed`);
    const bytes = items.reduce((sum, { message }) => sum + message.body.length, 0);
    assert(bytes <= scheduleBytesMax, `${bytes} bytes of bodies, ${scheduleBytesMax} allowed`);
    if (items.length === 0) return [];
    const dues = items.map(({ message }) => message.deliverAtMs);
    const request = { verb: "schedule", shard, ...this.#pack(items) } as const;
    return this.#change(request, (results) => results ?? dues.map(asScheduled));
  }

  async bury(
    shard: number,
    items: readonly { message: DelayedMessage; reason: DeadReason }[],
    nowMs: EpochMs,
  ): Promise<void> {
    if (items.length === 0) return;
    const { names: _none, ...place } = this.#pack(items);
    const reasons = items.map(({ reason }) => reason);
    return this.#change({ verb: "bury", shard, reasons, nowMs, ...place }, () => undefined);
  }

  async cancel(shard: number, ids: readonly MessageId[], nowMs: EpochMs): Promise<ChangeResult[]> {
    if (ids.length === 0) return [];
    return this.#change({ verb: "cancel", shard, ids: [...ids], nowMs }, (results) => results);
  }

  async reschedule(shard: number, changes: readonly Reschedule[], _nowMs: EpochMs): Promise<ChangeResult[]> {
    if (changes.length === 0) return [];
    // Copies that the caller cannot change any more, each body in a buffer that nothing else is in.
    const own = changes.map(({ body, properties, ...change }) => ({
      ...change,
      ...(body === undefined ? {} : { body: new Uint8Array(body) }),
      ...(properties === undefined ? {} : { properties: new Map(properties) }),
    }));
    return this.#change({ verb: "reschedule", shard, changes: own }, (results) => results);
  }

  get(shard: number, ids: readonly MessageId[], _nowMs: EpochMs): Promise<(StoredMessage | undefined)[]> {
    return this.#ask({ verb: "get", shard, ids: [...ids] }, (found) =>
      found.map((one) => (one === undefined ? undefined : storedOf(one))),
    );
  }

  dead(shard: number, from: string | EpochMs | undefined, limit: number): Promise<Page<StoredMessage>> {
    return this.#ask({ verb: "dead", shard, from, limit }, ({ items, cursor }) => ({
      items: items.map(storedOf),
      cursor,
    }));
  }

  async revive(shard: number, items: readonly ReviveItem[], _nowMs: EpochMs): Promise<boolean[]> {
    assert(items.length <= scheduleItemsMax, `${items.length} items, ${scheduleItemsMax} allowed`);
    if (items.length === 0) return [];
    const diedAtMs = items.map((item) => item.diedAtMs);
    const packed = this.#pack(items.map((item) => ({ ...item, onConflict: "replace" })));
    return this.#change({ verb: "revive", shard, diedAtMs, ...packed }, (revived) => revived);
  }

  async discard(shard: number, deaths: readonly Death[], nowMs: EpochMs): Promise<boolean[]> {
    if (deaths.length === 0) return [];
    const copies = deaths.map(({ id, diedAtMs }) => ({ id, diedAtMs }));
    return this.#change({ verb: "discard", shard, deaths: copies, nowMs }, (discarded) => discarded);
  }

  stats(shard: number, nowMs: EpochMs): Promise<ShardStats> {
    return this.#ask({ verb: "stats", shard, nowMs }, (stats) => stats);
  }

  acquire(shard: number, owner: string, leaseMs: DurationMs): Promise<AcquireResult> {
    return this.#change({ verb: "acquire", shard, owner, leaseMs }, (result) => result);
  }

  renew(leases: readonly { shard: number; epoch: number }[], owner: string, leaseMs: DurationMs): Promise<boolean[]> {
    const copies = leases.map(({ shard, epoch }) => ({ shard, epoch }));
    return this.#ask({ verb: "renew", leases: copies, owner, leaseMs }, (renewed) => renewed);
  }

  release(shard: number, epoch: number, owner: string): Promise<void> {
    return this.#change({ verb: "release", shard, epoch, owner }, () => undefined);
  }

  recover(shard: number, epoch: number, limit: number, _nowMs: EpochMs): Promise<number> {
    return this.#change({ verb: "recover", shard, epoch, limit }, (count) => count);
  }

  near(shard: number, fromMs: EpochMs, untilMs: EpochMs, cursor: string | undefined, limit: number): Promise<NearPage> {
    return this.#ask({ verb: "near", shard, fromMs, untilMs, cursor, limit }, ({ ids, ...page }) => ({
      ids: new IdList(asBuffer(ids)),
      ...page,
    }));
  }

  count(shard: number, fromMs: EpochMs, untilMs: EpochMs): Promise<number> {
    return this.#ask({ verb: "count", shard, fromMs, untilMs }, (count) => count);
  }

  async claim(shard: number, epoch: number, ids: IdList, nowMs: EpochMs, bytesMax: number): Promise<ClaimResult> {
    assert(ids.length <= claimIdsMax, `${ids.length} ids, ${claimIdsMax} allowed`);
    const { parcel } = this.#desk;
    const start = parcel.length;
    parcel.room(ids.bytes.length).set(ids.bytes, start);
    parcel.length += ids.bytes.length;
    const asked = Buffer.from(ids.bytes);
    const count = ids.length;
    return this.#change(
      { verb: "claim", shard, epoch, nowMs, bytesMax, start, count },
      ({ start: at, count: claimed, deferredFrom, ...result }, bytes) => ({
        ...result,
        claimed: takeClaimed(bytes, at, claimed),
        deferred: new IdList(asked.subarray(idBytes * deferredFrom)),
      }),
    );
  }

  async settle(shard: number, epoch: number, outcomes: readonly Outcome[], nowMs: EpochMs): Promise<SettleResult> {
    assert(outcomes.length <= settleOutcomesMax, `${outcomes.length} outcomes, ${settleOutcomesMax} allowed`);
    const { parcel } = this.#desk;
    const start = parcel.length;
    const reasons = putOutcomes(parcel, outcomes);
    const request = { verb: "settle", shard, epoch, reasons, nowMs, start, count: outcomes.length } as const;
    return this.#change(request, (released) => ({ released }));
  }

  async heartbeat(member: string, ttlMs: DurationMs): Promise<string[]> {
    const nowMs = this.#clock.wallMs();
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
    const startedMs = this.#clock.monotonicMs();
    let found: { problems: readonly string[]; warnings: readonly string[] };
    try {
      found = await this.#ask({ verb: "check" }, (answer) => answer);
    } catch (error) {
      if (!isEscapementError(error)) throw error;
      // The file answers, but cannot be written to.
      const sentence = [error.message];
      found = error.code === "store_full" ? { problems: [], warnings: sentence } : { problems: sentence, warnings: [] };
    }
    const roundTripMs = this.#clock.monotonicMs() - startedMs;
    // The file goes nowhere while this process holds it. It has no time: to answer this machine's own would be to agree
    // with whatever that says.
    return { incarnation: "sqlite", roundTripMs, ...found };
  }

  /** Answers what was asked before; what comes after is refused with `store_unavailable`. */
  async close(): Promise<void> {
    await this.#desk.close();
    this.#listeners.length = 0;
  }

  #ask<V extends Verb, T>(request: Request & { readonly verb: V }, take: Take<Answers[V], T>): Promise<T> {
    return this.#desk.ask(request, take);
  }

  /** A request about one shard; what it wakes is told before it is answered. */
  #change<V extends Verb, T>(
    request: Request & { readonly verb: V; readonly shard: number },
    take: Take<Answers[V], T>,
  ): Promise<T> {
    const { shard } = request;
    assert(shard >= 0 && shard < this.shardCount, `shard ${shard} of ${this.shardCount}`);
    return this.#desk.ask<V, T>(request, (answer, bytes, wakes) => {
      const taken = take(answer, bytes, wakes);
      if (wakes === undefined) return taken;
      takeWakes(bytes, wakes.start, wakes.count, (id, idAt, lane, dueMs) => {
        for (const listener of this.#listeners) listener.onWake(shard, id, idAt, lane, dueMs);
      });
      return taken;
    });
  }

  /** Writes them into the parcel: from here on they are ours, whatever the caller does with its buffers. */
  #pack(items: readonly ScheduleItem[]): { start: number; count: number; names: LaneName[] } {
    const { parcel } = this.#desk;
    const start = parcel.length;
    const names: LaneName[] = [];
    let last: DelayedMessage | undefined;
    let lane = 0;
    for (const item of items) {
      const { message } = item;
      // What is accepted together is mostly for one topic.
      if (last?.topic !== message.topic || last.tenant !== message.tenant) {
        lane = laneOf(message.tenant, message.topic);
        names.push([lane, message.topic]);
      }
      last = message;
      putMessage(parcel, item, lane);
    }
    return { start, count: items.length, names };
  }
}

export type SqliteDelayStoreOptions = SqliteFileOptions & {
  /** The machine's own, for leases, members and tombstones: there is no other here. */
  readonly clock: MachineClock;
  readonly timers: Timers;
  /** How long ended messages stay known. Default: one hour. */
  readonly dedupeWindowMs?: DurationMs;
  /** Default 32; fixed with the first start. */
  readonly shardCount?: number;
  /** Where the file is worked on. Default: a thread of its own. `callers` answers within the turn, for the simulation. */
  readonly thread?: "own" | "callers";
};

const asScheduled = (deliverAtMs: EpochMs): ScheduleResult => ({
  outcome: "scheduled",
  state: "scheduled",
  deliverAtMs,
  attempt: 0,
});

const storedOf = ({ record, ...facts }: PlainStored): StoredMessage => {
  if (record === undefined) return facts;
  const bytes = asBuffer(record);
  return { ...facts, message: readMessage(bytes, 0, bytes.length, idToBytes(facts.id), 0, facts.attempt) };
};
