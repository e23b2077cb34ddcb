import {
  type ClaimResult,
  claimIdsMax,
  type DelayStore,
  type Outcome,
  type Released,
} from "../delay/delay-store.port.ts";
import { type NearWindow, nearWindowMs } from "../delay/near-window.port.ts";
import type { Leases, ShardWorker } from "../delay/ownership.port.ts";
import { isEscapementError } from "../message/errors.ts";
import { idBytes, idIntoBytes } from "../message/id.ts";
import { IdList } from "../message/id-list.ts";
import type { DelayedMessage } from "../message/message.ts";
import type { CheckedClock } from "../runtime/clock.ts";
import { reach } from "../runtime/failpoint.ts";
import type { Log } from "../runtime/log.ts";
import type { Random } from "../runtime/random.ts";
import type { Timers } from "../runtime/timers.ts";
import type { DispatchMetrics } from "./dispatch-metrics.ts";
import { Lane } from "./lane.ts";
import { outcome, refusedBeforeSend } from "./outcome.ts";
import type { SendPolicies } from "./send-policies.port.ts";
import { type SettleEntry, Settler } from "./settler.ts";
import type { SendResult, Sink } from "./sink.port.ts";
import { type Outgoing, TopicSender } from "./topic-sender.ts";

/**
 * Takes what is due out of the near window, claims it, sends it, and has the outcome recorded:
 *
 *   near window ──takeDue──> lane (ids, by tenant and topic) ──claim──> topic sender ──send──> settler ──> near window
 *
 * Every message that is out is held by exactly one of: a lane (as an id, unclaimed), a claim call, a topic sender, a
 * send call, a settler. Its handle in the near window stays taken all the while, so nothing brings it in twice.
 * Messages are claimed only when their lane may send, so what waits for a broker waits unclaimed and untried.
 */
export type DispatcherOptions = {
  readonly store: DelayStore;
  readonly sink: Sink;
  readonly policies: SendPolicies;
  readonly near: NearWindow;
  readonly leases: Leases;
  readonly clock: CheckedClock;
  readonly timers: Timers;
  readonly random: Random;
  readonly log: Log;
  readonly metrics: DispatchMetrics;
  readonly leaseMs: number;
  readonly onFenced: (shard: number, epoch: number) => void;
  /** Ends the ticker's wait: something became due sooner than it knew. */
  readonly wake: () => void;
};

/** All lanes together; with {@link outBytesMax} this bounds the memory of the way out. */
const outMessagesMax = 8_192;
const outBytesMax = 64 * 1024 * 1024;
/** Bodies of one claim call; one larger message still passes alone. */
const claimBytesMax = 4 * 1024 * 1024;
/** Expired per tick, so that a burst of 100,000 does not hold the event loop for longer than about 10 ms. */
const expireMax = 20_000;
/** With full claims still under way a tick waits this long before it claims again, so that claims stay full. */
const fullClaimSpacingMs = 4;
/** A claim of fewer than this costs nearly as much as one of so many: it is sparse. */
const fullClaimMessages = 16;
/**
 * Sparse claims are made at most so many a millisecond, but some may be made at once. Beyond that we wait, more falls
 * due meanwhile and travels along. At 2,000 messages/s nothing ever waits; at 10,000 a claim takes three messages
 * and not 1.7, which cost a quarter more CPU in Redis.
 */
const sparseClaimsPerMs = 3;
const sparseClaimsAtOnce = 32;
/** Due longer ago than this counts as catching up. */
const freshMs = 1_000;
/** How long the ticker sleeps at most; wakes end it sooner. */
const idleMs = 50;
const storePauseMs = 200;

type OwnedShard = { readonly epoch: number; readonly settler: Settler; out: number; drained: (() => void) | undefined };

export class Dispatcher implements ShardWorker {
  readonly #options: DispatcherOptions;
  readonly #shards = new Map<number, OwnedShard>();
  readonly #lanes = new Map<number, Lane>();
  readonly #senders = new Map<string, TopicSender>();
  #outMessages = 0;
  #outBytes = 0;
  #claims = 0;
  #lastClaims = { atMs: 0, anyFull: false };
  /** Sparse claims that may still be made without waiting; negative for those that were made on credit. */
  #sparseLeft = sparseClaimsAtOnce;
  #claimsPausedUntilMs = 0;
  #sleepUntilMs = 0;
  #laneTurn = 0;

  constructor(options: DispatcherOptions) {
    this.#options = options;
  }

  get out(): number {
    return this.#outMessages;
  }

  /** Due messages that wait in lanes for their turn. */
  get ready(): number {
    let ready = 0;
    for (const lane of this.#lanes.values()) ready += lane.ready;
    return ready;
  }

  // --- ShardWorker ----------------------------------------------------------------------------------------------

  gained(shard: number, epoch: number): void {
    const { store, clock, timers, log } = this.#options;
    const settler = new Settler({
      store,
      shard,
      epoch,
      clock,
      timers,
      log,
      onSettled: (entries, released) => this.#settled(owned, shard, entries, released),
      onFenced: (entries) => {
        this.#forget(owned, entries);
        if (this.#shards.get(shard) === owned) this.#options.onFenced(shard, epoch);
      },
    });
    const owned: OwnedShard = { epoch, settler, out: 0, drained: undefined };
    this.#shards.set(shard, owned);
  }

  lost(shard: number): void {
    const owned = this.#shards.get(shard);
    if (owned === undefined) return;
    this.#shards.delete(shard);
    this.#options.near.removeShard(shard);
    for (const item of this.#withdraw(shard)) this.#drop(owned, item.lane, item.handle, item.message.body.length);
    owned.settler.stop();
    owned.drained?.();
  }

  async drain(shard: number): Promise<void> {
    const owned = this.#shards.get(shard);
    if (owned === undefined) return;
    const done = new Promise<void>((resolve) => {
      owned.drained = resolve;
    });
    this.#options.near.removeShard(shard);
    for (const item of this.#withdraw(shard)) this.#settle(item, { kind: "give_back", id: item.message.id });
    if (owned.out === 0) return;
    await done;
  }

  // --- coming in ------------------------------------------------------------------------------------------------

  owns(shard: number): boolean {
    const owned = this.#shards.get(shard);
    return owned !== undefined && owned.drained === undefined;
  }

  /** Takes an id into the near window; false only when there is no room. Ids of shards that are not ours are ignored. */
  offer(id: Buffer, offset: number, lane: number, shard: number, dueMs: number): boolean {
    if (!this.owns(shard)) return true;
    if (this.#options.near.put(id, offset, lane, shard, dueMs) === "full") return false;
    if (dueMs < this.#sleepUntilMs) this.#options.wake();
    return true;
  }

  // --- the tick -------------------------------------------------------------------------------------------------

  /** Expires, claims; answers in how many milliseconds there will be more. Never waits for store or broker. */
  tick(): number {
    const { near, clock } = this.#options;
    if (!clock.trusted) return idleMs;
    const nowMs = clock.nowMs();
    for (let i = 0; i < expireMax; i++) {
      const handle = near.takeDue(nowMs);
      if (handle < 0) break;
      this.#lane(near.laneOf(handle)).push(handle, nowMs - near.dueOf(handle) <= freshMs);
    }
    const claimWaitMs = this.#claimReady();
    const waitMs = Math.min(idleMs, claimWaitMs, Math.max(0, Math.ceil(near.nextDueMs() - clock.nowMs())));
    this.#sleepUntilMs = nowMs + waitMs;
    return waitMs;
  }

  /** Lets lanes take turns while there is room; answers when to look again. */
  #claimReady(): number {
    const monotonicMs = this.#options.clock.monotonicMs();
    if (monotonicMs < this.#claimsPausedUntilMs) return this.#claimsPausedUntilMs - monotonicMs;
    const claimInMs = this.#claimInMs(monotonicMs);
    if (claimInMs > 0) return claimInMs;
    const byShard = new Map<number, number[]>();
    const lanes = [...this.#lanes];
    let nextMs = Number.POSITIVE_INFINITY;
    for (let turn = 0; turn < lanes.length; turn++) {
      const room = Math.min(outMessagesMax - this.#outMessages, this.#outBytes < outBytesMax ? outMessagesMax : 0);
      if (room <= 0) break;
      const [number, lane] = lanes[(this.#laneTurn + turn) % lanes.length]!;
      if (lane.ready === 0) {
        if (lane.idle) this.#lanes.delete(number);
        continue;
      }
      if (lane.pausedUntilMs > monotonicMs) nextMs = Math.min(nextMs, lane.pausedUntilMs - monotonicMs);
      this.#take(lane, Math.min(lane.allowance(monotonicMs), room), byShard);
      if (lane.allowance(monotonicMs) > 0) nextMs = Math.min(nextMs, 1);
    }
    this.#laneTurn++;
    if (byShard.size > 0) this.#noteClaims(monotonicMs, byShard);
    for (const [shard, handles] of byShard) {
      for (let i = 0; i < handles.length; i += claimIdsMax) void this.#claim(shard, handles.slice(i, i + claimIdsMax));
    }
    return nextMs;
  }

  /** How long to wait so that claims are worth their cost; 0 or less: not at all. */
  #claimInMs(monotonicMs: number): number {
    const { atMs, anyFull } = this.#lastClaims;
    const sinceMs = monotonicMs - atMs;
    const forSparseMs = -this.#sparseLeft / sparseClaimsPerMs - sinceMs;
    const forFullMs = anyFull && this.#claims > 0 ? fullClaimSpacingMs - sinceMs : 0;
    return Math.max(forSparseMs, forFullMs);
  }

  #noteClaims(monotonicMs: number, byShard: ReadonlyMap<number, readonly number[]>): void {
    let sparse = 0;
    for (const handles of byShard.values()) if (handles.length < fullClaimMessages) sparse++;
    const regained = (monotonicMs - this.#lastClaims.atMs) * sparseClaimsPerMs;
    this.#sparseLeft = Math.min(this.#sparseLeft + regained, sparseClaimsAtOnce) - sparse;
    this.#lastClaims = { atMs: monotonicMs, anyFull: sparse < byShard.size };
  }

  #take(lane: Lane, count: number, byShard: Map<number, number[]>): void {
    if (count <= 0) return;
    const { near } = this.#options;
    lane.take(count, (handle) => {
      const shard = near.shardOf(handle);
      if (!this.owns(shard)) {
        // Not ours any more: whoever has it now finds it in the store.
        lane.untake(1);
        near.drop(handle);
        return;
      }
      this.#shards.get(shard)!.out++;
      this.#outMessages++;
      const handles = byShard.get(shard);
      if (handles === undefined) byShard.set(shard, [handle]);
      else handles.push(handle);
    });
  }

  async #claim(shard: number, handles: readonly number[]): Promise<void> {
    const { store, near, clock, log, wake } = this.#options;
    const owned = this.#shards.get(shard)!;
    const bytes = Buffer.allocUnsafe(handles.length * idBytes);
    handles.forEach((handle, i) => {
      near.idInto(handle, bytes, i * idBytes);
    });
    const ids = new IdList(bytes);
    this.#claims++;
    let result: ClaimResult | undefined;
    try {
      result = await store.claim(shard, owned.epoch, ids, clock.nowMs(), claimBytesMax);
    } catch (error) {
      if (isEscapementError(error, "fenced")) {
        for (const handle of handles) this.#release(owned, near.laneOf(handle), handle);
        this.#options.onFenced(shard, owned.epoch);
      } else {
        // Perhaps the store did it and only the answer was lost: the same epoch may claim the same ids again.
        log.debug({ shard, err: error }, "claim failed");
        this.#claimsPausedUntilMs = clock.monotonicMs() + storePauseMs;
        for (const handle of handles) this.#putBack(owned, handle);
      }
    } finally {
      this.#claims--;
    }
    reach("claimed");
    if (result !== undefined) this.#sortOut(shard, owned, ids, handles, result);
    wake();
  }

  /** Pairs what was asked with what was claimed: both are in the same order. */
  #sortOut(shard: number, owned: OwnedShard, ids: IdList, handles: readonly number[], result: ClaimResult): void {
    const { near, clock, metrics } = this.#options;
    const later = new Map(result.later.map(({ id, dueMs }) => [id, dueMs]));
    const deferred = new Set(result.deferred.toArray());
    let next = 0;
    for (let i = 0; i < handles.length; i++) {
      const handle = handles[i]!;
      const id = ids.at(i);
      const message = result.claimed[next];
      if (message?.id === id) {
        next++;
        this.#sendOut(shard, owned, handle, message);
        continue;
      }
      const lane = near.laneOf(handle);
      const dueMs = later.get(id);
      if (deferred.has(id)) {
        this.#putBack(owned, handle);
      } else if (dueMs !== undefined && dueMs <= clock.nowMs() + nearWindowMs) {
        this.#lanes.get(lane)?.untake(1);
        this.#uncount(owned, 0);
        near.requeue(handle, dueMs);
      } else {
        this.#release(owned, lane, handle);
      }
    }
    if (result.expired > 0) metrics.ended("expired", result.expired);
    this.#offerReleased(shard, result.released);
  }

  // --- out and back ---------------------------------------------------------------------------------------------

  #sendOut(shard: number, owned: OwnedShard, handle: number, message: DelayedMessage): void {
    const laneNumber = this.#options.near.laneOf(handle);
    const item: Outgoing = { message, handle, lane: laneNumber, shard, epoch: owned.epoch };
    this.#lane(laneNumber).claimed(message.body.length);
    this.#outBytes += message.body.length;
    const refused = refusedBeforeSend(message, this.#options.policies);
    if (refused !== undefined) this.#settle(item, refused);
    else if (owned.drained !== undefined) this.#settle(item, { kind: "give_back", id: message.id });
    else this.#sender(message.topic).add(item);
  }

  /** The last look before the wire: the shard must still be ours, the clock trusted, the time come. */
  #mayGo(item: Outgoing): boolean {
    const { clock, leases, leaseMs, metrics } = this.#options;
    const owned = this.#shards.get(item.shard);
    if (owned === undefined || owned.epoch !== item.epoch) {
      this.#drop(undefined, item.lane, item.handle, item.message.body.length);
      return false;
    }
    // A fifth of the lease is kept for the send itself: another owner may start when the lease ends.
    const safe = leases.validUntilMs(item.shard) - leaseMs / 5 > clock.monotonicMs();
    const nowMs = clock.nowMs();
    const expired = item.message.expireAtMs !== undefined && item.message.expireAtMs <= nowMs;
    if (!safe || !clock.trusted || nowMs < item.message.deliverAtMs || expired) {
      // Expired between claim and send: given back, the next claim ends it as expired.
      this.#settle(item, { kind: "give_back", id: item.message.id });
      return false;
    }
    // A message for a past instant is due when it comes in.
    const { deliverAtMs, acceptedAtMs, attempt } = item.message;
    metrics.sending(nowMs - Math.max(deliverAtMs, acceptedAtMs), attempt);
    return true;
  }

  #results(items: readonly Outgoing[], results: readonly SendResult[]): void {
    const { clock, random, policies, metrics, log } = this.#options;
    const nowMs = clock.nowMs();
    items.forEach((item, i) => {
      const result = results[i]!;
      const lane = this.#lane(item.lane);
      if (result.ok) {
        lane.succeeded();
        metrics.ended("delivered", 1);
      } else {
        metrics.failed(result.failure.class, result.failure.code);
        if (result.failure.class !== "permanent") {
          lane.suspected(clock.monotonicMs());
          if (i === 0) {
            const { code, detail } = result.failure;
            log.warn(
              {
                topic: item.message.topic,
                messages: items.length,
                code,
                detail,
                retryInMs: Math.round(lane.pausedUntilMs - clock.monotonicMs()),
              },
              "topic does not take messages at the moment, will try again",
            );
          }
        }
      }
      const decided = outcome(item.message, result, nowMs, random, policies);
      if (decided.kind === "bury") {
        metrics.ended("dead", 1);
        log.warn(
          { id: item.message.id, topic: item.message.topic, attempt: item.message.attempt, reason: decided.reason },
          "message is dead",
        );
      }
      this.#settle(item, decided);
    });
  }

  #settle(item: Outgoing, decided: Outcome): void {
    const owned = this.#shards.get(item.shard);
    if (owned === undefined || owned.epoch !== item.epoch) {
      this.#drop(undefined, item.lane, item.handle, item.message.body.length);
      return;
    }
    owned.settler.push({ outcome: decided, handle: item.handle, bytes: item.message.body.length, lane: item.lane });
  }

  #settled(owned: OwnedShard, shard: number, entries: readonly SettleEntry[], released: readonly Released[]): void {
    const { near, clock, wake } = this.#options;
    for (const { outcome: decided, handle, bytes, lane } of entries) {
      this.#lanes.get(lane)?.settled(bytes);
      this.#uncount(owned, bytes);
      const waits = decided.kind === "retry" || decided.kind === "give_back";
      const dueMs = decided.kind === "retry" ? decided.dueMs : near.dueOf(handle);
      if (
        waits &&
        this.#shards.get(shard) === owned &&
        owned.drained === undefined &&
        dueMs <= clock.nowMs() + nearWindowMs
      ) {
        near.requeue(handle, decided.kind === "give_back" ? Math.max(dueMs, clock.nowMs() + idleMs) : dueMs);
      } else {
        near.drop(handle);
      }
    }
    this.#offerReleased(shard, released);
    wake();
  }

  #forget(owned: OwnedShard, entries: readonly SettleEntry[]): void {
    for (const { handle, bytes, lane } of entries) this.#drop(owned, lane, handle, bytes);
  }

  #offerReleased(shard: number, released: readonly Released[]): void {
    for (const { id, lane, dueMs } of released) {
      const bytes = Buffer.allocUnsafe(idBytes);
      idIntoBytes(id, bytes);
      this.offer(bytes, 0, lane, shard, dueMs);
    }
  }

  // --- bookkeeping ----------------------------------------------------------------------------------------------

  #lane(number: number): Lane {
    let lane = this.#lanes.get(number);
    if (lane === undefined) {
      lane = new Lane();
      this.#lanes.set(number, lane);
    }
    return lane;
  }

  #sender(topic: string): TopicSender {
    let sender = this.#senders.get(topic);
    if (sender === undefined) {
      const { sink, timers } = this.#options;
      sender = new TopicSender({
        topic,
        sink,
        timers,
        mayGo: (item) => this.#mayGo(item),
        onResults: (items, results) => this.#results(items, results),
      });
      this.#senders.set(topic, sender);
    }
    return sender;
  }

  #withdraw(shard: number): Outgoing[] {
    return [...this.#senders.values()].flatMap((sender) => sender.withdraw((item) => item.shard === shard));
  }

  #uncount(owned: OwnedShard | undefined, bytes: number): void {
    this.#outMessages--;
    this.#outBytes -= bytes;
    // Whichever way the last one came back: who waits for the shard to be empty is told.
    if (owned !== undefined && --owned.out === 0) owned.drained?.();
  }

  /** A claimed message leaves our hands without an outcome. */
  #drop(owned: OwnedShard | undefined, lane: number, handle: number, bytes: number): void {
    this.#lanes.get(lane)?.settled(bytes);
    this.#uncount(owned, bytes);
    this.#options.near.drop(handle);
  }

  /** An id that was not claimed leaves our hands. */
  #release(owned: OwnedShard, lane: number, handle: number): void {
    this.#lanes.get(lane)?.untake(1);
    this.#uncount(owned, 0);
    this.#options.near.drop(handle);
  }

  /** An id that was not claimed this time goes back to its lane. */
  #putBack(owned: OwnedShard, handle: number): void {
    const lane = this.#lane(this.#options.near.laneOf(handle));
    lane.untake(1);
    this.#uncount(owned, 0);
    lane.pushBack(handle);
  }
}
