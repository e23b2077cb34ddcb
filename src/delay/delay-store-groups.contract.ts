import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { idFromBytes, laneOf, type MessageId } from "../message/id.ts";
import type { DelayedMessage } from "../message/message.ts";
import { hour, minute } from "../message/time.ts";
import type { DelayStoreFactory } from "./delay-store.contract.ts";
import { at, type DelayStoreSubject, StoreHands, t0 } from "./delay-store-hands.ts";

/**
 * The contract about message groups. Of each group, which is one per tenant, topic and name, only the head can be
 * claimed or be seen near. The order is (the time the user asked for, acceptance).
 *
 * A head keeps its place until it ends, even while it waits an hour for its next try: what was sent behind it could
 * otherwise overtake it. Only a head that was never attempted and is not claimed gives way, to a message that comes in
 * with an earlier time. What was moved by `reschedule` or `replace` goes to its new place as if it had just come in,
 * under its old number of acceptance.
 */
export const delayStoreGroupsContract = (factory: DelayStoreFactory): void => {
  describe("message groups", () => {
    let subject: DelayStoreSubject;
    let hands: StoreHands;
    beforeEach(async () => {
      subject = await factory({});
      hands = new StoreHands(subject);
      await hands.own();
    });
    afterEach(() => subject.close());

    /** Messages of one group, scheduled in this order with these dues. */
    const queue = async (...offsetsMs: number[]): Promise<DelayedMessage[]> => {
      const messages = offsetsMs.map((offsetMs) => hands.grouped("g", { deliverAtMs: at(offsetMs) }));
      for (const message of messages) await hands.schedule(message);
      return messages;
    };
    const lane = laneOf("default", "orders");
    const released = (message: DelayedMessage, dueMs = message.deliverAtMs) => [{ id: message.id, lane, dueMs }];

    /** Claims and delivers whatever is near until nothing is, and answers the order. */
    const drain = async (nowMs = at(300 * hour)): Promise<MessageId[]> => {
      const order: MessageId[] = [];
      for (let ids = await hands.near(); ids.length > 0; ids = await hands.near()) {
        const { claimed } = await hands.claim(ids, nowMs);
        for (const { id } of claimed) {
          order.push(id);
          await hands.delivered(id, nowMs);
        }
      }
      return order;
    };
    const idsOf = (messages: readonly (DelayedMessage | undefined)[]) => messages.map((message) => message!.id);

    it("only the head is near and can be claimed; the rest are gone to a claim", async () => {
      const [a, b, c] = (await queue(-3, -2, -1)) as [DelayedMessage, DelayedMessage, DelayedMessage];
      expect(await hands.near()).toEqual([a.id]);
      const result = await hands.claim([c, b, a]);
      expect(result.claimed.map(({ id }) => id)).toEqual([a.id]);
      expect(result.gone).toBe(2);
      expect(await hands.near()).toEqual([]);
      for (const follower of [b, c])
        expect(await hands.get(follower)).toMatchObject({ state: "scheduled", attempt: 0 });
    });

    it("delivered, the head releases the next, claimable at once if its time has come", async () => {
      const [a, b, c] = (await queue(-3, -2, hour)) as [DelayedMessage, DelayedMessage, DelayedMessage];
      await hands.claimed(a);
      expect((await hands.delivered(a)).released).toEqual(released(b));
      expect(await hands.near()).toEqual([b.id]);
      expect((await hands.delivered(a)).released).toEqual([]);
      await hands.claimed(b);
      expect((await hands.delivered(b)).released).toEqual(released(c));
      expect((await hands.claim([c])).later).toEqual([{ id: c.id, dueMs: at(hour) }]);
      await hands.claim([c], at(hour));
      expect((await hands.delivered(c)).released).toEqual([]);
      expect(await hands.near()).toEqual([]);
    });

    it("goes out in the order of time, then of acceptance", async () => {
      const [e, b, c, a, d, f] = await queue(50, 20, 20, 10, 20, 50);
      expect(await drain()).toEqual(idsOf([a, b, c, d, e, f]));
    });

    it("keeps the order of acceptance within one call too", async () => {
      const messages = Array.from({ length: 50 }, (_, i) => hands.grouped("g", { deliverAtMs: at(i < 25 ? 9 : 3) }));
      await hands.schedule(...messages);
      expect(await drain()).toEqual(idsOf([...messages.slice(25), ...messages.slice(0, 25)]));
    });

    it("a message with an earlier time takes the place of a head that was never attempted", async () => {
      const [a, b] = (await queue(100, 50)) as [DelayedMessage, DelayedMessage];
      expect(await hands.near()).toEqual([b.id]);
      expect(await hands.claim([a], at(200))).toMatchObject({ claimed: [], gone: 1 });
      expect(await drain()).toEqual(idsOf([b, a]));
    });

    it("a message of the same time or later does not", async () => {
      const [a] = await queue(50, 50, 51);
      expect(await hands.near()).toEqual([a!.id]);
    });

    it("a claimed head keeps its place against an earlier message", async () => {
      const [a] = (await queue(0)) as [DelayedMessage];
      await hands.claimed(a);
      const [b] = (await queue(-100)) as [DelayedMessage];
      expect(await hands.near()).toEqual([]);
      expect(await hands.claim([b])).toMatchObject({ claimed: [], gone: 1 });
      expect((await hands.delivered(a)).released).toEqual(released(b));
    });

    it("a head that waits for its next try keeps its place, and holds up its own group only", async () => {
      const [a, b] = (await queue(-10, -5)) as [DelayedMessage, DelayedMessage];
      const alone = await hands.scheduled();
      const ofOtherGroup = hands.grouped("h");
      await hands.schedule(ofOtherGroup);
      await hands.claimed(a);
      expect((await hands.retry(a, at(hour))).released).toEqual([]);
      const [earlier] = (await queue(-20)) as [DelayedMessage];
      expect((await hands.near()).sort()).toEqual([a, alone, ofOtherGroup].map(({ id }) => id).sort());
      await hands.claimed(alone, ofOtherGroup);
      expect(await hands.claim([b, earlier])).toMatchObject({ claimed: [], gone: 2 });
      expect((await hands.claim([a], at(hour))).claimed[0]?.attempt).toBe(2);
      expect((await hands.delivered(a)).released).toEqual(released(earlier));
      await hands.claimed(earlier);
      expect((await hands.delivered(earlier)).released).toEqual(released(b));
    });

    it("given back, it is still the head", async () => {
      const [a, b] = (await queue(-10, -5)) as [DelayedMessage, DelayedMessage];
      await hands.claimed(a);
      await queue(-20);
      expect((await hands.giveBack(a)).released).toEqual([]);
      expect(await hands.near()).toEqual([a.id]);
      expect(await hands.claim([b])).toMatchObject({ gone: 1 });
      await hands.claimed(a);
    });

    it("given back without attempts, it gives way to the first of its group when an earlier one comes in", async () => {
      const [a] = (await queue(0)) as [DelayedMessage];
      await hands.claimed(a);
      const [first] = (await queue(-20)) as [DelayedMessage];
      await hands.giveBack(a);
      const [second] = (await queue(-10)) as [DelayedMessage];
      expect(await drain()).toEqual(idsOf([first, second, a]));
    });

    it("buried, it releases the next", async () => {
      const [a, b] = (await queue(-10, -5)) as [DelayedMessage, DelayedMessage];
      await hands.claimed(a);
      expect((await hands.buryClaimed(a)).released).toEqual(released(b));
      await hands.claimed(b);
    });

    it("expired, it releases the next; a row of expired ones releases the first that is not", async () => {
      const [a, b, c, d] = [1, 2, 3, 4].map((i) =>
        hands.grouped("g", { deliverAtMs: at(i), ...(i < 4 ? { expireAtMs: at(10) } : {}) }),
      ) as [DelayedMessage, DelayedMessage, DelayedMessage, DelayedMessage];
      await hands.schedule(a, b, c, d);
      expect(await hands.claim([a], at(10))).toMatchObject({ expired: 1, released: released(b) });
      expect(await hands.claim([b, c], at(10))).toMatchObject({ claimed: [], expired: 2, released: released(d) });
      expect(await hands.near()).toEqual([d.id]);
    });

    it("one claim may take the next where an expired head stood", async () => {
      const a = hands.grouped("g", { expireAtMs: t0 });
      const b = hands.grouped("g");
      await hands.schedule(a, b);
      const result = await hands.claim([a, b]);
      expect(result).toMatchObject({ expired: 1, gone: 0 });
      expect(result.claimed.map(({ id }) => id)).toEqual([b.id]);
    });

    it("canceled, the head makes room; a canceled follower is skipped", async () => {
      const [a, b, c] = (await queue(-3, -2, -1)) as [DelayedMessage, DelayedMessage, DelayedMessage];
      expect(await hands.cancel(b)).toMatchObject({ outcome: "done" });
      expect(await hands.near()).toEqual([a.id]);
      expect((await hands.cancel(a)).waiting).toBeUndefined();
      expect(await hands.near()).toEqual([c.id]);
      await hands.cancel(c);
      expect(await hands.near()).toEqual([]);
      const [d] = (await queue(5)) as [DelayedMessage];
      expect(await hands.near()).toEqual([d.id]);
    });

    it("a head that waits for its next try makes room when it is canceled", async () => {
      const [a, b] = (await queue(-3, -2)) as [DelayedMessage, DelayedMessage];
      await hands.claimed(a);
      await hands.retry(a, at(hour));
      await hands.cancel(a);
      expect(await hands.near()).toEqual([b.id]);
    });

    it("many settled in one call release each its own group's next", async () => {
      const groups = await Promise.all(
        ["a", "b", "c"].map(async (group) => {
          const pair = [hands.grouped(group, { deliverAtMs: at(-2) }), hands.grouped(group, { deliverAtMs: at(-1) })];
          await hands.schedule(...pair);
          return pair as [DelayedMessage, DelayedMessage];
        }),
      );
      const heads = groups.map(([head]) => head);
      await hands.claimed(...heads);
      const outcomes = heads.map(({ id }) => ({ kind: "delivered", id }) as const);
      const result = await hands.settle(outcomes);
      expect(result.released).toEqual(groups.flatMap(([, next]) => released(next)));
    });

    it("another tenant, another topic or another name is another group", async () => {
      const messages = [
        hands.grouped("g"),
        hands.grouped("g", { tenant: "acme" }),
        hands.grouped("g", { topic: "refunds" }),
        hands.grouped("h"),
        hands.grouped("g", { messageGroup: "" }),
      ];
      await hands.schedule(...messages);
      expect((await hands.near()).sort()).toEqual(idsOf(messages).sort());
      await hands.claimed(...messages);
    });

    it("rescheduled, a message takes its new place under its old number of acceptance", async () => {
      const [a, b, c] = (await queue(10, 20, 30)) as [DelayedMessage, DelayedMessage, DelayedMessage];
      const back = await hands.reschedule(a, { deliverAtMs: at(30) });
      expect(back).toMatchObject({ outcome: "done", state: "scheduled", deliverAtMs: at(30) });
      expect(back.waiting).toBeUndefined();
      expect(await hands.near()).toEqual([b.id]);
      const front = await hands.reschedule(c, { deliverAtMs: at(5) });
      expect(front.waiting).toEqual({ lane, dueMs: at(5) });
      expect(await hands.near()).toEqual([c.id]);
      await hands.reschedule(c, { deliverAtMs: at(30) });
      // a and c are now both due at 30, and a was accepted first.
      expect(await drain()).toEqual(idsOf([b, a, c]));
    });

    it("a head moved within its place stays head", async () => {
      const [a, b] = (await queue(10, 20)) as [DelayedMessage, DelayedMessage];
      expect((await hands.reschedule(a, { deliverAtMs: at(19) })).waiting).toEqual({ lane, dueMs: at(19) });
      expect(await hands.near(at(19), at(19))).toEqual([a.id]);
      expect((await hands.reschedule(a, { deliverAtMs: at(20) })).waiting).toEqual({ lane, dueMs: at(20) });
      expect((await hands.reschedule(a, { deliverAtMs: at(21) })).waiting).toBeUndefined();
      expect(await hands.near()).toEqual([b.id]);
    });

    it("a head that waits for its next try goes behind the others when the user moves it there", async () => {
      const [a, b] = (await queue(-10, -5)) as [DelayedMessage, DelayedMessage];
      await hands.claimed(a);
      await hands.retry(a, at(minute));
      await hands.reschedule(a, { deliverAtMs: at(hour) });
      expect(await hands.near()).toEqual([b.id]);
      expect(await drain()).toEqual(idsOf([b, a]));
    });

    it("a follower moved in front of a head that waits for its next try stays a follower", async () => {
      const [a, b] = (await queue(-10, -5)) as [DelayedMessage, DelayedMessage];
      await hands.claimed(a);
      await hands.retry(a, at(minute));
      expect((await hands.reschedule(b, { deliverAtMs: at(-20) })).waiting).toBeUndefined();
      expect(await hands.near()).toEqual([a.id]);
    });

    it("replaced, a message takes its new place; with another topic, in another group", async () => {
      const [a, b] = (await queue(10, 20)) as [DelayedMessage, DelayedMessage];
      await hands.scheduleOne({ ...a, deliverAtMs: at(30) }, { onConflict: "replace" });
      expect(await hands.near()).toEqual([b.id]);
      await hands.scheduleOne({ ...a, topic: "refunds", deliverAtMs: at(40) }, { onConflict: "replace" });
      expect((await hands.near()).sort()).toEqual([a.id, b.id].sort());
      await hands.scheduleOne({ ...a, deliverAtMs: at(15) }, { onConflict: "replace" });
      expect(await hands.near()).toEqual([a.id]);
      expect(await drain()).toEqual(idsOf([a, b]));
    });

    it("revived, a message stands in line again, as the newest", async () => {
      const [a, b] = (await queue(10, 10)) as [DelayedMessage, DelayedMessage];
      await hands.cancel(a);
      await hands.scheduleOne(a, { onConflict: "replace" });
      expect(await drain()).toEqual(idsOf([b, a]));
    });

    it("recovered from an earlier owner, it is still the head", async () => {
      const [a, b] = (await queue(-10, -5)) as [DelayedMessage, DelayedMessage];
      await hands.claimed(a);
      await hands.own("node-b");
      await hands.recover();
      expect(await hands.near()).toEqual([a.id]);
      const [earlier] = (await queue(-20)) as [DelayedMessage];
      expect(await hands.near()).toEqual([a.id]);
      expect(await drain()).toEqual(idsOf([a, earlier, b]));
    });

    it("buried without having waited, a message touches no queue", async () => {
      const [a] = (await queue(10)) as [DelayedMessage];
      const unadmitted = hands.grouped("g", { deliverAtMs: at(1) });
      await hands.store.bury(hands.shard, [{ message: unadmitted, reason: { code: "x", detail: "y" } }], t0);
      expect(await hands.near()).toEqual([a.id]);
      await hands.claim([a], at(10));
      expect((await hands.delivered(a)).released).toEqual([]);
    });

    it("in stats all wait, but only heads are due", async () => {
      await queue(-10, -5, 5, minute);
      const stats = await hands.store.stats(hands.shard, t0);
      expect(stats.waitingByTopic.get("orders")).toBe(4);
      expect(stats.dueNow).toBe(1);
      expect(stats.duePerMinute.every((count) => count === 0)).toBe(true);
      expect(stats.duePerHour.every((count) => count === 0)).toBe(true);
    });

    it("wakes who became head, never who stands behind", async () => {
      const wakes: [MessageId, number][] = [];
      await hands.other.listen({
        onWake: (_shard, id, offset, _lane, dueMs) => wakes.push([idFromBytes(id, offset), dueMs]),
        onMembersChanged: () => {},
        onGap: () => {},
      });
      const [a, b, c] = [at(10), at(20), at(5)].map((deliverAtMs) => hands.grouped("g", { deliverAtMs })) as [
        DelayedMessage,
        DelayedMessage,
        DelayedMessage,
      ];
      for (const message of [a, b, c]) await hands.scheduleOne(message, { wakeUntilMs: at(100) });
      await hands.cancel(c, at(50)); // a is head again, and due
      await hands.reschedule(a, { deliverAtMs: at(99), wakeUntilMs: at(100) }); // b is head
      await hands.scheduleOne({ ...b, deliverAtMs: at(hour) }, { onConflict: "replace", wakeUntilMs: at(100) }); // a is
      await vi.waitFor(() => expect(wakes.length).toBeGreaterThanOrEqual(5), { timeout: 5_000, interval: 5 });
      expect(wakes).toEqual([
        [a.id, at(10)],
        [c.id, at(5)],
        [a.id, at(10)],
        [b.id, at(20)],
        [a.id, at(99)],
      ]);
    });
  });
};
