import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { laneOf } from "../message/id.ts";
import { IdList } from "../message/id-list.ts";
import type { DelayedMessage } from "../message/message.ts";
import { isEnded, type MessageEvent, type MessageState, messageStates, nextState } from "../message/state.ts";
import { day, durationMs, type EpochMs, epochMs, epochMsMax, hour, minute, second } from "../message/time.ts";
import { delayStoreGroupsContract } from "./delay-store-groups.contract.ts";
import {
  at,
  type DelayStoreSubject,
  type DelayStoreWishes,
  deadReason,
  expectSame,
  longLeaseMs,
  StoreHands,
  t0,
} from "./delay-store-hands.ts";
import { delayStoreModelContract } from "./delay-store-model.contract.ts";
import { delayStoreOwnersContract } from "./delay-store-owners.contract.ts";

/**
 * The manual of the delay store, to be run. An adapter's test calls it with a factory of fresh, empty stores. Read
 * it beside delay-store.port.ts: the port says a sentence, this tries it.
 *
 * This file holds what happens to messages; delay-store-groups holds message groups, delay-store-owners holds leases,
 * fencing, members and news, delay-store-model random histories against a tiny model.
 *
 * What a store may choose, and what is therefore not tried: the order within a page of `near`, the order of dead
 * messages of one millisecond, how soon news arrives, whether a claim under a lease that ran out but that nobody else
 * took succeeds (its epoch is still the newest).
 */
export type DelayStoreFactory = (wishes: DelayStoreWishes) => Promise<DelayStoreSubject>;

export type DelayStoreContractOptions = {
  /** Random histories to try; each needs a fresh store. */
  readonly modelRuns?: number;
  /** Steps of one history, at most. */
  readonly modelSteps?: number;
};

export const delayStoreContract = (
  name: string,
  factory: DelayStoreFactory,
  options: DelayStoreContractOptions = {},
): void => {
  describe(`delay store: ${name}`, () => {
    messagesContract(factory);
    delayStoreGroupsContract(factory);
    delayStoreOwnersContract(factory);
    delayStoreModelContract(factory, options);
  });
};

const messagesContract = (factory: DelayStoreFactory): void => {
  let subject: DelayStoreSubject;
  let hands: StoreHands;
  beforeEach(async () => {
    subject = await factory({});
    hands = new StoreHands(subject);
    await hands.own();
  });
  afterEach(() => subject.close());

  describe("what goes in comes out, byte for byte", () => {
    const everyByte = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));

    it("keeps every field, every byte value, unicode and empty property values", async () => {
      const message = hands.message({
        tenant: "Zürich\u0000ltd",
        key: "order \u{1F4E6}\n#1",
        topic: "%RETRY%orders|x",
        tag: "größe",
        keys: ["a", "", "日本", everyByte.toString("latin1")],
        properties: new Map([
          ["empty", ""],
          ["", "no name"],
          ["__proto__", "plain"],
          ["constructor", "plain"],
          ["newline\nand\u0000zero", "日本語 \u{1F600} \u{10FFFF} e\u0301"],
          ["1", "a number for a name"],
        ]),
        body: everyByte,
        deliverAtMs: at(1_234),
        expireAtMs: at(86_400_001),
        acceptedAtMs: at(-987_654_321),
        retry: { maxAttempts: 1_000, initialMs: durationMs(1), maxMs: durationMs(365 * day), multiplier: 1.7 },
      });
      await hands.schedule(message);
      expectSame((await hands.get(message))?.message, message);
      const { claimed } = await hands.claim([message], at(1_234));
      expectSame(claimed[0], { ...message, attempt: 1 });
    });

    it("leaves out what was left out", async () => {
      const message = await hands.scheduled();
      const { claimed } = await hands.claim([message]);
      expectSame(claimed[0], { ...message, attempt: 1 });
      for (const field of ["key", "tag", "messageGroup", "expireAtMs", "retry"] as const) {
        expect(claimed[0]?.[field], field).toBeUndefined();
      }
    });

    it("keeps bodies that look like something else", async () => {
      const texts = ["\0", "0", "nil", "false", "null", "-1", "\r\n", "*3\r\n$3\r\nSET", "\xff\xfe", "a".repeat(16)];
      const messages = texts.map((text) => hands.message({ body: Buffer.from(text, "latin1") }));
      await hands.schedule(...messages);
      const { claimed } = await hands.claim(messages);
      for (const [i, message] of messages.entries()) expectSame(claimed[i], { ...message, attempt: 1 });
    });

    it("keeps a body of 4,000,000 bytes", async () => {
      const body = Buffer.alloc(4_000_000);
      for (let i = 0; i < body.length; i++) body[i] = (i * 31) ^ (i >>> 8);
      const message = await hands.scheduled({ body });
      expectSame((await hands.claim([message])).claimed[0], { ...message, attempt: 1 });
      await hands.buryClaimed(message);
      expectSame((await hands.get(message))?.message, { ...message, attempt: 1 });
    });

    it("has its own copy: the caller may use its buffer again", async () => {
      const body = Buffer.from("as it was");
      const message = await hands.scheduled({ body });
      body.fill(0);
      expect((await hands.claim([message])).claimed[0]?.body.toString()).toBe("as it was");
    });
  });

  describe("accepting", () => {
    it("answers what holds for each message, in order, up to the limit of 200", async () => {
      const messages = Array.from({ length: 200 }, (_, i) => hands.message({ deliverAtMs: at(i) }));
      const results = await hands.store.schedule(
        hands.shard,
        messages.map((message) => ({ message })),
        t0,
      );
      expect(results).toEqual(
        messages.map(({ deliverAtMs }) => ({ outcome: "scheduled", state: "scheduled", deliverAtMs, attempt: 0 })),
      );
      const found = await hands.store.get(
        hands.shard,
        messages.map(({ id }) => id),
        t0,
      );
      for (const [i, message] of messages.entries()) expectSame(found[i]?.message, message);
      expect((await hands.claim(messages, at(199))).claimed.map(({ id }) => id)).toEqual(messages.map(({ id }) => id));
      const settled = messages.map(({ id }) => ({ kind: "delivered", id }) as const);
      await hands.settle(settled, at(200));
      expect(await hands.near()).toEqual([]);
      for (const known of await hands.store.get(hands.shard, [messages[0]!.id, messages[199]!.id], at(200))) {
        expect(known?.state).toBe("delivered");
      }
    });

    it("takes 8,000,000 bytes of bodies in one call", async () => {
      const big = [1, 2].map((fill) => hands.message({ body: Buffer.alloc(4_000_000, fill) }));
      await hands.store.schedule(
        hands.shard,
        big.map((message) => ({ message })),
        t0,
      );
      const { claimed } = await hands.claim(big);
      for (const [i, message] of big.entries()) expectSame(claimed[i], { ...message, attempt: 1 });
    });

    it("does nothing with empty batches", async () => {
      expect(await hands.store.schedule(hands.shard, [], t0)).toEqual([]);
      expect(await hands.store.cancel(hands.shard, [], t0)).toEqual([]);
      expect(await hands.store.reschedule(hands.shard, [], t0)).toEqual([]);
      expect(await hands.store.get(hands.shard, [], t0)).toEqual([]);
      await hands.store.bury(hands.shard, [], t0);
      expect((await hands.settle([])).released).toEqual([]);
      const nothing = await hands.claim([]);
      expect(nothing).toMatchObject({ claimed: [], later: [], gone: 0, expired: 0, released: [] });
      expect(nothing.deferred.length).toBe(0);
    });

    it("P5: the same key is one message: keep answers the first one and changes nothing", async () => {
      const first = await hands.scheduled({ deliverAtMs: at(10) });
      const again = { ...first, body: Buffer.from("another"), deliverAtMs: at(99), topic: "elsewhere" };
      expect(await hands.scheduleOne(again, { onConflict: "keep" })).toEqual({
        outcome: "kept",
        state: "scheduled",
        deliverAtMs: at(10),
        attempt: 0,
      });
      expectSame((await hands.get(first))?.message, first);
      expect(await hands.near()).toEqual([first.id]);
    });

    it("P5: replace puts the new message in the place of the waiting one, attempts back to 0", async () => {
      const first = await hands.scheduled({ expireAtMs: at(50), tag: "old", key: "k" });
      await hands.claimed(first);
      await hands.retry(first, at(20));
      const second = hands.message({ id: first.id, topic: "elsewhere", deliverAtMs: at(99), key: "k" });
      expect(await hands.scheduleOne(second, { onConflict: "replace" })).toEqual({
        outcome: "replaced",
        state: "scheduled",
        deliverAtMs: at(99),
        attempt: 0,
      });
      expectSame((await hands.get(first))?.message, second);
      expect((await hands.claim([first], at(98))).later).toEqual([{ id: first.id, dueMs: at(99) }]);
      expectSame((await hands.claim([first], at(99))).claimed[0], { ...second, attempt: 1 });
    });

    it("a replaced message is found once, at its new time only", async () => {
      const message = await hands.scheduled({ deliverAtMs: at(1_000) });
      await hands.scheduleOne({ ...message, deliverAtMs: at(90 * day) }, { onConflict: "replace" });
      expect(await hands.near(t0, at(minute))).toEqual([]);
      expect(await hands.near(at(90 * day), at(90 * day))).toEqual([message.id]);
      expect(await hands.near()).toEqual([message.id]);
    });

    it("a fresh key is scheduled under keep and under replace", async () => {
      for (const onConflict of ["keep", "replace"] as const) {
        const message = hands.message();
        expect((await hands.scheduleOne(message, { onConflict })).outcome).toBe("scheduled");
        expectSame((await hands.get(message))?.message, message);
      }
    });

    it("handles the same id twice in one call in order", async () => {
      const first = hands.message({ deliverAtMs: at(1) });
      const second = { ...first, body: Buffer.from("second"), deliverAtMs: at(2) };
      const third = { ...first, body: Buffer.from("third"), deliverAtMs: at(3) };
      const results = await hands.store.schedule(
        hands.shard,
        [
          { message: first, onConflict: "keep" },
          { message: second, onConflict: "keep" },
          { message: third, onConflict: "replace" },
          { message: second, onConflict: "keep" },
        ],
        t0,
      );
      expect(results.map(({ outcome, deliverAtMs }) => [outcome, deliverAtMs])).toEqual([
        ["scheduled", at(1)],
        ["kept", at(1)],
        ["replaced", at(3)],
        ["kept", at(3)],
      ]);
      expectSame((await hands.get(first))?.message, third);
      expect(await hands.near()).toEqual([first.id]);
    });

    it("P1: asking again after an answer was lost is safe, whatever happened since", async () => {
      for (const state of messageStates) {
        const message = await hands.bring(state);
        const again = await hands.scheduleOne(message, { onConflict: "keep" });
        expect(again, state).toMatchObject({ outcome: "kept", state });
        expect(await hands.state(message)).toBe(state);
      }
    });

    it("a revived key starts anew: whole, at its new time, attempts at 0, not dead any more", async () => {
      for (const state of ["dead", "canceled", "expired"] as const) {
        const old = await hands.bring(state);
        const anew = hands.message({ id: old.id, deliverAtMs: at(5_000), body: Buffer.from("anew") });
        expect(await hands.scheduleOne(anew, { onConflict: "replace" }), state).toEqual({
          outcome: "replaced",
          state: "scheduled",
          deliverAtMs: at(5_000),
          attempt: 0,
        });
        const found = await hands.get(anew);
        expect(found?.endedAtMs).toBeUndefined();
        expect(found?.reason).toBeUndefined();
        expectSame(found?.message, anew);
        expect(await hands.deadIds()).toEqual([]);
        expect((await hands.claim([anew], at(4_999))).later).toHaveLength(1);
        expectSame((await hands.claim([anew], at(5_000))).claimed[0], { ...anew, attempt: 1 });
        await hands.delivered(anew);
      }
    });
  });

  describe("every state and every verb", () => {
    /** What each verb makes of a message, said with the events of the state table. */
    const verbs: Record<string, { event: (state: MessageState) => MessageEvent | undefined; act: Act }> = {
      "schedule again, keep": {
        event: () => undefined,
        act: async (message, _moved, state) => {
          expect(await hands.scheduleOne(message, { onConflict: "keep" })).toMatchObject({ outcome: "kept", state });
        },
      },
      "schedule again, replace": {
        event: (state) => (state === "scheduled" ? "reschedule" : "revive"),
        act: async (message, moved) => {
          const { outcome } = await hands.scheduleOne(message, { onConflict: "replace" });
          expect(outcome).toBe(moved ? "replaced" : "too_late");
        },
      },
      cancel: {
        event: () => "cancel",
        act: async (message, moved, state) => {
          const result = await hands.cancel(message, at(7));
          const done = moved || state === "canceled";
          expect(result).toMatchObject({ outcome: done ? "done" : "too_late", state: done ? "canceled" : state });
        },
      },
      reschedule: {
        event: () => "reschedule",
        act: async (message, moved, state) => {
          const result = await hands.reschedule(message, { deliverAtMs: at(70) });
          expect(result).toMatchObject({ outcome: moved ? "done" : "too_late", state });
        },
      },
      "bury what is known already": {
        event: () => undefined,
        act: (message) => hands.store.bury(hands.shard, [{ message, reason: deadReason }], t0),
      },
      claim: {
        event: () => "claim",
        act: async (message, moved, state) => {
          const { claimed, gone } = await hands.claim([message]);
          expect([claimed.length, gone]).toEqual(moved || state === "claimed" ? [1, 0] : [0, 1]);
        },
      },
      "claim when its time has run out": {
        event: () => "expire",
        act: async (message, moved, state) => {
          const { claimed, gone, expired } = await hands.claim([message], at(hour));
          const other = state === "claimed" ? [1, 0, 0] : [0, 1, 0];
          expect([claimed.length, gone, expired]).toEqual(moved ? [0, 0, 1] : other);
        },
      },
      "settle as delivered": { event: () => "deliver", act: (message) => hands.delivered(message) },
      "settle as retry": { event: () => "retry", act: (message) => hands.retry(message, at(9)) },
      "settle as given back": { event: () => "give_back", act: (message) => hands.giveBack(message) },
      "settle as buried": { event: () => "bury", act: (message) => hands.buryClaimed(message) },
      "recover by the next owner": {
        event: () => "give_back",
        act: async (_message, moved) => {
          await hands.own("node-b");
          expect(await hands.recover()).toBe(moved ? 1 : 0);
        },
      },
    };
    type Act = (message: DelayedMessage, moved: boolean, state: MessageState) => Promise<unknown>;

    for (const state of messageStates) {
      for (const [verb, { event, act }] of Object.entries(verbs)) {
        const happening = event(state);
        const next = happening === undefined ? undefined : nextState(state, happening);
        it(`${state}, then ${verb}: ${next === undefined ? "stays" : next}`, async () => {
          const message = await hands.bring(state, verb.includes("run out") ? { expireAtMs: at(minute) } : {});
          const before = await hands.get(message);
          await act(message, next !== undefined, state);
          const after = await hands.get(message);
          expect(after?.state).toBe(next ?? state);
          if (next === undefined) expect(after).toEqual(before);
          expect(await hands.near()).toEqual(after?.state === "scheduled" ? [message.id] : []);
          expect(await hands.deadIds()).toEqual(after?.state === "dead" ? [message.id] : []);
          const { claimed, dead, waitingByTopic } = await hands.store.stats(hands.shard, t0);
          expect({ claimed, dead, waiting: waitingByTopic.get("orders") ?? 0 }).toEqual({
            claimed: after?.state === "claimed" ? 1 : 0,
            dead: after?.state === "dead" ? 1 : 0,
            waiting: after?.state === "scheduled" ? 1 : 0,
          });
          const isWhole = after !== undefined && (!isEnded(after.state) || after.state === "dead");
          expect(after?.message?.id).toBe(isWhole ? message.id : undefined);
          expect(after?.endedAtMs === undefined).toBe(after !== undefined && !isEnded(after.state));
        });
      }
    }

    it("an unknown id is answered as such by every verb", async () => {
      const unknown = hands.message();
      expect(await hands.get(unknown)).toBeUndefined();
      expect(await hands.cancel(unknown)).toEqual({ outcome: "not_found" });
      expect(await hands.reschedule(unknown, { deliverAtMs: at(1) })).toEqual({ outcome: "not_found" });
      expect(await hands.claim([unknown])).toMatchObject({ claimed: [], later: [], gone: 1, expired: 0 });
      for (const settle of [hands.delivered, hands.giveBack, hands.buryClaimed]) await settle.call(hands, unknown);
      await hands.retry(unknown, at(1));
      expect(await hands.get(unknown)).toBeUndefined();
      expect(await hands.near()).toEqual([]);
      expect(await hands.deadIds()).toEqual([]);
    });
  });

  describe("repeating a call whose answer was lost", () => {
    it("P1: every verb may be said again and changes nothing the second time", async () => {
      const { store, shard } = hands;
      const message = hands.message({ deliverAtMs: at(10), expireAtMs: at(hour) });
      const { id } = message;
      const unadmitted = hands.message();
      const snapshot = async () => {
        const { waitingByTopic, claimed, dead } = await store.stats(shard, t0);
        const known = await store.get(shard, [id, unadmitted.id], t0);
        return { known, near: await hands.near(), waiting: [...waitingByTopic], claimed, dead };
      };
      const verbs: [string, () => Promise<unknown>][] = [
        ["schedule", () => store.schedule(shard, [{ message, onConflict: "keep" }], t0)],
        ["replace", () => store.schedule(shard, [{ message, onConflict: "replace" }], t0)],
        ["reschedule", () => store.reschedule(shard, [{ id, deliverAtMs: at(20), expireAtMs: null }], t0)],
        ["acquire", () => store.acquire(shard, "node-a", longLeaseMs)],
        ["renew", () => store.renew([{ shard, epoch: hands.epoch }], "node-a", longLeaseMs)],
        ["claim", () => hands.claim([id], at(20))],
        ["retry", () => hands.retry(id, at(30))],
        ["claim again", () => hands.claim([id], at(30))],
        ["give back", () => hands.giveBack(id)],
        ["claim for another", () => hands.claim([id], at(30))],
        ["change owner", () => hands.own("node-b")],
        ["recover", () => hands.recover()],
        ["claim for the dead", () => hands.claim([id], at(30))],
        ["settle as buried", () => hands.buryClaimed(id, at(31))],
        ["bury", () => store.bury(shard, [{ message: unadmitted, reason: deadReason }], at(32))],
        ["revive", () => store.schedule(shard, [{ message, onConflict: "replace" }], t0)],
        ["cancel", () => hands.cancel(id, at(33))],
      ];
      const seen = new Set<string>();
      for (const [verb, act] of verbs) {
        await act();
        const once = await snapshot();
        await act();
        expect(await snapshot(), verb).toEqual(once);
        seen.add(once.known[0]!.state);
      }
      expect([...seen]).toEqual(["scheduled", "claimed", "dead", "canceled"]);
    });
  });

  describe("canceling and rescheduling (P4: they answer the truth)", () => {
    it("P4: after canceled, nothing is ever handed out, and saying it again changes nothing", async () => {
      const message = await hands.scheduled();
      expect(await hands.cancel(message, at(3))).toMatchObject({ outcome: "done", state: "canceled", attempt: 0 });
      expect(await hands.cancel(message, at(4))).toMatchObject({ outcome: "done", state: "canceled" });
      expect(await hands.get(message)).toMatchObject({ state: "canceled", endedAtMs: at(3), deliverAtMs: t0 });
      expect(await hands.claim([message], at(day))).toMatchObject({ claimed: [], gone: 1 });
    });

    it("P4: a message that waits for a retry can still be canceled", async () => {
      const message = await hands.bring("claimed");
      await hands.retry(message, at(60_000));
      expect(await hands.cancel(message)).toMatchObject({ outcome: "done", state: "canceled", attempt: 1 });
      expect(await hands.near()).toEqual([]);
    });

    it("P4: a claimed message is too late, and is canceled no more when it comes back by a retry", async () => {
      const message = await hands.bring("claimed");
      expect(await hands.cancel(message)).toMatchObject({ outcome: "too_late", state: "claimed", attempt: 1 });
      await hands.retry(message, at(1));
      expect(await hands.state(message)).toBe("scheduled");
    });

    it("answers each of a batch, the same id twice in order", async () => {
      const [a, b] = [await hands.scheduled(), await hands.bring("delivered")];
      const unknown = hands.id();
      const results = await hands.store.cancel(hands.shard, [a.id, unknown, b.id, a.id], t0);
      expect(results.map(({ outcome, state }) => [outcome, state])).toEqual([
        ["done", "canceled"],
        ["not_found", undefined],
        ["too_late", "delivered"],
        ["done", "canceled"],
      ]);
    });

    it("a rescheduled message is found at its new time only, sooner or later", async () => {
      const message = await hands.scheduled({ deliverAtMs: at(3 * day) });
      for (const dueMs of [at(300 * day), at(5), at(5), at(hour), epochMs(1_000)]) {
        expect(await hands.reschedule(message, { deliverAtMs: dueMs })).toEqual({
          outcome: "done",
          state: "scheduled",
          deliverAtMs: dueMs,
          attempt: 0,
          waiting: { lane: laneOf("default", "orders"), dueMs },
        });
        expect(await hands.near(dueMs, dueMs)).toEqual([message.id]);
        expect(await hands.near()).toEqual([message.id]);
        expect((await hands.get(message))?.message?.deliverAtMs).toBe(dueMs);
      }
    });

    it("rescheduling keeps what it does not name", async () => {
      const message = await hands.scheduled({
        expireAtMs: at(hour),
        properties: new Map([["a", "1"]]),
        tag: "t",
        retry: { maxAttempts: 5, initialMs: second, maxMs: minute, multiplier: 2 },
      });
      await hands.reschedule(message, { deliverAtMs: at(5) });
      let expected: DelayedMessage = { ...message, deliverAtMs: at(5) };
      expectSame((await hands.get(message))?.message, expected);

      expected = { ...expected, body: Buffer.from([0, 255, 10]), deliverAtMs: at(6) };
      await hands.reschedule(message, { deliverAtMs: at(6), body: expected.body });
      expectSame((await hands.get(message))?.message, expected);

      expected = { ...expected, properties: new Map([["b", ""]]), expireAtMs: at(2 * hour) };
      await hands.reschedule(message, {
        deliverAtMs: at(6),
        properties: expected.properties,
        expireAtMs: at(2 * hour),
      });
      expectSame((await hands.get(message))?.message, expected);

      const { expireAtMs: _dropped, ...endless } = expected;
      await hands.reschedule(message, { deliverAtMs: at(6), expireAtMs: null });
      expectSame((await hands.get(message))?.message, endless);
      expectSame((await hands.claim([message], at(300 * day))).claimed[0], { ...endless, attempt: 1 });
    });

    it("rescheduling a message that waits for a retry moves both of its times and keeps its attempts", async () => {
      const message = await hands.bring("claimed");
      await hands.retry(message, at(hour));
      const result = await hands.reschedule(message, { deliverAtMs: at(10) });
      expect(result).toMatchObject({ outcome: "done", deliverAtMs: at(10), attempt: 1 });
      expect((await hands.claim([message], at(10))).claimed[0]).toMatchObject({ deliverAtMs: at(10), attempt: 2 });
    });

    it("handles the same id twice in one call in order, and leaves the others alone", async () => {
      const [a, b] = [await hands.scheduled(), await hands.scheduled()];
      const results = await hands.store.reschedule(
        hands.shard,
        [
          { id: a.id, deliverAtMs: at(1) },
          { id: hands.id(), deliverAtMs: at(1) },
          { id: a.id, deliverAtMs: at(2) },
        ],
        t0,
      );
      expect(results.map(({ outcome, deliverAtMs }) => [outcome, deliverAtMs])).toEqual([
        ["done", at(1)],
        ["not_found", undefined],
        ["done", at(2)],
      ]);
      expect(await hands.near(at(2), at(2))).toEqual([a.id]);
      expect(await hands.near(t0, t0)).toEqual([b.id]);
    });
  });

  describe("what is near", () => {
    const dues: Record<string, EpochMs> = {
      "the first millisecond of 1970": epochMs(0),
      "a past year": epochMs(1_000_000_000_000),
      yesterday: at(-day),
      now: t0,
      "1 s": at(second),
      "1 min": at(minute),
      "just over 1 h": at(hour + 1),
      "3 d": at(3 * day),
      "300 d": at(300 * day),
      "the last millisecond with 13 digits (2286-11-20)": epochMs(9_999_999_999_999),
      "the first with 14": epochMs(10_000_000_000_000),
      "the last millisecond of 9999": epochMsMax,
    };

    it("finds any due, both bounds included, to the millisecond", async () => {
      const byName = new Map<string, DelayedMessage>();
      for (const [name, deliverAtMs] of Object.entries(dues)) byName.set(name, await hands.scheduled({ deliverAtMs }));
      for (const [name, message] of byName) {
        const dueMs = message.deliverAtMs;
        expect(await hands.near(dueMs, dueMs), name).toEqual([message.id]);
        const neighbours = [...byName.values()].filter(({ deliverAtMs }) => deliverAtMs === dueMs - 1);
        const justBefore = epochMs(Math.max(dueMs - 1, 0));
        if (dueMs > 0) expect(await hands.near(justBefore, justBefore), name).toEqual(neighbours.map(({ id }) => id));
        const page = await hands.store.near(hands.shard, dueMs, dueMs, undefined, 10);
        expect([...page.dueMs]).toEqual([dueMs]);
        expect([...page.lanes]).toEqual([laneOf("default", "orders")]);
      }
      const inOrder = [...byName.values()].map(({ id }) => id);
      expect((await hands.near(epochMs(0), epochMsMax, 3)).sort()).toEqual([...inOrder].sort());
      expect((await hands.near(at(-day), at(3 * day), 2)).sort()).toEqual(inOrder.slice(2, 8).sort());
    });

    it("claims any due, whatever its distance, and not a millisecond before (P2)", async () => {
      for (const [name, deliverAtMs] of Object.entries(dues)) {
        const message = await hands.scheduled({ deliverAtMs });
        if (deliverAtMs > 0) {
          const early = await hands.claim([message], epochMs(deliverAtMs - 1));
          expect(early, name).toMatchObject({ claimed: [], later: [{ id: message.id, dueMs: deliverAtMs }] });
        }
        const { claimed } = await hands.claim([message], deliverAtMs);
        expect(claimed[0]?.id, name).toBe(message.id);
      }
    });

    it("reads only: asking twice answers twice", async () => {
      const message = await hands.scheduled();
      for (let i = 0; i < 2; i++) expect(await hands.near()).toEqual([message.id]);
      expect(await hands.get(message)).toMatchObject({ state: "scheduled", attempt: 0 });
    });

    it("pages through 5,000 of one millisecond without skipping or repeating any", async () => {
      const ids = await scheduleMany(5_000, () => t0);
      const seen = await hands.near(t0, t0, 100);
      expect(seen.length).toBe(5_000);
      expect(new Set(seen)).toEqual(new Set(ids));
    });

    it("sees what stays exactly once, while others leave and come between the pages", async () => {
      // Dues in three clusters: one crowded millisecond, a spread of minutes, and a spread of days.
      const spread = (i: number) => (i % 3 === 0 ? at(500) : i % 3 === 1 ? at(i * 1_000) : at(i * 3_600_000));
      const ids = await scheduleMany(1_500, spread);
      const touched = new Set<string>();
      const seen: string[] = [];
      let turn = 0;
      for await (const page of hands.nearPages(epochMs(0), epochMsMax, 37)) {
        seen.push(...page);
        turn++;
        // One just read, one somewhere, the neighbours of the cursor, and newcomers before, at and behind it.
        const leaving = [page.at(-1)!, page[0]!, ids[(turn * 97) % ids.length]!, ids[(turn * 31 + 1) % ids.length]!];
        for (const id of leaving) touched.add(id);
        if (turn % 2 === 0) await hands.store.cancel(hands.shard, leaving, t0);
        else {
          const moves = leaving.map((id, i) => ({ id, deliverAtMs: at(500 + i * turn * 1_000) }));
          await hands.store.reschedule(hands.shard, moves, t0);
        }
        const newcomers = [at(0), at(500), at(turn * 1_000), at(turn * 3_600_000)];
        for (const deliverAtMs of newcomers) touched.add((await hands.scheduled({ deliverAtMs })).id);
      }
      const untouched = ids.filter((id) => !touched.has(id));
      expect(untouched.length).toBeGreaterThan(1_000);
      expect(seen.filter((id) => !touched.has(id)).sort()).toEqual([...untouched].sort());
    });

    it("goes on behind a cursor whose whole neighbourhood has gone", async () => {
      const ids = await scheduleMany(300, (i) => at(Math.floor(i / 100) * hour));
      const first = await hands.store.near(hands.shard, t0, at(day), undefined, 150);
      const rest = ids.filter((id) => !first.ids.toArray().includes(id));
      expect(first.cursor).toBeDefined();
      await hands.store.cancel(hands.shard, first.ids.toArray(), t0);
      const seen: string[] = [];
      let cursor = first.cursor;
      while (cursor !== undefined) {
        const page = await hands.store.near(hands.shard, t0, at(day), cursor, 150);
        seen.push(...page.ids.toArray());
        cursor = page.cursor;
      }
      expect(seen.sort()).toEqual([...rest].sort());
    });

    const scheduleMany = async (count: number, dueOf: (i: number) => EpochMs) => {
      const messages = Array.from({ length: count }, (_, i) => hands.message({ deliverAtMs: dueOf(i) }));
      for (let i = 0; i < count; i += 200) await hands.schedule(...messages.slice(i, i + 200));
      return messages.map(({ id }) => id);
    };
  });

  describe("claiming and settling", () => {
    it("P2: never early: not a millisecond before its time, also after a retry", async () => {
      const message = await hands.scheduled({ deliverAtMs: at(10) });
      expect((await hands.claim([message], at(9))).later).toEqual([{ id: message.id, dueMs: at(10) }]);
      expect((await hands.claim([message], at(10))).claimed).toHaveLength(1);
      await hands.retry(message, at(30));
      expect((await hands.claim([message], at(29))).later).toEqual([{ id: message.id, dueMs: at(30) }]);
      expect(await hands.get(message)).toMatchObject({ state: "scheduled", deliverAtMs: at(30), attempt: 1 });
      expect(await hands.near(at(30), at(30))).toEqual([message.id]);
      expect(await hands.near(at(10), at(29))).toEqual([]);
      expect((await hands.claim([message], at(30))).claimed).toHaveLength(1);
    });

    it("hands out the time the user asked for, whatever retries made of the due", async () => {
      const message = await hands.scheduled({ deliverAtMs: at(10) });
      await hands.claim([message], at(10));
      await hands.retry(message, at(500));
      expectSame((await hands.claim([message], at(500))).claimed[0], { ...message, deliverAtMs: at(10), attempt: 2 });
    });

    it("P7: attempts are honest: counted when taken, kept by a retry, taken back when given back", async () => {
      const message = await hands.scheduled();
      await hands.claimed(message);
      expect(await hands.get(message)).toMatchObject({ state: "claimed", attempt: 1 });
      await hands.giveBack(message);
      expect(await hands.get(message)).toMatchObject({ state: "scheduled", attempt: 0, deliverAtMs: t0 });
      for (let attempt = 1; attempt <= 5; attempt++) {
        const { claimed } = await hands.claim([message], at(attempt));
        expect(claimed[0]?.attempt).toBe(attempt);
        await hands.retry(message, at(attempt + 1));
      }
      await hands.claim([message], at(6));
      await hands.giveBack(message);
      expect(await hands.get(message)).toMatchObject({ attempt: 5, deliverAtMs: at(6) });
      await hands.claim([message], at(6));
      await hands.delivered(message, at(8));
      expect(await hands.get(message)).toMatchObject({ state: "delivered", attempt: 6, endedAtMs: at(8) });
    });

    it("answers claimed in the order asked for, and the rest by kind", async () => {
      const due = [await hands.scheduled(), await hands.scheduled(), await hands.scheduled()];
      const far = await hands.scheduled({ deliverAtMs: at(1) });
      const expired = await hands.scheduled({ expireAtMs: at(-1) });
      const canceled = await hands.bring("canceled");
      const [a, b, c] = due as [DelayedMessage, DelayedMessage, DelayedMessage];
      const result = await hands.claim([c, far, canceled, a, expired, hands.id(), b, a]);
      expect(result.claimed.map(({ id }) => id)).toEqual([c.id, a.id, b.id]);
      expect(result.later).toEqual([{ id: far.id, dueMs: at(1) }]);
      expect(result).toMatchObject({ gone: 3, expired: 1, released: [] });
      expect(result.deferred.length).toBe(0);
    });

    it("asked again by the owner that has it, hands it out as it was: the first answer was lost", async () => {
      const message = await hands.scheduled({ expireAtMs: at(10) });
      const first = await hands.claim([message]);
      for (const nowMs of [t0, at(-1), at(10)]) {
        const again = await hands.claim([message], nowMs);
        expect(again).toMatchObject({ gone: 0, expired: 0, later: [] });
        expectSame(again.claimed[0], { ...message, attempt: 1 });
        expect(again.claimed).toEqual(first.claimed);
      }
      expect(await hands.get(message)).toMatchObject({ state: "claimed", attempt: 1 });
    });

    it("hands it out once in one call, however often it is named", async () => {
      const message = await hands.scheduled();
      for (let i = 0; i < 2; i++) {
        const result = await hands.claim([message, message, message]);
        expect([result.claimed.length, result.gone]).toEqual([1, 2]);
      }
    });

    it("P6: what an earlier owner has out is handed out to nobody before it was recovered", async () => {
      const message = await hands.scheduled();
      await hands.claimed(message);
      await hands.own("node-b");
      expect(await hands.claim([message])).toMatchObject({ claimed: [], gone: 1 });
      await hands.recover();
      expect((await hands.claim([message])).claimed[0]?.attempt).toBe(2);
    });

    it("what is handed out again counts for bytesMax like the rest", async () => {
      const body = Buffer.alloc(1_000);
      const [a, b, c] = [await hands.scheduled({ body }), await hands.scheduled({ body }), await hands.scheduled()];
      await hands.claimed(a, b);
      const result = await hands.claim([a, b, c], t0, 1_500);
      expect(result.claimed.map(({ id }) => id)).toEqual([a.id, b.id]);
      expect(result.deferred.toArray()).toEqual([c.id]);
    });

    it("expires at its last instant, not before, and counts no attempt for it", async () => {
      const [early, late] = [
        await hands.scheduled({ expireAtMs: at(5) }),
        await hands.scheduled({ expireAtMs: at(5) }),
      ];
      expect((await hands.claim([early], at(4))).claimed).toHaveLength(1);
      expect(await hands.claim([late], at(5))).toMatchObject({ claimed: [], expired: 1, gone: 0, later: [] });
      const ended = await hands.get(late);
      expect(ended).toMatchObject({ state: "expired", attempt: 0, endedAtMs: at(5) });
      expect(ended?.message).toBeUndefined();
      expect(await hands.near()).toEqual([]);
    });

    it("expires also when its next try lies behind its end", async () => {
      const message = await hands.scheduled({ expireAtMs: at(100) });
      await hands.claimed(message);
      await hands.retry(message, at(200));
      expect((await hands.claim([message], at(99))).later).toHaveLength(1);
      expect(await hands.claim([message], at(100))).toMatchObject({ expired: 1, later: [] });
    });

    it("stops once the bodies taken exceed bytesMax, and says what it did not look at", async () => {
      const body = Buffer.alloc(1_000, 7);
      const messages = await Promise.all([1, 2, 3, 4].map(() => hands.scheduled({ body })));
      const [a, b, c, d] = messages as [DelayedMessage, DelayedMessage, DelayedMessage, DelayedMessage];
      const unknown = hands.id();
      const first = await hands.claim([a, b, c, unknown, d], t0, 1_500);
      expect(first.claimed.map(({ id }) => id)).toEqual([a.id, b.id]);
      expect(first.deferred.toArray()).toEqual([c.id, unknown, d.id]);
      expect(first.gone).toBe(0);
      expect(await hands.get(c)).toMatchObject({ state: "scheduled", attempt: 0 });
      const second = await hands.claim(first.deferred.toArray(), t0, 2_000);
      expect(second.claimed.map(({ id }) => id)).toEqual([c.id, d.id]);
      expect([second.gone, second.deferred.length]).toEqual([1, 0]);
    });

    it("always takes the first, however large", async () => {
      const [big, next] = [await hands.scheduled({ body: Buffer.alloc(1_000_000) }), await hands.scheduled()];
      const result = await hands.claim([big, next], t0, 0);
      expect(result.claimed.map(({ id }) => id)).toEqual([big.id]);
      expect(result.deferred.toArray()).toEqual([next.id]);
    });

    it("records mixed outcomes of one call; a repeated call and a second outcome change nothing", async () => {
      const messages = await Promise.all([1, 2, 3, 4].map(() => hands.scheduled()));
      await hands.claimed(...messages);
      const [a, b, c, d] = messages as [DelayedMessage, DelayedMessage, DelayedMessage, DelayedMessage];
      const outcomes = [
        { kind: "delivered", id: a.id },
        { kind: "retry", id: b.id, dueMs: at(50) },
        { kind: "give_back", id: c.id },
        { kind: "bury", id: d.id, reason: deadReason },
        { kind: "retry", id: a.id, dueMs: at(60) },
        { kind: "delivered", id: d.id },
      ] as const;
      const known = async () =>
        hands.store.get(
          hands.shard,
          messages.map(({ id }) => id),
          at(2),
        );
      await hands.settle(outcomes, at(2));
      const once = await known();
      await hands.settle(outcomes, at(3));
      expect(await known()).toEqual(once);
      expect(once.map((message) => [message?.state, message?.attempt, message?.deliverAtMs])).toEqual([
        ["delivered", 1, t0],
        ["scheduled", 1, at(50)],
        ["scheduled", 0, t0],
        ["dead", 1, t0],
      ]);
      expect(once.map((message) => message?.endedAtMs)).toEqual([at(2), undefined, undefined, at(2)]);
      expect(once[3]?.reason).toEqual(deadReason);
    });
  });

  describe("the dead", () => {
    it("stay whole, with their reason, oldest first, page by page", async () => {
      const buried: DelayedMessage[] = [];
      for (let i = 0; i < 25; i++) {
        const message = hands.message({ deliverAtMs: at(-i), properties: new Map([["n", `${i}`]]) });
        await hands.schedule(message);
        await hands.claimed(message);
        await hands.settle(
          [{ kind: "bury", id: message.id, reason: { code: `c${i}`, detail: `détail ${i}\n"` } }],
          at(i),
        );
        buried.push(message);
      }
      for (const limit of [1, 7, 25, 26, 100]) {
        const dead = (await hands.deadPages(limit)).flat();
        expect(dead.map(({ id }) => id)).toEqual(buried.map(({ id }) => id));
        for (const [i, found] of dead.entries()) {
          expect(found).toMatchObject({ state: "dead", attempt: 1, endedAtMs: at(i) });
          expect(found.reason).toEqual({ code: `c${i}`, detail: `détail ${i}\n"` });
          expectSame(found.message, { ...buried[i]!, attempt: 1 });
        }
      }
      expect(await hands.near()).toEqual([]);
    });

    it("are all found where many died in one millisecond, though some are revived meanwhile", async () => {
      const messages = Array.from({ length: 200 }, () => hands.message());
      await hands.store.bury(
        hands.shard,
        messages.map((message) => ({ message, reason: deadReason })),
        t0,
      );
      expect(new Set(await hands.deadIds(17))).toEqual(new Set(messages.map(({ id }) => id)));

      const first = await hands.store.dead(hands.shard, undefined, 50);
      for (const { message } of first.items.slice(0, 40)) {
        await hands.scheduleOne(message!, { onConflict: "replace" });
      }
      const seen = first.items.map(({ id }) => id);
      let { cursor } = first;
      while (cursor !== undefined) {
        const page = await hands.store.dead(hands.shard, cursor, 50);
        seen.push(...page.items.map(({ id }) => id));
        cursor = page.cursor;
      }
      expect([...seen].sort()).toEqual(messages.map(({ id }) => id).sort());
    });

    it("take what never waited: buried at once, and once only", async () => {
      const message = hands.message({ body: Buffer.from([0, 255]), properties: new Map([["why", ""]]) });
      for (const nowMs of [at(1), at(2)]) {
        await hands.store.bury(hands.shard, [{ message, reason: deadReason }], nowMs);
      }
      const dead = (await hands.deadPages(10)).flat();
      expect(dead).toHaveLength(1);
      expect(dead[0]).toMatchObject({
        id: message.id,
        state: "dead",
        attempt: 0,
        endedAtMs: at(1),
        reason: deadReason,
      });
      expectSame(dead[0]?.message, message);
      expect(await hands.near()).toEqual([]);
      expect((await hands.scheduleOne(message, { onConflict: "keep" })).state).toBe("dead");
      expect((await hands.scheduleOne(message, { onConflict: "replace" })).outcome).toBe("replaced");
      expect(await hands.near()).toEqual([message.id]);
      expect(await hands.deadIds()).toEqual([]);
    });
  });

  describe("tombstones", () => {
    // A store may forget a little late (it may keep tombstones in slices of time), never early.
    const windowMs = 1_000;

    it("P5: ended messages are known for the dedupe window and unknown after it; the dead stay", async () => {
      await subject.close();
      subject = await factory({ dedupeWindowMs: windowMs });
      hands = new StoreHands(subject);
      await hands.own();
      const ended: DelayedMessage[] = [];
      for (const state of ["delivered", "canceled", "expired"] as const) ended.push(await hands.bring(state));
      const revived = await hands.bring("canceled");
      await hands.scheduleOne({ ...revived, deliverAtMs: at(hour) }, { onConflict: "replace" });
      const dead = await hands.bring("dead");
      for (const message of ended) expect(await hands.get(message)).toMatchObject({ deliverAtMs: t0, endedAtMs: t0 });

      // The store's clock and the callers' go on together.
      await hands.pass(windowMs * 0.3);
      for (const message of ended) {
        expect(await hands.get(message, at(windowMs * 0.3))).toMatchObject({ endedAtMs: t0 });
      }
      await hands.pass(windowMs * 1.2);
      const nowMs = at(windowMs * 1.5);
      for (const message of ended) {
        expect(await hands.get(message, nowMs)).toBeUndefined();
        expect((await hands.cancel(message, nowMs)).outcome).toBe("not_found");
        expect((await hands.scheduleOne(message, { onConflict: "keep" })).outcome).toBe("scheduled");
      }
      expect((await hands.get(dead, nowMs))?.state).toBe("dead");
      expect((await hands.get(revived, nowMs))?.state).toBe("scheduled");
      expect((await hands.near()).sort()).toEqual([...ended, revived].map(({ id }) => id).sort());
    });
  });

  describe("stats", () => {
    it("count what waits by topic, what is due when, what is out and what is dead", async () => {
      await hands.bring("claimed");
      await hands.bring("dead");
      await hands.bring("canceled");
      await hands.bring("delivered");
      const dues = [
        -day,
        0,
        1,
        minute,
        minute + 1,
        59 * minute,
        hour,
        hour + 1,
        2 * hour,
        day - 1,
        day,
        day + 1,
        300 * day,
      ];
      for (const [i, due] of dues.entries()) await hands.scheduled({ deliverAtMs: at(due), topic: `topic-${i % 2}` });
      const stats = await hands.store.stats(hands.shard, t0);
      expect(stats).toMatchObject({ owner: "node-a", epoch: hands.epoch, claimed: 1, dead: 1, dueNow: 2 });
      expect(new Map(stats.waitingByTopic)).toEqual(
        new Map([
          ["topic-0", 7],
          ["topic-1", 6],
        ]),
      );
      const minutes = new Array<number>(60).fill(0);
      minutes[0] = 2; // in (now, now + 1 min]: 1 ms and exactly 1 min
      minutes[1] = 1;
      minutes[58] = 1;
      minutes[59] = 1;
      expect(stats.duePerMinute).toEqual(minutes);
      const hours = new Array<number>(24).fill(0);
      hours[0] = 5;
      hours[1] = 2;
      hours[23] = 2;
      expect(stats.duePerHour).toEqual(hours);
    });

    it("of an empty shard are zeros", async () => {
      const stats = await hands.store.stats((hands.shard + 1) % hands.store.shardCount, t0);
      expect(stats).toMatchObject({ owner: undefined, epoch: 0, claimed: 0, dead: 0, dueNow: 0 });
      expect(stats.waitingByTopic.size).toBe(0);
      expect(stats.duePerMinute).toEqual(new Array(60).fill(0));
      expect(stats.duePerHour).toEqual(new Array(24).fill(0));
    });
  });

  describe("shards", () => {
    it("do not see each other", async () => {
      const elsewhere = new StoreHands(subject, hands.shard + 1);
      await elsewhere.own();
      const [here, there] = [await hands.scheduled(), await elsewhere.scheduled()];
      await elsewhere.claimed(there);
      await elsewhere.buryClaimed(there);
      expect(await hands.near()).toEqual([here.id]);
      expect(await elsewhere.near()).toEqual([]);
      expect(await hands.deadIds()).toEqual([]);
      expect(await elsewhere.get(here)).toBeUndefined();
      const claimedThere = await hands.store.claim(elsewhere.shard, elsewhere.epoch, IdList.of([here.id]), t0, 1e9);
      expect(claimedThere).toMatchObject({ claimed: [], gone: 1 });
      expect((await hands.store.acquire(elsewhere.shard, "node-b", longLeaseMs)).outcome).toBe("held");
    });
  });

  describe("its own health", () => {
    it("says its time, its round trip and what is wrong", async () => {
      const check = await hands.store.check();
      expect(Number.isSafeInteger(check.timeMs)).toBe(true);
      expect(check.timeMs).toBeGreaterThan(1_600_000_000_000);
      expect(check.roundTripMs).toBeGreaterThanOrEqual(0);
      expect(check.problems).toEqual([]);
      for (const warning of check.warnings) expect(warning).toMatch(/\w+ \w+/);
    });
  });
};
