import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { idFromBytes } from "../message/id.ts";
import { IdList } from "../message/id-list.ts";
import type { DelayedMessage } from "../message/message.ts";
import { day, hour, minute } from "../message/time.ts";
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

/** The contract about claiming and settling, the dead, and what people are told of a shard. */
export const delayStoreClaimingContract = (factory: DelayStoreFactory): void => {
  describe("what an owner does", () => {
    let subject: DelayStoreSubject;
    let hands: StoreHands;
    beforeEach(async () => {
      subject = await factory({});
      hands = new StoreHands(subject);
      await hands.own();
    });
    afterEach(() => subject.close());

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
      it("from an instant on: what died then or later, and a cursor goes on from there", async () => {
        const buried: DelayedMessage[] = [];
        for (let i = 0; i < 6; i++) {
          const message = await hands.scheduled();
          await hands.claimed(message);
          await hands.buryClaimed(message, at(10 * i));
          buried.push(message);
        }
        const from = async (ms: number, limit: number) => {
          const page = await hands.store.dead(hands.shard, at(ms), limit);
          return { ids: page.items.map(({ id }) => id), cursor: page.cursor };
        };
        const idsFrom = (i: number) => buried.slice(i).map(({ id }) => id);
        expect((await from(-1, 10)).ids).toEqual(idsFrom(0));
        expect((await from(0, 10)).ids).toEqual(idsFrom(0));
        expect((await from(20, 10)).ids).toEqual(idsFrom(2));
        expect((await from(21, 10)).ids).toEqual(idsFrom(3));
        expect((await from(51, 10)).ids).toEqual([]);
        const first = await from(20, 2);
        expect(first.ids).toEqual(idsFrom(2).slice(0, 2));
        const rest = await hands.store.dead(hands.shard, first.cursor, 10);
        expect(rest.items.map(({ id }) => id)).toEqual(idsFrom(4));
      });

      it("one death is brought back once: the second who asks is told no, also within one call", async () => {
        const [a, b] = [await hands.bring("dead"), await hands.bring("dead", { messageGroup: hands.groupName("g") })];
        const back = { ...a, topic: "refunds", body: Buffer.from("mended"), deliverAtMs: at(5) };
        const items = [back, b, back].map((message) => ({ message, diedAtMs: t0 }));
        expect(await hands.store.revive(hands.shard, items, t0)).toEqual([true, true, false]);
        expect(await hands.other.revive(hands.shard, items, t0)).toEqual([false, false, false]);
        const found = await hands.get(a);
        expect(found).toMatchObject({ state: "scheduled", attempt: 0, deliverAtMs: at(5) });
        expect([found?.endedAtMs, found?.reason]).toEqual([undefined, undefined]);
        expectSame(found?.message, { ...back, attempt: 0 });
        const { claimed } = await hands.claim([a, b], at(5));
        expect(claimed.map(({ id }) => id)).toEqual([a.id, b.id]);
        // It dies again, later: that is another death, and who knows only the first one is told no.
        await hands.buryClaimed(a, at(9));
        expect(await hands.revive(a, t0)).toBe(false);
        expect(await hands.revive(a, at(9))).toBe(true);
      });

      it("of two who bring the same back at once, exactly one is told yes", async () => {
        const messages: DelayedMessage[] = [];
        for (let i = 0; i < 20; i++) messages.push(await hands.bring("dead"));
        const items = messages.map((message) => ({ message, diedAtMs: t0 }));
        const [mine, theirs] = await Promise.all([
          hands.store.revive(hands.shard, items, t0),
          hands.other.revive(hands.shard, items, t0),
        ]);
        for (let i = 0; i < 20; i++) expect([mine[i], theirs[i]].sort()).toEqual([false, true]);
      });

      it("a revived one that is due soon wakes its owner, who was told of nothing", async () => {
        const woken: string[] = [];
        await hands.store.listen({
          onWake: (_shard, id, offset) => void woken.push(idFromBytes(id, offset)),
          onMembersChanged: () => undefined,
          onGap: () => undefined,
        });
        const [soon, late] = [await hands.bring("dead"), await hands.bring("dead")];
        await hands.revive({ ...late, deliverAtMs: at(50) }, t0, { wakeUntilMs: at(10) });
        await hands.revive({ ...soon, deliverAtMs: at(5) }, t0, { wakeUntilMs: at(10) });
        await vi.waitFor(() => expect(woken).toContain(soon.id));
        expect(woken).not.toContain(late.id);
      });

      it("what was discarded is known as canceled, without contents, and its id may be used again", async () => {
        const [gone, kept] = [await hands.bring("dead"), await hands.bring("dead")];
        const deaths = [gone, gone].map(({ id }) => ({ id, diedAtMs: t0 }));
        expect(await hands.store.discard(hands.shard, deaths, at(7))).toEqual([true, false]);
        expect(await hands.get(gone)).toEqual({
          id: gone.id,
          state: "canceled",
          deliverAtMs: t0,
          attempt: 1,
          endedAtMs: at(7),
        });
        expect(await hands.deadIds()).toEqual([kept.id]);
        expect((await hands.scheduleOne(gone, { onConflict: "replace" })).outcome).toBe("replaced");
        await hands.claimed(gone);
      });

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
      it("says its time if it has one, its round trip and what is wrong", async () => {
        const check = await hands.store.check();
        if ("timeMs" in check) {
          expect(Number.isSafeInteger(check.timeMs)).toBe(true);
          expect(check.timeMs).toBeGreaterThan(1_600_000_000_000);
        }
        expect(check.incarnation).toBe((await hands.store.check()).incarnation);
        expect(check.roundTripMs).toBeGreaterThanOrEqual(0);
        expect(check.problems).toEqual([]);
        for (const warning of check.warnings) expect(warning).toMatch(/\w+ \w+/);
      });
    });
  });
};
