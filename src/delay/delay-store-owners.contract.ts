import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { idFromBytes, laneOf, type MessageId } from "../message/id.ts";
import { IdList } from "../message/id-list.ts";
import { durationMs, hour } from "../message/time.ts";
import type { DelayStoreFactory } from "./delay-store.contract.ts";
import type { StoreListener } from "./delay-store.port.ts";
import { at, type DelayStoreSubject, deadReason, longLeaseMs, StoreHands, t0 } from "./delay-store-hands.ts";

/** The contract about who may: leases, epochs, fencing, recovery, members and news. */
export const delayStoreOwnersContract = (factory: DelayStoreFactory): void => {
  describe("owners", () => {
    let subject: DelayStoreSubject;
    let hands: StoreHands;
    beforeEach(async () => {
      subject = await factory({});
      hands = new StoreHands(subject);
    });
    afterEach(() => subject.close());

    // Short where a real clock must run it out; a real store's answer must fit in between.
    const shortMs = durationMs(500);
    const acquire = (owner: string, leaseMs = longLeaseMs) => hands.store.acquire(hands.shard, owner, leaseMs);
    const renew = async (epoch: number, owner: string, leaseMs = longLeaseMs) =>
      (await hands.store.renew([{ shard: hands.shard, epoch }], owner, leaseMs))[0];
    const epochOf = async (owner: string, leaseMs = longLeaseMs) => {
      const result = await acquire(owner, leaseMs);
      if (result.outcome !== "acquired") throw new Error(`held by ${result.owner}`);
      return result.epoch;
    };

    describe("owning a shard (P6: one owner)", () => {
      it("P6: one owner: the second is told who holds it and for how long", async () => {
        const epoch = await epochOf("node-a");
        expect(epoch).toBeGreaterThan(0);
        const held = await acquire("node-b");
        expect(held).toMatchObject({ outcome: "held", owner: "node-a" });
        if (held.outcome !== "held") throw new Error("unreachable");
        expect(held.expiresInMs).toBeGreaterThan(longLeaseMs - 60_000);
        expect(held.expiresInMs).toBeLessThanOrEqual(longLeaseMs);
        expect(await hands.store.stats(hands.shard, t0)).toMatchObject({ owner: "node-a", epoch });
      });

      it("the same owner keeps its epoch, and acquiring again renews", async () => {
        const epoch = await epochOf("node-a", shortMs);
        expect(await epochOf("node-a", longLeaseMs)).toBe(epoch);
        await hands.pass(shortMs + 100);
        expect((await acquire("node-b")).outcome).toBe("held");
      });

      it("renewing extends the lease; a shorter one runs out and another may take the shard", async () => {
        const epoch = await epochOf("node-a", shortMs);
        expect(await renew(epoch, "node-a", longLeaseMs)).toBe(true);
        await hands.pass(shortMs + 100);
        expect((await acquire("node-b")).outcome).toBe("held");
        expect(await renew(epoch, "node-a", shortMs)).toBe(true);
        await hands.pass(shortMs + 100);
        expect(await epochOf("node-b")).toBe(epoch + 1);
        expect(await renew(epoch, "node-a")).toBe(false);
        expect(await renew(epoch + 1, "node-b")).toBe(true);
      });

      it("after a lease ran out even the same owner gets a new epoch", async () => {
        const epoch = await epochOf("node-a", shortMs);
        await hands.pass(shortMs + 100);
        expect((await hands.store.stats(hands.shard, t0)).owner).toBeUndefined();
        expect(await epochOf("node-a")).toBe(epoch + 1);
      });

      it("released, it is free at once, and epochs go on growing", async () => {
        let epoch = 0;
        for (const owner of ["node-a", "node-b", "node-b", "node-a"]) {
          const next = await epochOf(owner);
          expect(next).toBe(epoch + 1);
          epoch = next;
          await hands.store.release(hands.shard, epoch, owner);
          expect(await hands.store.stats(hands.shard, t0)).toMatchObject({ owner: undefined, epoch });
          expect(await renew(epoch, owner)).toBe(false);
        }
      });

      it("nobody can release or renew what is not theirs", async () => {
        const old = await epochOf("node-a");
        await hands.store.release(hands.shard, old, "node-a");
        const epoch = await epochOf("node-b");
        await hands.store.release(hands.shard, old, "node-a");
        await hands.store.release(hands.shard, epoch, "node-a");
        await hands.store.release(hands.shard, old, "node-b");
        expect((await acquire("node-a")).outcome).toBe("held");
        expect(await renew(old, "node-b")).toBe(false);
        expect(await renew(epoch, "node-a")).toBe(false);
        expect(await renew(epoch, "node-b")).toBe(true);
      });

      it("renews many at once and answers in order", async () => {
        const [first, second] = [hands.shard, (hands.shard + 1) % hands.store.shardCount];
        const epoch = await epochOf("node-a");
        await hands.store.acquire(second, "node-b", longLeaseMs);
        const leases = [
          { shard: second, epoch: 1 },
          { shard: first, epoch },
          { shard: first, epoch: epoch + 1 },
        ];
        expect(await hands.store.renew(leases, "node-a", longLeaseMs)).toEqual([false, true, false]);
        expect(await hands.store.renew([], "node-a", longLeaseMs)).toEqual([]);
      });
    });

    describe("fencing (P6: an earlier owner changes nothing)", () => {
      it("P6: an owner whose shard was taken changes nothing: every verb of its throws fenced", async () => {
        const old = await hands.own("node-a");
        const [waiting, claimed, other] = [await hands.scheduled(), await hands.scheduled(), await hands.scheduled()];
        await hands.claimed(claimed, other);
        await hands.own("node-b");
        const snapshot = async () => ({
          known: await hands.store.get(hands.shard, [waiting.id, claimed.id, other.id], t0),
          near: await hands.near(),
          dead: await hands.deadIds(),
        });
        const before = await snapshot();

        const { store, shard } = hands;
        const verbs: Record<string, () => Promise<unknown>> = {
          claim: () => store.claim(shard, old, IdList.of([waiting.id]), t0, 1e9),
          "claim of nothing": () => store.claim(shard, old, IdList.of([]), t0, 1e9),
          delivered: () => store.settle(shard, old, [{ kind: "delivered", id: claimed.id }], t0),
          retry: () => store.settle(shard, old, [{ kind: "retry", id: claimed.id, dueMs: at(1) }], t0),
          give_back: () => store.settle(shard, old, [{ kind: "give_back", id: claimed.id }], t0),
          bury: () => store.settle(shard, old, [{ kind: "bury", id: claimed.id, reason: deadReason }], t0),
          recover: () => store.recover(shard, old, 100, t0),
        };
        for (const [verb, act] of Object.entries(verbs)) {
          await expect(act(), verb).rejects.toMatchObject({ name: "EscapementError", code: "fenced" });
        }
        expect(await renew(old, "node-a")).toBe(false);
        await store.release(shard, old, "node-a");
        expect(await snapshot()).toEqual(before);
        expect(await hands.recover()).toBe(2);
      });

      it("P6: an owner that paused longer than its lease is fenced too", async () => {
        const old = await epochOf("node-a", shortMs);
        const message = await hands.scheduled();
        await hands.store.claim(hands.shard, old, IdList.of([message.id]), t0, 1e9);
        await hands.pass(shortMs + 100);
        await epochOf("node-b");
        const settled = hands.store.settle(hands.shard, old, [{ kind: "delivered", id: message.id }], t0);
        await expect(settled).rejects.toMatchObject({ code: "fenced" });
        expect(await hands.state(message)).toBe("claimed");
      });

      it("an epoch that nobody was given is refused", async () => {
        const message = await hands.scheduled();
        for (const epoch of [1, 7]) {
          const claim = hands.store.claim(hands.shard, epoch, IdList.of([message.id]), t0, 1e9);
          await expect(claim).rejects.toMatchObject({ code: "fenced" });
        }
        expect(await hands.state(message)).toBe("scheduled");
      });

      it("anyone may schedule, cancel, reschedule, bury and ask, whoever owns the shard", async () => {
        const elsewhere = new StoreHands({ ...subject, store: hands.other });
        await hands.own("node-a");
        const [a, b, c] = [hands.message(), hands.message(), hands.message()];
        await elsewhere.schedule(a, b);
        expect((await elsewhere.cancel(a)).outcome).toBe("done");
        expect((await elsewhere.reschedule(b, { deliverAtMs: at(5) })).outcome).toBe("done");
        await elsewhere.store.bury(hands.shard, [{ message: c, reason: deadReason }], t0);
        expect(await elsewhere.near()).toEqual([b.id]);
        expect(await elsewhere.deadIds()).toEqual([c.id]);
        expect((await hands.claim([b], at(5))).claimed).toHaveLength(1);
      });
    });

    describe("recovering what an earlier owner had out", () => {
      it("returns it to waiting, due as before, attempts kept counted (P7)", async () => {
        await hands.own("node-a");
        const fresh = await hands.scheduled({ deliverAtMs: at(-5) });
        const retried = await hands.scheduled();
        await hands.claimed(fresh, retried);
        await hands.retry(retried, at(40));
        await hands.claim([retried], at(40));
        const waiting = await hands.scheduled({ deliverAtMs: at(hour) });

        await hands.own("node-b");
        expect(await hands.recover()).toBe(2);
        expect(await hands.recover()).toBe(0);
        expect(await hands.get(fresh)).toMatchObject({ state: "scheduled", attempt: 1, deliverAtMs: at(-5) });
        expect(await hands.get(retried)).toMatchObject({ state: "scheduled", attempt: 2, deliverAtMs: at(40) });
        expect((await hands.near()).sort()).toEqual([fresh.id, retried.id, waiting.id].sort());
        expect((await hands.claim([retried], at(39))).later).toEqual([{ id: retried.id, dueMs: at(40) }]);
        const again = await hands.claim([fresh, retried], at(40));
        expect(again.claimed.map(({ attempt }) => attempt)).toEqual([2, 3]);
        expect(again.claimed.map(({ deliverAtMs }) => deliverAtMs)).toEqual([at(-5), t0]);
      });

      it("P7: a message that kills its dispatcher again and again counts every attempt", async () => {
        const message = await hands.scheduled();
        for (let attempt = 1; attempt <= 5; attempt++) {
          await hands.own(`node-${attempt}`);
          await hands.recover();
          expect((await hands.claim([message])).claimed[0]?.attempt).toBe(attempt);
        }
      });

      it("works in bounded steps until nothing is left", async () => {
        await hands.own("node-a");
        const messages = Array.from({ length: 250 }, () => hands.message());
        for (let i = 0; i < 250; i += 125) {
          await hands.schedule(...messages.slice(i, i + 125));
          await hands.claimed(...messages.slice(i, i + 125));
        }
        await hands.own("node-b");
        const steps: number[] = [];
        for (let n = await hands.recover(100); n > 0; n = await hands.recover(100)) steps.push(n);
        expect(Math.max(...steps)).toBeLessThanOrEqual(100);
        expect(steps.reduce((sum, n) => sum + n, 0)).toBe(250);
        expect((await hands.near()).length).toBe(250);
        expect((await hands.store.stats(hands.shard, t0)).claimed).toBe(0);
      });

      it("leaves alone what the present owner has out", async () => {
        await hands.own("node-a");
        const mine = await hands.scheduled();
        await hands.claimed(mine);
        await hands.own("node-a");
        expect(await hands.recover()).toBe(0);
        expect(await hands.state(mine)).toBe("claimed");
      });
    });

    describe("members", () => {
      it("are those whose heartbeat has not run out, sorted, and who left is gone at once", async () => {
        const { store, other } = hands;
        expect(await store.heartbeat("node-b", longLeaseMs)).toEqual(["node-b"]);
        expect(await other.heartbeat("node-a", longLeaseMs)).toEqual(["node-a", "node-b"]);
        expect(await store.heartbeat("node-b", longLeaseMs)).toEqual(["node-a", "node-b"]);
        expect(await store.heartbeat("node-c", shortMs)).toEqual(["node-a", "node-b", "node-c"]);
        await hands.pass(shortMs + 100);
        expect(await store.heartbeat("node-b", longLeaseMs)).toEqual(["node-a", "node-b"]);
        await other.leave("node-a");
        await other.leave("nobody");
        expect(await store.heartbeat("node-b", longLeaseMs)).toEqual(["node-b"]);
      });
    });

    describe("news", () => {
      type Wake = { shard: number; id: MessageId; lane: number; dueMs: number };
      const listen = async () => {
        const wakes: Wake[] = [];
        const news = { wakes, membersChanged: 0 };
        const listener: StoreListener = {
          onWake: (shard, id, idOffset, lane, dueMs) => {
            wakes.push({ shard, id: idFromBytes(id, idOffset), lane, dueMs });
          },
          onMembersChanged: () => {
            news.membersChanged++;
          },
          onGap: () => {},
        };
        await hands.other.listen(listener);
        return news;
      };
      const within = { timeout: 5_000, interval: 5 };

      it("tells of what is due soon, and of nothing else", async () => {
        const { wakes } = await listen();
        const lane = laneOf("default", "orders");
        const [far, untold, edge, near, past] = [at(1_001), at(1), at(1_000), at(999), at(-hour)].map((deliverAtMs) =>
          hands.message({ deliverAtMs }),
        ) as [Message, Message, Message, Message, Message];
        await hands.scheduleOne(far, { wakeUntilMs: at(1_000) });
        await hands.scheduleOne(untold);
        for (const message of [edge, near, past]) await hands.scheduleOne(message, { wakeUntilMs: at(1_000) });
        const expected = [edge, near, past].map(({ id, deliverAtMs }) => ({
          shard: hands.shard,
          id,
          lane,
          dueMs: deliverAtMs,
        }));
        await vi.waitFor(() => expect(wakes).toEqual(expected), within);
      });

      it("tells of several of one call", async () => {
        const { wakes } = await listen();
        const messages = Array.from({ length: 200 }, (_, i) =>
          hands.message({ deliverAtMs: at(i), topic: `t${i % 3}` }),
        );
        await hands.store.schedule(
          hands.shard,
          messages.map((message) => ({ message, wakeUntilMs: at(99) })),
          t0,
        );
        const expected = messages.slice(0, 100).map(({ id, topic, deliverAtMs }) => ({
          shard: hands.shard,
          id,
          lane: laneOf("default", topic),
          dueMs: deliverAtMs,
        }));
        await vi.waitFor(() => expect(wakes.length).toBe(100), within);
        expect(wakes).toEqual(expected);
      });

      it("tells of what was moved or replaced into the near, not of what was kept", async () => {
        const { wakes } = await listen();
        const [moved, replaced, kept] = [at(hour), at(hour), at(5)].map((deliverAtMs) =>
          hands.message({ deliverAtMs }),
        ) as [Message, Message, Message];
        await hands.schedule(moved, replaced, kept);
        await hands.scheduleOne(kept, { onConflict: "keep", wakeUntilMs: at(10) });
        await hands.reschedule(moved, { deliverAtMs: at(11), wakeUntilMs: at(10) });
        await hands.reschedule(moved, { deliverAtMs: at(9), wakeUntilMs: at(10) });
        await hands.scheduleOne({ ...replaced, deliverAtMs: at(8) }, { onConflict: "replace", wakeUntilMs: at(10) });
        await vi.waitFor(() => expect(wakes.length).toBeGreaterThanOrEqual(2), within);
        expect(wakes.map(({ id, dueMs }) => [id, dueMs])).toEqual([
          [moved.id, at(9)],
          [replaced.id, at(8)],
        ]);
      });

      it("tells of members that come and go, not of those that stay", async () => {
        const news = await listen();
        await hands.store.heartbeat("node-a", longLeaseMs);
        await vi.waitFor(() => expect(news.membersChanged).toBe(1), within);
        await hands.store.heartbeat("node-a", longLeaseMs);
        await hands.store.leave("node-a");
        await vi.waitFor(() => expect(news.membersChanged).toBe(2), within);
      });

      type Message = ReturnType<StoreHands["message"]>;
    });
  });
};
