import assert from "node:assert/strict";
import type { DatabaseSync } from "node:sqlite";
import {
  type AcquireResult,
  type ChangeResult,
  type ClaimResult,
  claimIdsMax,
  type DeadReason,
  type DelayStore,
  type NearPage,
  type Outcome,
  type Page,
  type Reschedule,
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
import { EscapementError, isEscapementError } from "../../message/errors.ts";
import type { MessageId } from "../../message/id.ts";
import { IdList } from "../../message/id-list.ts";
import type { DelayedMessage } from "../../message/message.ts";
import { type DurationMs, type EpochMs, epochMs, hour } from "../../message/time.ts";
import type { MachineClock } from "../../runtime/clock.ts";
import type { Timers } from "../../runtime/timers.ts";
import * as accepting from "./accepting.ts";
import { GroupCommit } from "./group-commit.ts";
import { Housekeeping } from "./housekeeping.ts";
import { Call, Ledger } from "./ledger.ts";
import * as owning from "./owning.ts";
import * as reading from "./reading.ts";
import { openSqliteFile, type SqliteFileOptions } from "./sqlite-file.ts";
import { SqliteTopicMemory } from "./sqlite-topic-memory.ts";

/**
 * The store on one SQLite file, for a service that is one process. This file only turns the port's verbs into work
 * for the group commit; what a verb does is in accepting.ts, owning.ts and reading.ts, the tables are in schema.ts.
 *
 * It is single by nature: a second process is refused, so one process owns all shards and its members are kept in
 * memory. Leases and epochs hold all the same, as the port demands. Every commit holds up the process for the time of
 * one fsync; that is the price of having nothing to install.
 */
export class SqliteDelayStore implements DelayStore {
  readonly shardCount: number;
  /** Lives in the same file, since only one connection can have it open. */
  readonly topicMemory: SqliteTopicMemory;
  readonly #db: DatabaseSync;
  readonly #clock: MachineClock;
  readonly #ledger: Ledger;
  readonly #commits: GroupCommit;
  readonly #housekeeping: Housekeeping;
  /** Member name to the end of its life. */
  readonly #members = new Map<string, number>();
  readonly #listeners: StoreListener[] = [];

  /**
   * Opens the folder's file, or makes both. Throws `store_refusing` when it is in use, not writable, damaged or newer
   * than this program, and `invalid_config` when its shard count is another.
   */
  static open(options: SqliteDelayStoreOptions): SqliteDelayStore {
    const { db, path } = openSqliteFile(options);
    try {
      return new SqliteDelayStore(options, db, path);
    } catch (error) {
      db.close();
      throw error;
    }
  }

  private constructor(options: SqliteDelayStoreOptions, db: DatabaseSync, path: string) {
    this.shardCount = options.shardCount ?? 32;
    this.#db = db;
    this.#clock = options.clock;
    claimShardCount(db, path, this.shardCount);
    this.#ledger = new Ledger(db, () => this.#clock.wallMs(), options.dedupeWindowMs ?? hour);
    this.#housekeeping = new Housekeeping(db, this.#ledger.entries);
    this.#commits = new GroupCommit({
      db,
      path,
      timers: options.timers,
      beforeCommit: () => this.#housekeeping.forget(),
      undone: () => this.#ledger.counts.doubtNames(),
      afterCommit: () => this.#housekeeping.shrinkSometimes(),
    });
    this.topicMemory = new SqliteTopicMemory(db, this.#commits);
  }

  async schedule(shard: number, items: readonly ScheduleItem[], _nowMs: EpochMs): Promise<ScheduleResult[]> {
    assert(items.length <= scheduleItemsMax, `${items.length} items, ${scheduleItemsMax} allowed`);
    const bytes = items.reduce((sum, { message }) => sum + message.body.length, 0);
    assert(bytes <= scheduleBytesMax, `${bytes} bytes of bodies, ${scheduleBytesMax} allowed`);
    if (items.length === 0) return [];
    const copies = items.map(accepting.accepted);
    return this.#change(shard, (call) => accepting.schedule(this.#ledger, call, copies));
  }

  async bury(
    shard: number,
    items: readonly { message: DelayedMessage; reason: DeadReason }[],
    nowMs: EpochMs,
  ): Promise<void> {
    if (items.length === 0) return;
    const copies = items.map(({ message, reason }) => ({ accepted: accepting.accepted({ message }), reason }));
    return this.#change(shard, (call) => accepting.bury(this.#ledger, call, copies, nowMs));
  }

  async cancel(shard: number, ids: readonly MessageId[], nowMs: EpochMs): Promise<ChangeResult[]> {
    if (ids.length === 0) return [];
    const copies = [...ids];
    return this.#change(shard, (call) => accepting.cancel(this.#ledger, call, copies, nowMs));
  }

  async reschedule(shard: number, changes: readonly Reschedule[], _nowMs: EpochMs): Promise<ChangeResult[]> {
    if (changes.length === 0) return [];
    const copies = changes.map(accepting.ownChange);
    return this.#change(shard, (call) => accepting.reschedule(this.#ledger, call, copies));
  }

  get(shard: number, ids: readonly MessageId[], _nowMs: EpochMs): Promise<(StoredMessage | undefined)[]> {
    const copies = [...ids];
    return this.#read(() => reading.get(this.#ledger, shard, copies));
  }

  dead(shard: number, cursor: string | undefined, limit: number): Promise<Page<StoredMessage>> {
    return this.#read(() => reading.dead(this.#ledger, shard, cursor, limit));
  }

  stats(shard: number, nowMs: EpochMs): Promise<ShardStats> {
    return this.#read(() => reading.stats(this.#ledger, shard, nowMs));
  }

  acquire(shard: number, owner: string, leaseMs: DurationMs): Promise<AcquireResult> {
    return this.#change(shard, () => this.#ledger.leases.acquire(shard, owner, leaseMs));
  }

  async renew(leases: readonly { shard: number; epoch: number }[], owner: string, leaseMs: DurationMs) {
    const copies = [...leases];
    return this.#commits.do({
      writes: true,
      run: () => copies.map(({ shard, epoch }) => this.#ledger.leases.renew(shard, epoch, owner, leaseMs)),
    });
  }

  release(shard: number, epoch: number, owner: string): Promise<void> {
    return this.#change(shard, () => this.#ledger.leases.release(shard, epoch, owner));
  }

  recover(shard: number, epoch: number, limit: number, _nowMs: EpochMs): Promise<number> {
    return this.#change(shard, (call) => owning.recover(this.#ledger, call, epoch, Math.min(limit, recoverMax)));
  }

  near(shard: number, fromMs: EpochMs, untilMs: EpochMs, cursor: string | undefined, limit: number): Promise<NearPage> {
    return this.#read(() => reading.near(this.#ledger, shard, fromMs, untilMs, cursor, limit));
  }

  async claim(shard: number, epoch: number, ids: IdList, nowMs: EpochMs, bytesMax: number): Promise<ClaimResult> {
    assert(ids.length <= claimIdsMax, `${ids.length} ids, ${claimIdsMax} allowed`);
    const copy = new IdList(Buffer.from(ids.bytes), ids.length);
    return this.#change(shard, (call) => owning.claim(this.#ledger, call, epoch, copy, nowMs, bytesMax));
  }

  async settle(shard: number, epoch: number, outcomes: readonly Outcome[], nowMs: EpochMs): Promise<SettleResult> {
    assert(outcomes.length <= settleOutcomesMax, `${outcomes.length} outcomes, ${settleOutcomesMax} allowed`);
    const copies = [...outcomes];
    return this.#change(shard, (call) => owning.settle(this.#ledger, call, epoch, copies, nowMs));
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

  /**
   * Asked regularly, so it is also when a store without traffic forgets and shrinks. A failed write is a warning of the
   * first check after it, and of every further one until there is room again: each call is refused by itself. Damage is
   * a problem.
   */
  async check(): Promise<StoreCheck> {
    const startedMs = this.#clock.monotonicMs();
    const problems = new Set<string>();
    const warnings = new Set<string>();
    const failure = this.#commits.lastWriteFailure;
    if (failure !== undefined) {
      warnings.add(failure);
      this.#housekeeping.makeRoom();
    }
    try {
      // Nothing is written, and so no fsync made, unless something is to be forgotten or a failure to be looked at again.
      await this.#commits.do({ writes: true, run: () => failure !== undefined && this.#db.exec(probeSql) });
    } catch (error) {
      if (!isEscapementError(error)) throw error;
      if (error.code === "store_full") warnings.add(error.message);
      else problems.add(error.message);
    }
    if (this.#commits.damage !== undefined) problems.add(this.#commits.damage);
    const roundTripMs = this.#clock.monotonicMs() - startedMs;
    const timeMs = epochMs(this.#clock.wallMs());
    // The file goes nowhere while this process holds it.
    return { incarnation: "sqlite", timeMs, roundTripMs, problems: [...problems], warnings: [...warnings] };
  }

  /** Answers what was asked before; what comes after is refused with `store_unavailable`. */
  async close(): Promise<void> {
    if (!this.#db.isOpen) return;
    this.#commits.close();
    this.#listeners.length = 0;
    this.#db.close();
  }

  #read<T>(run: () => T): Promise<T> {
    return this.#commits.do({ writes: false, run });
  }

  async #change<T>(shard: number, act: (call: Call) => T): Promise<T> {
    assert(shard >= 0 && shard < this.shardCount, `shard ${shard} of ${this.shardCount}`);
    const { value } = await this.#commits.do({
      writes: true,
      run: () => {
        const call = new Call(shard);
        const value = act(call);
        for (const [lane, by] of call.counted) this.#ledger.counts.change(shard, lane, by);
        return { call, value };
      },
      committed: ({ call }) => this.#wake(call),
    });
    return value;
  }

  #wake({ shard, wakes }: Call): void {
    for (const { id, lane, dueMs } of wakes) {
      for (const listener of this.#listeners) listener.onWake(shard, id, 0, lane, dueMs);
    }
  }
}

export type SqliteDelayStoreOptions = SqliteFileOptions & {
  /** The machine's own: there is no other clock here that could contradict it. */
  readonly clock: MachineClock;
  readonly timers: Timers;
  /** How long ended messages stay known. Default: one hour. */
  readonly dedupeWindowMs?: DurationMs;
  /** Default 32; fixed with the first start. */
  readonly shardCount?: number;
};

/** Changes a page, so that it needs room in the log. */
const probeSql =
  "INSERT INTO meta (name, value) VALUES ('probe', 1) ON CONFLICT (name) DO UPDATE SET value = 1 - value";

/** Some milliseconds' work. */
const recoverMax = 1_000;

const claimShardCount = (db: DatabaseSync, path: string, shardCount: number): void => {
  db.prepare("INSERT OR IGNORE INTO meta (name, value) VALUES ('shards', ?)").run(shardCount);
  const stored = db.prepare("SELECT value FROM meta WHERE name = 'shards'").get()!.value as number;
  if (stored === shardCount) return;
  throw new EscapementError(
    "invalid_config",
    `SHARDS is ${shardCount}, but ${path} was written with ${stored}; set it to ${stored} or use another folder`,
    { field: "SHARDS" },
  );
};
