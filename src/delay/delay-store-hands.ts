import { createHash } from "node:crypto";
import { scheduler } from "node:timers/promises";
import { expect } from "vitest";
import { groupTail, type MessageId, shardOf, timeOrderedId } from "../message/id.ts";
import { IdList } from "../message/id-list.ts";
import type { DelayedMessage } from "../message/message.ts";
import type { MessageState } from "../message/state.ts";
import { durationMs, type EpochMs, epochMs, epochMsMax } from "../message/time.ts";
import type { DelayStore, Outcome, Reschedule, ReviveItem, ScheduleItem, StoredMessage } from "./delay-store.port.ts";

/**
 * The hands with which the contract suite holds a store: one shard of it, owned, and short words for what nearly every
 * test does. It decides nothing about what is right; that is in the tests.
 */

/** What a store's test hands to the contract; each is fresh and empty. */
export type DelayStoreSubject = {
  readonly store: DelayStore;
  /** A second connection to the same data, where that is something else than `store`. */
  readonly other?: DelayStore;
  /** Moves the store's own clock. Absent: it is a real clock, and the suite waits. */
  readonly advanceMs?: (ms: number) => Promise<void>;
  close(): Promise<void>;
};

/** What a test needs of the store it gets. */
export type DelayStoreWishes = {
  /** How long ended messages stay known. Absent: the adapter's default, which must be at least a minute. */
  readonly dedupeWindowMs?: number;
};

/** "Now" in most tests. Verbs get the time as an argument, so it may as well be a round number. */
export const t0 = epochMs(1_800_000_000_000);
export const at = (offsetMs: number): EpochMs => epochMs(t0 + offsetMs);
export const deadReason = { code: "body_too_large", detail: "The broker takes 4 MiB." };

/** No test has more pages; a cursor that does not move would have. */
const pagesMax = 2_000;
const noLimit = Number.MAX_SAFE_INTEGER;
/** Long enough that no test outlives it by accident. */
export const longLeaseMs = durationMs(600_000);

type Known = DelayedMessage | MessageId;
const idOf = (known: Known): MessageId => (typeof known === "string" ? known : known.id);

export class StoreHands {
  readonly subject: DelayStoreSubject;
  readonly store: DelayStore;
  readonly other: DelayStore;
  readonly shard: number;
  epoch = 0;
  owner = "node-a";
  #made = 0;

  constructor(subject: DelayStoreSubject, shard = 1) {
    this.subject = subject;
    this.store = subject.store;
    this.other = subject.other ?? subject.store;
    this.shard = shard % subject.store.shardCount;
  }

  /** An id of this shard. Its bytes are spread over all values, zero and line feed too. */
  id(): MessageId {
    const { shardCount } = this.store;
    const chance = createHash("sha1")
      .update(`${this.shard}/${++this.#made}`)
      .digest();
    const tail = this.shard + shardCount * (chance[12]! % Math.floor(0x10000 / shardCount));
    return timeOrderedId(t0 + (chance[13]! << 8), chance, tail);
  }

  message(parts: Partial<DelayedMessage> = {}): DelayedMessage {
    const id = parts.id ?? this.id();
    return {
      id,
      tenant: "default",
      topic: "orders",
      keys: [],
      properties: new Map(),
      body: Buffer.from(`body of ${id}`),
      deliverAtMs: t0,
      acceptedAtMs: at(-1_000),
      attempt: 0,
      ...parts,
    };
  }

  /** A message of a group. Groups choose their shard, so a group's name is made to fall into this one. */
  grouped(group: string, parts: Partial<DelayedMessage> = {}): DelayedMessage {
    return this.message({ messageGroup: this.groupName(group), ...parts });
  }

  groupName(group: string): string {
    for (let i = 0; ; i++) {
      const name = `${group}.${i}`;
      if (groupTail("default", name) % this.store.shardCount === this.shard) return name;
    }
  }

  // --- anyone ---------------------------------------------------------------------------------------------------

  async schedule(...messages: DelayedMessage[]): Promise<void> {
    for (const result of await this.store.schedule(
      this.shard,
      messages.map((message) => ({ message })),
      t0,
    )) {
      expect(result.outcome).toBe("scheduled");
    }
  }

  async scheduled(parts: Partial<DelayedMessage> = {}): Promise<DelayedMessage> {
    const message = this.message(parts);
    await this.schedule(message);
    return message;
  }

  async scheduleOne(message: DelayedMessage, how: Omit<ScheduleItem, "message"> = {}) {
    return (await this.store.schedule(this.shard, [{ message, ...how }], t0))[0]!;
  }

  async cancel(known: Known, nowMs = t0) {
    return (await this.store.cancel(this.shard, [idOf(known)], nowMs))[0]!;
  }

  async reschedule(known: Known, change: Omit<Reschedule, "id">) {
    return (await this.store.reschedule(this.shard, [{ id: idOf(known), ...change }], t0))[0]!;
  }

  async revive(message: DelayedMessage, diedAtMs = t0, how: Omit<ReviveItem, "message" | "diedAtMs"> = {}) {
    return (await this.store.revive(this.shard, [{ message, diedAtMs, ...how }], t0))[0]!;
  }

  async discard(known: Known, diedAtMs = t0, nowMs = t0) {
    return (await this.store.discard(this.shard, [{ id: idOf(known), diedAtMs }], nowMs))[0]!;
  }

  async get(known: Known, nowMs = t0): Promise<StoredMessage | undefined> {
    return (await this.store.get(this.shard, [idOf(known)], nowMs))[0];
  }

  async state(known: Known): Promise<MessageState | undefined> {
    return (await this.get(known))?.state;
  }

  async deadIds(limit = 100): Promise<MessageId[]> {
    return (await this.deadPages(limit)).flat().map((dead) => dead.id);
  }

  async deadPages(limit: number): Promise<StoredMessage[][]> {
    const pages: StoredMessage[][] = [];
    let cursor: string | undefined;
    do {
      if (pages.length > pagesMax) throw new Error(`dead has no last page: still at ${cursor} after ${pagesMax} pages`);
      const page = await this.store.dead(this.shard, cursor, limit);
      expect(page.items.length).toBeLessThanOrEqual(limit);
      pages.push([...page.items]);
      cursor = page.cursor;
    } while (cursor !== undefined);
    return pages;
  }

  // --- the owner ------------------------------------------------------------------------------------------------

  /** Takes the shard, from its present owner too. */
  async own(owner = "node-a"): Promise<number> {
    if (this.epoch > 0 && owner !== this.owner) await this.store.release(this.shard, this.epoch, this.owner);
    const result = await this.store.acquire(this.shard, owner, longLeaseMs);
    if (result.outcome !== "acquired") throw new Error(`the shard is held by ${result.owner}`);
    this.owner = owner;
    this.epoch = result.epoch;
    return result.epoch;
  }

  claim(known: readonly Known[], nowMs = t0, bytesMax = noLimit) {
    return this.store.claim(this.shard, this.epoch, IdList.of(known.map(idOf)), nowMs, bytesMax);
  }

  async claimed(...messages: DelayedMessage[]): Promise<void> {
    const result = await this.claim(messages);
    expect(result.claimed.map((message) => message.id)).toEqual(messages.map((message) => message.id));
  }

  settle(outcomes: readonly Outcome[], nowMs = t0) {
    return this.store.settle(this.shard, this.epoch, outcomes, nowMs);
  }

  delivered(known: Known, nowMs = t0) {
    return this.settle([{ kind: "delivered", id: idOf(known) }], nowMs);
  }

  retry(known: Known, dueMs: EpochMs) {
    return this.settle([{ kind: "retry", id: idOf(known), dueMs }]);
  }

  giveBack(known: Known) {
    return this.settle([{ kind: "give_back", id: idOf(known) }]);
  }

  buryClaimed(known: Known, nowMs = t0) {
    return this.settle([{ kind: "bury", id: idOf(known), reason: deadReason }], nowMs);
  }

  recover(limit = 100) {
    return this.store.recover(this.shard, this.epoch, limit, t0);
  }

  /** Everything waiting, read to the last page, in the order read. */
  async near(fromMs = epochMs(0), untilMs = epochMsMax, limit = 100): Promise<MessageId[]> {
    const ids: MessageId[] = [];
    for await (const page of this.nearPages(fromMs, untilMs, limit)) ids.push(...page);
    return ids;
  }

  async *nearPages(fromMs: EpochMs, untilMs: EpochMs, limit: number): AsyncGenerator<MessageId[]> {
    let cursor: string | undefined;
    let pages = 0;
    do {
      if (++pages > pagesMax) throw new Error(`near has no last page: still at ${cursor} after ${pagesMax} pages`);
      const page = await this.store.near(this.shard, fromMs, untilMs, cursor, limit);
      expect(page.ids.length).toBeLessThanOrEqual(limit);
      expect(page.lanes.length).toBe(page.ids.length);
      expect(page.dueMs.length).toBe(page.ids.length);
      for (const dueMs of page.dueMs) expect(dueMs >= fromMs && dueMs <= untilMs).toBe(true);
      cursor = page.cursor;
      yield page.ids.toArray();
    } while (cursor !== undefined);
  }

  // --- the store's own clock ------------------------------------------------------------------------------------

  /** Lets time pass for the store: at once where the subject can move its clock, by waiting where it is real. */
  async pass(ms: number): Promise<void> {
    if (this.subject.advanceMs === undefined) await scheduler.wait(ms);
    else await this.subject.advanceMs(ms);
  }

  /** A message brought into a state by the ordinary ways. The shard must be owned. */
  async bring(state: MessageState, parts: Partial<DelayedMessage> = {}): Promise<DelayedMessage> {
    const message = await this.scheduled({ ...parts, ...(state === "expired" ? { expireAtMs: t0 } : {}) });
    if (state === "canceled") await this.cancel(message);
    if (state === "expired") await this.claim([message]);
    if (state === "claimed" || state === "delivered" || state === "dead") await this.claimed(message);
    if (state === "delivered") await this.delivered(message);
    if (state === "dead") await this.buryClaimed(message);
    expect(await this.state(message)).toBe(state);
    expect(shardOf(message.id, this.store.shardCount)).toBe(this.shard);
    return message;
  }
}

/** Compares field by field, bodies by bytes (printing four megabytes of difference helps nobody). */
export const expectSame = (actual: DelayedMessage | undefined, expected: DelayedMessage): void => {
  if (actual === undefined) throw new Error(`no message where ${expected.id} was expected`);
  const { body, properties, ...rest } = actual;
  const { body: expectedBody, properties: expectedProperties, ...expectedRest } = expected;
  expect(rest).toEqual(expectedRest);
  expect([...properties].sort()).toEqual([...expectedProperties].sort());
  expect({ bytes: body.length, same: body.equals(expectedBody) }).toEqual({ bytes: expectedBody.length, same: true });
};
