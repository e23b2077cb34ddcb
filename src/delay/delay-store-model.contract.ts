import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { MessageId } from "../message/id.ts";
import type { DelayedMessage } from "../message/message.ts";
import type { MessageState } from "../message/state.ts";
import { type EpochMs, epochMs, hour, minute } from "../message/time.ts";
import type { DelayStoreContractOptions, DelayStoreFactory } from "./delay-store.contract.ts";
import { at, deadReason, StoreHands, t0 } from "./delay-store-hands.ts";

/**
 * Random histories: the same steps are done to a store and to a model that is too slow and too simple to be wrong in
 * the same way (one array, searched from end to end). After every step both must say the same about every message, and
 * every accepted message must be waiting, claimed or ended (nothing is lost, nothing is twice).
 *
 * A dozen keys are used over and over, so that steps meet each other's messages: six alone, two groups of three, and
 * each group twice, for one topic and the other.
 */
export const delayStoreModelContract = (factory: DelayStoreFactory, options: DelayStoreContractOptions): void => {
  const { modelRuns = 100, modelSteps = 60 } = options;

  describe("random histories", () => {
    const agree = (steps: fc.Arbitrary<Step>) =>
      fc.assert(
        // `size: "max"`: histories as long as allowed, instead of the short ones that fast-check prefers.
        fc.asyncProperty(fc.array(steps, { minLength: 1, maxLength: modelSteps, size: "max" }), async (history) => {
          const subject = await factory({});
          try {
            const both = new History(new StoreHands(subject));
            await both.begin();
            for (const step of history) {
              await both.act(step);
              await both.compare();
            }
            await both.drain();
          } finally {
            await subject.close();
          }
        }),
        { numRuns: modelRuns },
      );

    it("I11: accepted = waiting + claimed + ended after every step, and all answers are the model's", async () => {
      await agree(step);
    }, 600_000);

    it("I7: a group goes out in its order, one after the other, whatever happens in between", async () => {
      await agree(groupStep);
    }, 600_000);
  });
};

// --- the steps --------------------------------------------------------------------------------------------------

const slots = 12;
const loneSlots = 6;

type Step =
  | { readonly do: "schedule"; readonly items: readonly ScheduleStep[] }
  | { readonly do: "fresh"; readonly dueMs: EpochMs; readonly group: boolean }
  | { readonly do: "cancel"; readonly slots: readonly number[] }
  | { readonly do: "reschedule"; readonly slots: readonly number[]; readonly dueMs: EpochMs; readonly expires: Expires }
  | { readonly do: "claim"; readonly slots: readonly number[]; readonly bytesMax: number }
  | { readonly do: "claim near"; readonly bytesMax: number }
  | { readonly do: "settle"; readonly slots: readonly number[]; readonly kind: SettleKind; readonly dueMs: EpochMs }
  | { readonly do: "revive"; readonly slots: readonly number[]; readonly dueMs: EpochMs; readonly isRight: boolean }
  | { readonly do: "discard"; readonly slots: readonly number[]; readonly isRight: boolean }
  | { readonly do: "next owner"; readonly limit: number }
  | { readonly do: "near"; readonly fromMs: EpochMs; readonly forMs: number; readonly limit: number }
  | { readonly do: "pass"; readonly ms: number };

type SettleKind = "delivered" | "retry" | "give_back" | "bury";
type Expires = "as before" | "never" | "soon";
type ScheduleStep = {
  readonly slot: number;
  readonly dueMs: EpochMs;
  readonly onConflict: "keep" | "replace";
  readonly expires: Expires;
  readonly bytes: number;
  readonly topic: string;
};

// Few values, so that dues are often equal, and a few far ones, so that stores with several resolutions use them all.
const dueMs = fc.oneof(
  { weight: 4, arbitrary: fc.integer({ min: -2, max: 6 }).map((i) => at(i * 10)) },
  { weight: 2, arbitrary: fc.constantFrom(...[1, 999, 1_000, minute, 3 * minute].map(at)) },
  { weight: 1, arbitrary: fc.constantFrom(epochMs(0), at(hour), at(72 * hour), at(300 * 24 * hour)) },
);
const slot = fc.nat({ max: slots - 1 });
const someSlots = fc.array(slot, { minLength: 1, maxLength: 5 });
const expires = fc.constantFrom<Expires>("as before", "as before", "never", "soon");
/** Whether it is asked for the death that happened, or for another one. */
const isRight = fc.constantFrom(true, true, true, false);
const bytesMax = fc.constantFrom(0, 30, 100, 1_000_000);
const scheduleStep = (slot: fc.Arbitrary<number>): fc.Arbitrary<ScheduleStep> =>
  fc.record({
    slot,
    dueMs,
    onConflict: fc.constantFrom("keep", "keep", "replace"),
    expires,
    bytes: fc.constantFrom(1, 20, 60),
    topic: fc.constantFrom("orders", "orders", "orders", "refunds"),
  });

const steps = (slot: fc.Arbitrary<number>, someSlots: fc.Arbitrary<number[]>): fc.Arbitrary<Step> => {
  const kind = fc.constantFrom<SettleKind>("delivered", "delivered", "retry", "give_back", "bury");
  const item = fc.array(scheduleStep(slot), { minLength: 1, maxLength: 4 });
  return fc.oneof(
    { weight: 4, arbitrary: fc.record({ do: fc.constant("schedule" as const), items: item }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant("fresh" as const), dueMs, group: fc.boolean() }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant("cancel" as const), slots: someSlots }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant("reschedule" as const), slots: someSlots, dueMs, expires }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant("claim" as const), slots: someSlots, bytesMax }) },
    { weight: 4, arbitrary: fc.record({ do: fc.constant("claim near" as const), bytesMax }) },
    { weight: 5, arbitrary: fc.record({ do: fc.constant("settle" as const), slots: someSlots, kind, dueMs }) },
    {
      weight: 2,
      arbitrary: fc.record({ do: fc.constant("revive" as const), slots: someSlots, dueMs, isRight }),
    },
    { weight: 1, arbitrary: fc.record({ do: fc.constant("discard" as const), slots: someSlots, isRight }) },
    {
      weight: 1,
      arbitrary: fc.record({ do: fc.constant("next owner" as const), limit: fc.integer({ min: 1, max: 5 }) }),
    },
    {
      weight: 1,
      arbitrary: fc.record({
        do: fc.constant("near" as const),
        fromMs: dueMs,
        forMs: fc.constantFrom(0, 10, minute, hour),
        limit: fc.integer({ min: 1, max: 5 }),
      }),
    },
    { weight: 2, arbitrary: fc.record({ do: fc.constant("pass" as const), ms: fc.constantFrom(1, 10, 30, 1_000) }) },
  );
};
const step = steps(slot, someSlots);
const groupSlot = fc.integer({ min: loneSlots, max: loneSlots + 2 });
const groupStep = steps(groupSlot, fc.array(groupSlot, { minLength: 1, maxLength: 4 }));

// --- the model --------------------------------------------------------------------------------------------------

type Modeled = {
  message: DelayedMessage;
  state: MessageState;
  dueMs: EpochMs;
  attempt: number;
  order: number;
  endedAtMs: EpochMs | undefined;
};

/** One history: does each step to the store and to the model, and holds the answers against each other. */
class History {
  readonly hands: StoreHands;
  readonly all: Modeled[] = [];
  readonly slots: { id: MessageId; messageGroup?: string }[] = [];
  /** Head of each group by the group's name; a group whose last message ended has none. */
  readonly heads = new Map<string, Modeled>();
  nowMs = t0;
  orders = 0;

  constructor(hands: StoreHands) {
    this.hands = hands;
  }

  async begin(): Promise<void> {
    await this.hands.own();
    for (let i = 0; i < slots; i++) {
      const id = this.hands.id();
      if (i < loneSlots) this.slots.push({ id });
      else this.slots.push({ id, messageGroup: this.hands.groupName(i < loneSlots + 3 ? "g" : "h") });
    }
  }

  async act(step: Step): Promise<void> {
    const { hands } = this;
    const { store, shard } = hands;
    switch (step.do) {
      case "schedule": {
        const items = step.items.map((item) => ({ message: this.messageOf(item), onConflict: item.onConflict }));
        const expected = items.map((item) => this.schedule(item.message, item.onConflict));
        expect(await store.schedule(shard, items, this.nowMs)).toEqual(expected);
        return;
      }
      case "fresh": {
        const message = step.group
          ? hands.grouped("g", { deliverAtMs: step.dueMs })
          : hands.message({ deliverAtMs: step.dueMs });
        const expected = this.schedule(message, "keep");
        expect(await store.schedule(shard, [{ message }], this.nowMs)).toEqual([expected]);
        return;
      }
      case "cancel": {
        const ids = this.ids(step.slots);
        const expected = ids.map((id) => this.cancel(id));
        expect(await store.cancel(shard, ids, this.nowMs)).toEqual(expected);
        return;
      }
      case "reschedule": {
        const expireAtMs = { "as before": undefined, never: null, soon: epochMs(step.dueMs + 15) }[step.expires];
        const changes = this.ids(step.slots).map((id) => ({
          id,
          deliverAtMs: step.dueMs,
          ...(expireAtMs === undefined ? {} : { expireAtMs }),
        }));
        const expected = changes.map(({ id }) => this.reschedule(id, step.dueMs, expireAtMs));
        const results = await store.reschedule(shard, changes, this.nowMs);
        expect(results.map(({ waiting: _waiting, ...rest }) => rest)).toEqual(expected);
        // What the last change of an id says of its waiting must be how things are now.
        for (const [i, { id }] of changes.entries()) {
          if (changes.findLastIndex((change) => change.id === id) !== i || results[i]!.outcome !== "done") continue;
          const known = this.find(id)!;
          if (changes.slice(i + 1).every((later) => this.groupOf(later.id) !== this.groupOf(id))) {
            expect(results[i]!.waiting?.dueMs).toBe(this.isClaimable(known) ? known.dueMs : undefined);
          }
        }
        return;
      }
      case "revive": {
        const items = this.ids(step.slots).map((id) => ({
          message: { ...(this.find(id)?.message ?? hands.message({ id })), deliverAtMs: step.dueMs },
          diedAtMs: this.diedAt(id, step.isRight),
        }));
        const expected = items.map(({ message, diedAtMs }) => {
          if (!this.isDeath(message.id, diedAtMs)) return false;
          this.schedule(message, "replace");
          return true;
        });
        expect(await store.revive(shard, items, this.nowMs)).toEqual(expected);
        return;
      }
      case "discard": {
        const deaths = this.ids(step.slots).map((id) => ({ id, diedAtMs: this.diedAt(id, step.isRight) }));
        const expected = deaths.map(({ id, diedAtMs }) => {
          if (!this.isDeath(id, diedAtMs)) return false;
          Object.assign(this.find(id)!, { state: "canceled", endedAtMs: this.nowMs });
          return true;
        });
        expect(await store.discard(shard, deaths, this.nowMs)).toEqual(expected);
        return;
      }
      case "claim":
        return this.claim(this.ids(step.slots), step.bytesMax);
      case "claim near":
        return this.claim((await hands.near()).slice(0, 200), step.bytesMax);
      case "settle": {
        const outcomes = this.ids(step.slots).map((id) =>
          step.kind === "retry"
            ? { kind: step.kind, id, dueMs: step.dueMs }
            : step.kind === "bury"
              ? { kind: step.kind, id, reason: deadReason }
              : { kind: step.kind, id },
        );
        const nexts = outcomes.map(({ id }) => this.settle(id, step.kind, step.dueMs));
        const { released } = await hands.settle(outcomes, this.nowMs);
        expect(released.map(({ id, dueMs }) => [id, dueMs])).toEqual(
          nexts.filter((next) => next !== undefined).map((next) => [next.message.id, next.dueMs]),
        );
        return;
      }
      case "next owner": {
        const old = hands.epoch;
        await hands.own(hands.owner === "node-a" ? "node-b" : "node-a");
        await expect(store.settle(shard, old, [], this.nowMs)).rejects.toMatchObject({ code: "fenced" });
        let left = this.all.filter(({ state }) => state === "claimed");
        for (let n = await hands.recover(step.limit); n > 0; n = await hands.recover(step.limit)) {
          expect(n).toBeLessThanOrEqual(step.limit);
          left = left.slice(n);
        }
        expect(left).toEqual([]);
        for (const known of this.all) if (known.state === "claimed") known.state = "scheduled";
        return;
      }
      case "near": {
        const untilMs = epochMs(step.fromMs + step.forMs);
        const expected = this.all.filter(
          (known) => this.isClaimable(known) && known.dueMs >= step.fromMs && known.dueMs <= untilMs,
        );
        const seen = await hands.near(step.fromMs, untilMs, step.limit);
        expect([...seen].sort()).toEqual(expected.map(({ message }) => message.id).sort());
        return;
      }
      case "pass":
        this.nowMs = epochMs(this.nowMs + step.ms);
    }
  }

  /** Everything that can be asked, of every message there ever was. */
  async compare(): Promise<void> {
    const { store, shard } = this.hands;
    const found = await store.get(
      shard,
      this.all.map(({ message }) => message.id),
      this.nowMs,
    );
    for (const [i, known] of this.all.entries()) {
      const stored = found[i];
      const { message, state, attempt } = known;
      expect({ ...stored, message: undefined, reason: undefined }).toEqual({
        id: message.id,
        state,
        attempt,
        deliverAtMs: known.dueMs,
        endedAtMs: known.endedAtMs,
      });
      const isWhole = state === "scheduled" || state === "claimed" || state === "dead";
      expect(stored?.message).toEqual(isWhole ? { ...message, attempt } : undefined);
    }
    const near = await this.hands.near(undefined, undefined, 7);
    const claimable = this.all.filter((known) => this.isClaimable(known)).map(({ message }) => message.id);
    expect([...near].sort()).toEqual(claimable.sort());
    const dead = this.all.filter(({ state }) => state === "dead").map(({ message }) => message.id);
    expect((await this.hands.deadIds(3)).sort()).toEqual(dead.sort());

    const stats = await store.stats(shard, this.nowMs);
    const count = (state: MessageState) => this.all.filter((known) => known.state === state).length;
    const waiting = [...stats.waitingByTopic.values()].reduce((sum, n) => sum + n, 0);
    const due = this.all.filter((known) => this.isClaimable(known) && known.dueMs <= this.nowMs).length;
    expect({ waiting, claimed: stats.claimed, dead: stats.dead, due: stats.dueNow }).toEqual({
      waiting: count("scheduled"),
      claimed: count("claimed"),
      dead: count("dead"),
      due,
    });
    const ended = found.filter((stored) => stored?.endedAtMs !== undefined).length;
    expect(waiting + stats.claimed + ended).toBe(this.all.length);
  }

  /** In the end everything that still waits can be sent: nothing is stuck behind anything. */
  async drain(): Promise<void> {
    this.nowMs = at(400 * 24 * hour);
    const claimed = this.all.filter(({ state }) => state === "claimed");
    for (let i = 0; i < claimed.length; i += 200) {
      const part = claimed.slice(i, i + 200).map(({ message }) => message.id);
      for (const id of part) this.settle(id, "delivered", t0);
      await this.hands.settle(
        part.map((id) => ({ kind: "delivered", id })),
        this.nowMs,
      );
    }
    for (let ids = await this.hands.near(); ids.length > 0; ids = await this.hands.near()) {
      const result = await this.hands.claim(ids.slice(0, 200), this.nowMs);
      expect(result.claimed.length + result.expired).toBeGreaterThan(0);
      await this.hands.settle(
        result.claimed.map(({ id }) => ({ kind: "delivered", id })),
        this.nowMs,
      );
    }
    const { waitingByTopic, claimed: out } = await this.hands.store.stats(this.hands.shard, this.nowMs);
    expect([[...waitingByTopic.values()].filter((n) => n > 0), out]).toEqual([[], 0]);
  }

  // --- what the model makes of it -------------------------------------------------------------------------------

  schedule(message: DelayedMessage, onConflict: "keep" | "replace") {
    const known = this.find(message.id);
    if (known === undefined) {
      const accepted: Modeled = {
        message,
        state: "scheduled",
        dueMs: message.deliverAtMs,
        attempt: 0,
        order: ++this.orders,
        endedAtMs: undefined,
      };
      this.all.push(accepted);
      this.joinGroup(accepted);
      return { outcome: "scheduled", ...facts(accepted) };
    }
    if (onConflict === "keep") return { outcome: "kept", ...facts(known) };
    if (known.state === "claimed" || known.state === "delivered") return { outcome: "too_late", ...facts(known) };
    if (known.state === "scheduled") this.quitGroup(known);
    else known.order = ++this.orders;
    Object.assign(known, { message, state: "scheduled", dueMs: message.deliverAtMs, attempt: 0, endedAtMs: undefined });
    this.joinGroup(known);
    return { outcome: "replaced", ...facts(known) };
  }

  diedAt(id: MessageId, isRight: boolean): EpochMs {
    const endedAtMs = this.find(id)?.endedAtMs ?? t0;
    return isRight ? endedAtMs : epochMs(endedAtMs - 1);
  }

  isDeath(id: MessageId, diedAtMs: EpochMs): boolean {
    const known = this.find(id);
    return known?.state === "dead" && known.endedAtMs === diedAtMs;
  }

  cancel(id: MessageId) {
    const known = this.find(id);
    if (known === undefined) return { outcome: "not_found" };
    if (known.state === "scheduled") this.end(known, "canceled");
    return { outcome: known.state === "canceled" ? "done" : "too_late", ...facts(known) };
  }

  reschedule(id: MessageId, dueMs: EpochMs, expireAtMs: EpochMs | null | undefined) {
    const known = this.find(id);
    if (known === undefined) return { outcome: "not_found" };
    if (known.state !== "scheduled") return { outcome: "too_late", ...facts(known) };
    this.quitGroup(known);
    known.dueMs = dueMs;
    known.message = { ...known.message, deliverAtMs: dueMs };
    if (expireAtMs !== undefined) {
      const { expireAtMs: _before, ...endless } = known.message;
      known.message = expireAtMs === null ? endless : { ...endless, expireAtMs };
    }
    this.joinGroup(known);
    return { outcome: "done", ...facts(known) };
  }

  async claim(ids: readonly MessageId[], bytesMax: number): Promise<void> {
    const result = await this.hands.claim(ids, this.nowMs, bytesMax);
    const expected = { claimed: [] as DelayedMessage[], later: [] as unknown[], deferred: [] as MessageId[] };
    const nexts: Modeled[] = [];
    const taken = new Set<MessageId>();
    let [bytes, gone, expired] = [0, 0, 0];
    for (const id of ids) {
      const known = this.find(id);
      if (bytes > bytesMax) expected.deferred.push(id);
      else if (known?.state === "claimed" && !taken.has(id)) {
        // This owner has it: the others' were recovered. As it was, and no attempt more.
        taken.add(id);
        bytes += known.message.body.length;
        expected.claimed.push({ ...known.message, attempt: known.attempt });
      } else if (known === undefined || !this.isClaimable(known)) gone++;
      else if ((known.message.expireAtMs ?? Number.POSITIVE_INFINITY) <= this.nowMs) {
        expired++;
        const next = this.end(known, "expired");
        if (next !== undefined) nexts.push(next);
      } else if (known.dueMs > this.nowMs) expected.later.push({ id, dueMs: known.dueMs });
      else {
        known.state = "claimed";
        known.attempt++;
        taken.add(id);
        bytes += known.message.body.length;
        expected.claimed.push({ ...known.message, attempt: known.attempt });
      }
    }
    expect({ claimed: result.claimed, later: result.later, deferred: result.deferred.toArray() }).toEqual(expected);
    expect([result.gone, result.expired]).toEqual([gone, expired]);
    // Of those that became head, some may have been claimed or have expired further down the list: saying so is allowed.
    const released = new Map(result.released.map(({ id, dueMs }) => [id, dueMs]));
    for (const next of nexts) {
      if (this.isClaimable(next)) expect(released.get(next.message.id)).toBe(next.dueMs);
    }
    for (const id of released.keys()) expect(nexts.map(({ message }) => message.id)).toContain(id);
  }

  settle(id: MessageId, kind: SettleKind, dueMs: EpochMs): Modeled | undefined {
    const known = this.find(id);
    if (known?.state !== "claimed") return undefined;
    if (kind === "delivered") return this.end(known, "delivered");
    if (kind === "bury") return this.end(known, "dead");
    known.state = "scheduled";
    if (kind === "retry") known.dueMs = dueMs;
    else known.attempt--;
    return undefined;
  }

  end(known: Modeled, state: MessageState): Modeled | undefined {
    const next = this.quitGroup(known);
    known.state = state;
    known.endedAtMs = this.nowMs;
    return next;
  }

  joinGroup(known: Modeled): void {
    const group = groupName(known.message);
    if (group === undefined) return;
    const head = this.heads.get(group);
    const givesWay = head === undefined || (head.state === "scheduled" && head.attempt === 0 && before(known, head));
    if (givesWay) this.heads.set(group, this.firstOf(group)!);
  }

  quitGroup(known: Modeled): Modeled | undefined {
    const group = groupName(known.message);
    if (group === undefined || this.heads.get(group) !== known) return undefined;
    const next = this.firstOf(group, known);
    if (next === undefined) this.heads.delete(group);
    else this.heads.set(group, next);
    return next;
  }

  firstOf(group: string, except?: Modeled): Modeled | undefined {
    const members = this.all.filter(
      (known) => known !== except && known.state === "scheduled" && groupName(known.message) === group,
    );
    return members.sort((a, b) => (before(a, b) ? -1 : 1))[0];
  }

  isClaimable(known: Modeled): boolean {
    const group = groupName(known.message);
    return known.state === "scheduled" && (group === undefined || this.heads.get(group) === known);
  }

  find(id: MessageId): Modeled | undefined {
    return this.all.find(({ message }) => message.id === id);
  }

  groupOf(id: MessageId): string | undefined {
    const known = this.find(id);
    return known === undefined ? undefined : groupName(known.message);
  }

  ids(slots: readonly number[]): MessageId[] {
    return slots.map((slot) => this.slots[slot]!.id);
  }

  messageOf({ slot, dueMs, expires, bytes, topic }: ScheduleStep): DelayedMessage {
    return this.hands.message({
      ...this.slots[slot]!,
      topic,
      deliverAtMs: dueMs,
      body: Buffer.alloc(bytes, bytes),
      ...(expires === "soon" ? { expireAtMs: epochMs(dueMs + 15) } : {}),
    });
  }
}

const facts = ({ state, dueMs, attempt }: Modeled) => ({ state, deliverAtMs: dueMs, attempt });

const groupName = ({ messageGroup, topic }: DelayedMessage): string | undefined =>
  messageGroup === undefined ? undefined : `${topic}/${messageGroup}`;

const before = (a: Modeled, b: Modeled): boolean =>
  a.message.deliverAtMs === b.message.deliverAtMs ? a.order < b.order : a.message.deliverAtMs < b.message.deliverAtMs;
