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
import { encodeProperties, encodeReason, type LaneNames, laneOfRecord, readRecord } from "../../delay/record.ts";
import { EscapementError } from "../../message/errors.ts";
import { idBytes, idFromBytes, idToBytes, type MessageId } from "../../message/id.ts";
import { IdList } from "../../message/id-list.ts";
import type { DelayedMessage } from "../../message/message.ts";
import { type DurationMs, type EpochMs, epochMs, hour } from "../../message/time.ts";
import type { Clock } from "../../runtime/clock.ts";
import { decodeNames, LaneNameCache } from "./lane-names.ts";
import { decodeNear, parseCursor } from "./near-call.ts";
import { parseRedisAddress } from "./redis-address.ts";
import { RedisConnection, type RedisConnectionOptions } from "./redis-connection.ts";
import { checkRedis } from "./redis-health.ts";
import { RedisNews } from "./redis-news.ts";
import { type RedisScript, scripts } from "./redis-scripts.ts";
import { decodeSchedule, encodeBury, encodeSchedule, LevelGuesses } from "./schedule-call.ts";
import { stateOf } from "./states.ts";

/**
 * The store on Redis or Redis Cluster, 7.0 or newer. Every verb is one script on one shard; this file only packs
 * arguments and unpacks replies. What happens is in lua/, and there is nothing here that a second process could not do
 * at the same time.
 *
 * All keys of shard n begin with `esc:{n}:` and so lie on one node of a Cluster:
 *
 * | key      | type            | holds                                                                           |
 * |----------|-----------------|---------------------------------------------------------------------------------|
 * | `r`      | hash            | id → record (delay/record.ts) of every message that waits, is out or is dead      |
 * | `b…`     | sorted sets     | the due index: buckets of at most 120 (lane, id) by ms since the bucket's start   |
 * | `d`      | sorted set      | the buckets that are not empty, by start                                         |
 * | `c`      | hash            | what is out: id → attempt, epoch, due, group                                     |
 * | `t…`     | hashes          | tombstones, one hash per quarter of the dedupe window; Redis drops them whole      |
 * | `x`      | sorted set      | the dead by the time they died                                                   |
 * | `w`, `n` | hashes          | lane → tenant and topic; lane → how many wait                                    |
 * | `h`, `g…`, `s` | hash, sorted sets, number | message groups: head of each; those behind it; number of acceptance |
 * | `l`, `e` | strings         | lease (owner, with its end) and epoch                                            |
 *
 * Besides there are `esc:shards`, `esc:topics` and `esc:members`, and the channels `esc:wake` and `esc:changed`.
 *
 * What was measured and decided so: the index's level is not chosen by distance but by room (lua/due-index.part.lua),
 * because sparse seconds cost 300 B a message and full ones 30 B; a record leaves tenant and topic out, because 220
 * bytes are one size of memory and 221 the next; the claim does not touch the record, because bodies are large.
 */
export class RedisDelayStore implements DelayStore {
  readonly shardCount: number;
  readonly #connection: RedisConnection;
  readonly #namespace: string;
  readonly #clock: Clock;
  readonly #options: RedisDelayStoreOptions;
  readonly #prefixes: readonly string[];
  readonly #names = new LaneNameCache();
  readonly #levels: LevelGuesses;
  readonly #sliceMs: number;
  readonly #news: RedisNews;

  /** Connects; refuses a shard count that differs from the one the data was written with. */
  static async open(options: RedisDelayStoreOptions): Promise<RedisDelayStore> {
    const connection = new RedisConnection(parseRedisAddress(options.address), options);
    await connection.open();
    const store = new RedisDelayStore(options, connection);
    try {
      await store.#claimShardCount();
    } catch (error) {
      await store.close();
      throw error;
    }
    return store;
  }

  private constructor(options: RedisDelayStoreOptions, connection: RedisConnection) {
    this.shardCount = options.shardCount ?? 32;
    this.#connection = connection;
    this.#options = options;
    this.#namespace = namespaceOf(options.namespace);
    this.#clock = options.clock;
    this.#prefixes = Array.from({ length: this.shardCount }, (_, shard) => `${this.#namespace}:{${shard}}:`);
    this.#levels = new LevelGuesses(this.shardCount);
    this.#sliceMs = Math.max(1, Math.ceil((options.dedupeWindowMs ?? hour) / 4));
    this.#news = new RedisNews(connection.address, options, this.#wakeChannel, this.#changedChannel);
  }

  async schedule(shard: number, items: readonly ScheduleItem[], nowMs: EpochMs): Promise<ScheduleResult[]> {
    assert(items.length <= scheduleItemsMax, `${items.length} items, ${scheduleItemsMax} allowed`);
    const bytes = items.reduce((sum, { message }) => sum + message.body.length, 0);
    assert(bytes <= scheduleBytesMax, `${bytes} bytes of bodies, ${scheduleBytesMax} allowed`);
    if (items.length === 0) return [];
    const reply = await this.#naming(shard, () => {
      const { lanes, items: head, records } = encodeSchedule(shard, items, this.#names, this.#levels, nowMs);
      const args = [this.#wakeChannel, shard, lanes.encode(), head, records, noDeaths, this.#sliceMs];
      return { lanes, reply: this.#runDurably(scripts.schedule, shard, args) };
    });
    const [codes, facts] = reply as [Buffer, Buffer];
    return decodeSchedule(shard, items, codes, facts, this.#levels, nowMs);
  }

  async bury(
    shard: number,
    items: readonly { message: DelayedMessage; reason: DeadReason }[],
    nowMs: EpochMs,
  ): Promise<void> {
    if (items.length === 0) return;
    await this.#naming(shard, () => {
      const { lanes, items: head, records } = encodeBury(shard, items, this.#names, nowMs);
      const args = [nowMs, lanes.encode(), head, records, this.#sliceMs];
      return { lanes, reply: this.#runDurably(scripts.bury, shard, args) };
    });
  }

  async cancel(shard: number, ids: readonly MessageId[], nowMs: EpochMs): Promise<ChangeResult[]> {
    if (ids.length === 0) return [];
    const args = [this.#wakeChannel, shard, nowMs, IdList.of(ids).bytes, this.#sliceMs];
    const reply = (await this.#runDurably(scripts.cancel, shard, args)) as Buffer;
    return ids.map((_, i) => changeAt(reply, i * 10));
  }

  async reschedule(shard: number, changes: readonly Reschedule[], _nowMs: EpochMs): Promise<ChangeResult[]> {
    if (changes.length === 0) return [];
    const [head, bytes] = encodeReschedule(changes);
    const args = [this.#wakeChannel, shard, head, bytes, this.#sliceMs];
    const reply = (await this.#runDurably(scripts.reschedule, shard, args)) as Buffer;
    return changes.map((_, i) => {
      const change = changeAt(reply, i * 15);
      if (reply[i * 15 + 10] !== 1) return change;
      return { ...change, waiting: { lane: reply.readUInt32BE(i * 15 + 11), dueMs: change.deliverAtMs! } };
    });
  }

  async get(shard: number, ids: readonly MessageId[], _nowMs: EpochMs): Promise<(StoredMessage | undefined)[]> {
    const found: (StoredMessage | undefined)[] = [];
    while (found.length < ids.length) {
      const asked = IdList.of(ids.slice(found.length, found.length + idsPerCall)).bytes;
      const reply = await this.#run(scripts.get, shard, [asked, replyBytesMax, this.#sliceMs]);
      const [facts, records] = reply as [Buffer, Buffer];
      const namesOf = await this.#namesOf(shard, recordsAt(facts), records);
      let recordAt = 0;
      for (let at = 0; at < facts.length; ) {
        const id = ids[found.length]!;
        const kind = facts[at]!;
        const length = facts.readUInt32BE(at + 4);
        found.push(
          kind === 0
            ? undefined
            : kind === 2
              ? endedAt(facts, at, id)
              : storedAt(records, recordAt, recordAt + length, id, namesOf, facts[at + 1]!, facts.readUInt16BE(at + 2)),
        );
        recordAt += length;
        at += kind === 2 ? 20 : 8;
      }
    }
    return found;
  }

  async revive(shard: number, items: readonly ReviveItem[], nowMs: EpochMs): Promise<boolean[]> {
    assert(items.length <= scheduleItemsMax, `${items.length} items, ${scheduleItemsMax} allowed`);
    if (items.length === 0) return [];
    const deaths = Buffer.allocUnsafe(6 * items.length);
    for (const [i, { diedAtMs }] of items.entries()) deaths.writeUIntBE(diedAtMs, 6 * i, 6);
    const reviving = items.map((item) => ({ ...item, onConflict: "revive" as const }));
    const reply = await this.#naming(shard, () => {
      const { lanes, items: head, records } = encodeSchedule(shard, reviving, this.#names, this.#levels, nowMs);
      const args = [this.#wakeChannel, shard, lanes.encode(), head, records, deaths, this.#sliceMs];
      return { lanes, reply: this.#runDurably(scripts.schedule, shard, args) };
    });
    const [codes, facts] = reply as [Buffer, Buffer];
    const results = decodeSchedule(shard, items, codes, facts, this.#levels, nowMs);
    return results.map(({ outcome }) => outcome === "replaced");
  }

  async discard(shard: number, deaths: readonly Death[], nowMs: EpochMs): Promise<boolean[]> {
    const discarded: boolean[] = [];
    for (let i = 0; i < deaths.length; i += idsPerCall) {
      const some = deaths.slice(i, i + idsPerCall);
      const packed = Buffer.allocUnsafe(22 * some.length);
      for (const [j, { id, diedAtMs }] of some.entries()) {
        packed.set(idToBytes(id), 22 * j);
        packed.writeUIntBE(diedAtMs, 22 * j + 16, 6);
      }
      const reply = (await this.#runDurably(scripts.discard, shard, [nowMs, packed, this.#sliceMs])) as Buffer;
      for (const removed of reply) discarded.push(removed === 1);
    }
    return discarded;
  }

  async dead(shard: number, from: string | EpochMs | undefined, limit: number): Promise<Page<StoredMessage>> {
    const [endedAtMs, after] = typeof from === "string" ? from.split(".") : [String(from ?? 0), ""];
    const last = Buffer.from(after ?? "", "base64url");
    if (!/^\d{1,16}$/.test(endedAtMs!)) throw new RangeError("not a cursor of this store");
    const reply = await this.#run(scripts.dead, shard, [limit, replyBytesMax, endedAtMs!, last]);
    const [ids, lengths, records, more] = reply as [Buffer, Buffer, Buffer, number];
    const ranges = rangesOf(lengths);
    const namesOf = await this.#namesOf(shard, ranges, records);
    const items = ranges.map(({ start, end }, i) =>
      storedAt(records, start, end, idFromBytes(ids, i * idBytes), namesOf, 3, 0),
    );
    const end = items.at(-1);
    if (more === 0 || end === undefined) return { items, cursor: undefined };
    return { items, cursor: `${end.endedAtMs}.${idToBytes(end.id).toString("base64url")}` };
  }

  async stats(shard: number, nowMs: EpochMs): Promise<ShardStats> {
    const total = { dueNow: 0, duePerMinute: new Array<number>(60).fill(0), duePerHour: new Array<number>(24).fill(0) };
    let first: StatsReply | undefined;
    for (let skip = 0; skip >= 0; ) {
      const reply = (await this.#run(scripts.stats, shard, [nowMs, skip])) as StatsReply;
      first ??= reply;
      total.dueNow += reply[5];
      for (const [i, n] of reply[6].entries()) total.duePerMinute[i]! += n;
      for (const [i, n] of reply[7].entries()) total.duePerHour[i]! += n;
      skip = reply[8];
    }
    const [owner, epoch, claimed, dead, lanes] = first!;
    return {
      owner: owner.length === 0 ? undefined : owner.toString(),
      epoch,
      waitingByTopic: await this.#waitingByTopic(shard, lanes),
      claimed,
      dead,
      ...total,
    };
  }

  async acquire(shard: number, owner: string, leaseMs: DurationMs): Promise<AcquireResult> {
    const reply = (await this.#run(scripts.acquire, shard, [owner, leaseMs])) as [number, number | Buffer, number];
    if (reply[0] === 1) return { outcome: "acquired", epoch: reply[1] as number };
    return { outcome: "held", owner: reply[1].toString(), expiresInMs: Math.max(0, reply[2]) };
  }

  async renew(leases: readonly { shard: number; epoch: number }[], owner: string, leaseMs: DurationMs) {
    const replies = leases.map(({ shard, epoch }) => this.#run(scripts.renew, shard, [epoch, owner, leaseMs]));
    return (await Promise.all(replies)).map((reply) => reply === 1);
  }

  async release(shard: number, epoch: number, owner: string): Promise<void> {
    await this.#run(scripts.release, shard, [epoch, owner]);
  }

  async recover(shard: number, epoch: number, limit: number, _nowMs: EpochMs): Promise<number> {
    return (await this.#run(scripts.recover, shard, [epoch, Math.min(limit, idsPerCall)])) as number;
  }

  async near(
    shard: number,
    fromMs: EpochMs,
    untilMs: EpochMs,
    cursor: string | undefined,
    limit: number,
  ): Promise<NearPage> {
    const { start, bucket, score, member } = parseCursor(cursor);
    const args = [fromMs, untilMs, Math.min(limit, nearPageMax), start, bucket, score, member];
    return decodeNear((await this.#run(scripts.near, shard, args)) as Buffer[]);
  }

  async count(shard: number, fromMs: EpochMs, untilMs: EpochMs): Promise<number> {
    let total = 0;
    let rank = -1;
    do {
      const [count, next] = (await this.#run(scripts.count, shard, [fromMs, untilMs, rank])) as [number, number];
      total += count;
      rank = next;
    } while (rank >= 0);
    return total;
  }

  async claim(shard: number, epoch: number, ids: IdList, nowMs: EpochMs, bytesMax: number): Promise<ClaimResult> {
    assert(ids.length <= claimIdsMax, `${ids.length} ids, ${claimIdsMax} allowed`);
    const reply = await this.#run(scripts.claim, shard, [epoch, nowMs, bytesMax, ids.bytes, this.#sliceMs]);
    const [verdicts, dues, lengths, records, attempts, released] = reply as Buffer[] as SixBuffers;
    const ranges = rangesOf(lengths);
    const namesOf = await this.#namesOf(shard, ranges, records);
    const claimed: DelayedMessage[] = [];
    const later: { id: MessageId; dueMs: EpochMs }[] = [];
    const deferred: MessageId[] = [];
    let gone = 0;
    let expired = 0;
    for (let i = 0; i < ids.length; i++) {
      const verdict = verdicts[i]!;
      if (verdict === 1) {
        const { start, end } = ranges[claimed.length]!;
        const { message } = readRecord(records, start, end, ids.at(i), namesOf);
        claimed.push(withAttempt(message, attempts.readUInt16BE(2 * claimed.length)));
      } else if (verdict === 2) {
        later.push({ id: ids.at(i), dueMs: dues.readUIntBE(6 * later.length, 6) as EpochMs });
      } else if (verdict === 3) deferred.push(ids.at(i));
      else if (verdict === 4) expired++;
      else gone++;
    }
    return { claimed, later, deferred: IdList.of(deferred), gone, expired, released: releasedOf(released) };
  }

  async settle(shard: number, epoch: number, outcomes: readonly Outcome[], nowMs: EpochMs): Promise<SettleResult> {
    assert(outcomes.length <= settleOutcomesMax, `${outcomes.length} outcomes, ${settleOutcomesMax} allowed`);
    const [head, reasons] = encodeOutcomes(outcomes);
    const reply = await this.#run(scripts.settle, shard, [epoch, nowMs, head, reasons, this.#sliceMs]);
    return { released: releasedOf(reply as Buffer) };
  }

  async heartbeat(member: string, ttlMs: DurationMs): Promise<string[]> {
    const args = [member, ttlMs, this.#changedChannel];
    const members = (await this.#connection.run(scripts.heartbeat, `${this.#namespace}:members`, args)) as Buffer[];
    return members.map(String).sort();
  }

  async leave(member: string): Promise<void> {
    await this.#connection.run(scripts.leave, `${this.#namespace}:members`, [member, this.#changedChannel]);
  }

  listen(listener: StoreListener): Promise<void> {
    return this.#news.listen(listener);
  }

  check(): Promise<StoreCheck> {
    return checkRedis(this.#connection, this.#clock, this.#options.durability ?? "always");
  }

  async close(): Promise<void> {
    this.#news.close();
    this.#connection.close();
  }

  get #wakeChannel(): string {
    return `${this.#namespace}:wake`;
  }

  get #changedChannel(): string {
    return `${this.#namespace}:changed`;
  }

  #run(script: RedisScript, shard: number, args: Parameters<RedisConnection["run"]>[2]): Promise<unknown> {
    return this.#connection.run(script, this.#prefixOf(shard), args);
  }

  #runDurably(script: RedisScript, shard: number, args: Parameters<RedisConnection["run"]>[2]): Promise<unknown> {
    return this.#connection.runDurably(script, this.#prefixOf(shard), args);
  }

  #prefixOf(shard: number): string {
    const prefix = this.#prefixes[shard];
    assert(prefix !== undefined, `shard ${shard} of ${this.shardCount}`);
    return prefix;
  }

  /** Sends what names lanes by number; asks again where a number turns out to be another lane's. */
  async #naming(shard: number, send: () => Sent): Promise<unknown> {
    for (let tries = 0; tries <= scheduleItemsMax; tries++) {
      const { lanes, reply } = send();
      const answer = await reply;
      const taken = Array.isArray(answer) && answer.length === 1 ? (answer[0] as Buffer) : undefined;
      if (taken === undefined) {
        lanes.remember();
        return answer;
      }
      await this.#learnNames(shard, new Set([taken.readUInt32BE(0)]));
    }
    throw new EscapementError("internal", "every lane of a call turned out to be another's");
  }

  /** Tenant and topic of the lanes of these records; asks Redis for those that are not known here yet. */
  async #namesOf(shard: number, ranges: readonly Range[], records: Buffer): Promise<(lane: number) => LaneNames> {
    const unknown = new Set<number>();
    for (const { start } of ranges) {
      const lane = laneOfRecord(records, start);
      if (this.#names.get(shard, lane) === undefined) unknown.add(lane);
    }
    if (unknown.size > 0) await this.#learnNames(shard, unknown);
    return (lane) => {
      const names = this.#names.get(shard, lane);
      if (names !== undefined) return names;
      throw new EscapementError("internal", `shard ${shard} has a record of lane ${lane}, but not the lane's names`);
    };
  }

  async #learnNames(shard: number, lanes: ReadonlySet<number>): Promise<void> {
    const numbers = [...lanes];
    const fields = numbers.map((lane) => {
      const field = Buffer.allocUnsafe(4);
      field.writeUInt32BE(lane);
      return field;
    });
    const found = (await this.#connection.command("hmget", [`${this.#prefixOf(shard)}w`, ...fields])) as Buffer[];
    for (const [i, lane] of numbers.entries()) {
      const names = found[i];
      if (names) this.#names.put(shard, lane, decodeNames(names));
    }
  }

  async #waitingByTopic(shard: number, lanes: readonly Buffer[]): Promise<Map<string, number>> {
    const counts = new Map<number, number>();
    for (let i = 0; i < lanes.length; i += 2) {
      const count = Number(lanes[i + 1]);
      if (count > 0) counts.set(lanes[i]!.readUInt32BE(0), count);
    }
    const unknown = new Set([...counts.keys()].filter((lane) => this.#names.get(shard, lane) === undefined));
    if (unknown.size > 0) await this.#learnNames(shard, unknown);
    const byTopic = new Map<string, number>();
    for (const [lane, count] of counts) {
      const topic = this.#names.get(shard, lane)?.topic ?? `lane ${lane}`;
      byTopic.set(topic, (byTopic.get(topic) ?? 0) + count);
    }
    return byTopic;
  }

  async #claimShardCount(): Promise<void> {
    const key = `${this.#namespace}:shards`;
    await this.#connection.command("set", [key, this.shardCount, "NX"]);
    const stored = Number(await this.#connection.command("get", [key]));
    if (stored === this.shardCount) return;
    throw new EscapementError(
      "invalid_config",
      `SHARDS is ${this.shardCount}, but the data in Redis was written with ${stored}; set it to ${stored} or use another namespace`,
      { field: "SHARDS" },
    );
  }
}

export type RedisDelayStoreOptions = RedisConnectionOptions & {
  /** `redis://…`, `rediss://…` or `redis+cluster://host:port,host:port`. */
  readonly address: string;
  readonly clock: Clock;
  /** What all keys begin with: letters, digits, `-`, `_`, `.`. Default `esc`. */
  readonly namespace?: string;
  /** Default 32; fixed with the first start. */
  readonly shardCount?: number;
  /** How long ended messages stay known. Default one hour. */
  readonly dedupeWindowMs?: DurationMs;
  /** What Redis must be set to. With `everysec` a crash may lose up to a second of accepted messages. Default always. */
  readonly durability?: "always" | "everysec";
};

const noDeaths = Buffer.alloc(0);
/** Ids per call of get, recover and discard; one call stays within the low milliseconds. */
const idsPerCall = 200;
/** A page of get or dead ends once it holds this; one more body of 4 MB may come on top. */
const replyBytesMax = 4_000_000;
/** 2,000 entries are read in about 0.6 ms. */
const nearPageMax = 2_000;

type Range = { readonly start: number; readonly end: number };
type Sent = { readonly lanes: { remember(): void }; readonly reply: Promise<unknown> };
type SixBuffers = [Buffer, Buffer, Buffer, Buffer, Buffer, Buffer];
type StatsReply = [Buffer, number, number, number, Buffer[], number, number[], number[], number];

const namespaceOf = (namespace = "esc"): string => {
  if (/^[A-Za-z0-9._-]{1,32}$/.test(namespace)) return namespace;
  throw new EscapementError("invalid_config", "the Redis namespace may hold 1 to 32 of A-Z a-z 0-9 . _ -");
};

const rangesOf = (lengths: Buffer): Range[] => {
  const ranges: Range[] = [];
  let start = 0;
  for (let at = 0; at < lengths.length; at += 4) {
    const end = start + lengths.readUInt32BE(at);
    ranges.push({ start, end });
    start = end;
  }
  return ranges;
};

/** Where the records of a reply of get begin, by its facts. */
const recordsAt = (facts: Buffer): Range[] => {
  const ranges: Range[] = [];
  let start = 0;
  for (let at = 0; at < facts.length; at += facts[at] === 2 ? 20 : 8) {
    if (facts[at] !== 1) continue;
    const end = start + facts.readUInt32BE(at + 4);
    ranges.push({ start, end });
    start = end;
  }
  return ranges;
};

const endedAt = (facts: Buffer, at: number, id: MessageId): StoredMessage => ({
  id,
  state: stateOf(facts[at + 1]!),
  deliverAtMs: facts.readUIntBE(at + 8, 6) as EpochMs,
  attempt: facts.readUInt16BE(at + 2),
  endedAtMs: facts.readUIntBE(at + 14, 6) as EpochMs,
});

/** `claimAttempt` counts for a claimed message, whose record does not know of the claim. */
const storedAt = (
  records: Buffer,
  start: number,
  end: number,
  id: MessageId,
  namesOf: (lane: number) => LaneNames,
  stateNumber: number,
  claimAttempt: number,
): StoredMessage => {
  const state = stateOf(stateNumber);
  const { dueMs, message: recorded, endedAtMs, reason } = readRecord(records, start, end, id, namesOf);
  const message = state === "claimed" ? withAttempt(recorded, claimAttempt) : recorded;
  return {
    id,
    state,
    deliverAtMs: dueMs,
    attempt: message.attempt,
    ...(endedAtMs === undefined ? {} : { endedAtMs }),
    ...(reason === undefined ? {} : { reason }),
    message,
  };
};

const withAttempt = (message: DelayedMessage, attempt: number): DelayedMessage => {
  (message as { attempt: number }).attempt = attempt; // ours alone: it was read from a reply just now
  return message;
};

const changeOutcomes = ["done", "too_late", "not_found"] as const;

const changeAt = (reply: Buffer, at: number): ChangeResult => {
  const outcome = changeOutcomes[reply[at]!]!;
  if (outcome === "not_found") return { outcome };
  return {
    outcome,
    state: stateOf(reply[at + 1]!),
    deliverAtMs: epochMs(reply.readUIntBE(at + 2, 6)),
    attempt: reply.readUInt16BE(at + 8),
  };
};

const encodeReschedule = (changes: readonly Reschedule[]): [Buffer, Buffer] => {
  const head = Buffer.alloc(changes.length * 35);
  const bytes: Buffer[] = [];
  for (const [i, { id, deliverAtMs, expireAtMs, body, properties, wakeUntilMs }] of changes.entries()) {
    const at = i * 35;
    const encoded = properties === undefined ? undefined : encodeProperties(properties);
    head.set(idToBytes(id), at);
    head[at + 16] =
      (expireAtMs === undefined ? 0 : expireAtMs === null ? 2 : 1) |
      (body === undefined ? 0 : 4) |
      (encoded === undefined ? 0 : 8) |
      (wakeUntilMs !== undefined && deliverAtMs <= wakeUntilMs ? 16 : 0);
    head.writeUIntBE(deliverAtMs, at + 17, 6);
    head.writeUIntBE(expireAtMs ?? 0, at + 23, 6);
    head.writeUInt32BE(body?.length ?? 0, at + 29);
    head.writeUInt16BE(encoded?.length ?? 0, at + 33);
    if (body !== undefined) bytes.push(body);
    if (encoded !== undefined) bytes.push(encoded);
  }
  return [head, Buffer.concat(bytes)];
};

const outcomeKinds = { delivered: 0, retry: 1, give_back: 2, bury: 3 } as const;

const encodeOutcomes = (outcomes: readonly Outcome[]): [Buffer, Buffer] => {
  const head = Buffer.alloc(outcomes.length * 23);
  const reasons: Buffer[] = [];
  for (const [i, outcome] of outcomes.entries()) {
    const at = i * 23;
    head[at] = outcomeKinds[outcome.kind];
    head.set(idToBytes(outcome.id), at + 1);
    if (outcome.kind === "retry") head.writeUIntBE(outcome.dueMs, at + 17, 6);
    if (outcome.kind === "bury") {
      const reason = encodeReason(outcome.reason);
      head.writeUIntBE(reason.length, at + 17, 6);
      reasons.push(reason);
    }
  }
  return [head, Buffer.concat(reasons)];
};

const releasedOf = (reply: Buffer): Released[] => {
  const released: Released[] = [];
  for (let at = 0; at < reply.length; at += 26) {
    released.push({
      id: idFromBytes(reply, at),
      lane: reply.readUInt32BE(at + 16),
      dueMs: reply.readUIntBE(at + 20, 6) as EpochMs,
    });
  }
  return released;
};
