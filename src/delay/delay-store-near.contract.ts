import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { laneOf } from "../message/id.ts";
import type { DelayedMessage } from "../message/message.ts";
import { day, type EpochMs, epochMs, epochMsMax, hour, minute, second } from "../message/time.ts";
import type { DelayStoreFactory } from "./delay-store.contract.ts";
import { at, type DelayStoreSubject, StoreHands, t0 } from "./delay-store-hands.ts";

/** The contract about `near`: how an owner finds what will be due, whatever comes and goes while it reads. */
export const delayStoreNearContract = (factory: DelayStoreFactory): void => {
  describe("near", () => {
    let subject: DelayStoreSubject;
    let hands: StoreHands;
    beforeEach(async () => {
      subject = await factory({});
      hands = new StoreHands(subject);
      await hands.own();
    });
    afterEach(() => subject.close());

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

      it("counts what it would list, both bounds included, without what is out or in line behind a head", async () => {
        const messages = await Promise.all(
          Array.from({ length: 140 }, (_, i) => hands.scheduled({ deliverAtMs: at(i % 7 === 0 ? 300 * day : i * 40) })),
        );
        await hands.schedule(hands.grouped("g", { deliverAtMs: at(10) }), hands.grouped("g", { deliverAtMs: at(20) }));
        await hands.claim(messages.slice(0, 5), at(301 * day));
        await hands.cancel(messages[8]!);
        for (const [from, until] of [
          [0, epochMsMax],
          [t0, at(40)],
          [at(40), at(40)],
          [at(41), at(79)],
          [at(3_000), at(9_000)],
          [at(300 * day), at(300 * day)],
          [at(300 * day + 1), epochMsMax],
          [at(5), at(1)],
        ] as [EpochMs, EpochMs][]) {
          const listed = await hands.near(epochMs(from), until);
          expect(await hands.store.count(hands.shard, epochMs(from), until), `${from} to ${until}`).toBe(listed.length);
        }
      });

      it("finds any due, both bounds included, to the millisecond", async () => {
        const byName = new Map<string, DelayedMessage>();
        for (const [name, deliverAtMs] of Object.entries(dues))
          byName.set(name, await hands.scheduled({ deliverAtMs }));
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
  });
};
