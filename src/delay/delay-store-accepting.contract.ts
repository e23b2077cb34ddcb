import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { laneOf } from "../message/id.ts";
import type { DelayedMessage } from "../message/message.ts";
import { messageStates } from "../message/state.ts";
import { day, durationMs, epochMs, hour, minute, second } from "../message/time.ts";
import type { DelayStoreFactory } from "./delay-store.contract.ts";
import {
  at,
  type DelayStoreSubject,
  deadReason,
  expectSame,
  longLeaseMs,
  StoreHands,
  t0,
} from "./delay-store-hands.ts";

/** The contract about what anyone may do: accept, replace, cancel, reschedule; and what is known after the end. */
export const delayStoreAcceptingContract = (factory: DelayStoreFactory): void => {
  describe("what anyone may do", () => {
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
        expect((await hands.claim(messages, at(199))).claimed.map(({ id }) => id)).toEqual(
          messages.map(({ id }) => id),
        );
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
  });
};
