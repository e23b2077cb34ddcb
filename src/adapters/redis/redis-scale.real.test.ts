import fc from "fast-check";
import { Redis } from "ioredis";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type RedisHandle, startRedis } from "../../../scripts/services.mjs";
import type { DelayStore, Outcome, StoredMessage } from "../../delay/delay-store.port.ts";
import { at, deadReason, StoreHands, t0 } from "../../delay/delay-store-hands.ts";
import type { MessageId } from "../../message/id.ts";
import { IdList } from "../../message/id-list.ts";
import type { DelayedMessage } from "../../message/message.ts";
import { day, durationMs, type EpochMs, hour, minute } from "../../message/time.ts";
import { MemoryDelayStore } from "../memory/memory-delay-store.ts";
import { RedisDelayStore } from "./redis-delay-store.ts";
import { ownRunDir, storeOptions } from "./testing.ts";

/**
 * What only shows with many messages: the memory each takes, and that the index finds all of them at every level of its
 * buckets, also while they come and go. The contract works with a dozen messages, which all lie in one bucket.
 */
const { runDir, stop } = ownRunDir();
let handle: RedisHandle;
let admin: Redis;
beforeAll(async () => {
  handle = await startRedis({ runDir, config: { appendfsync: "no" } });
  admin = new Redis(handle.url);
});
afterAll(async () => {
  admin.disconnect();
  await stop();
});

const sampleSize = 20_000;
const inBatches = <T>(items: readonly T[], size = 200): T[][] =>
  Array.from({ length: Math.ceil(items.length / size) }, (_, i) => items.slice(i * size, (i + 1) * size));

describe("memory", () => {
  const usedMemory = async (): Promise<number> => Number(/^used_memory:(\d+)/m.exec(await admin.info("memory"))?.[1]);
  const shapes: Record<string, (i: number) => number> = {
    "spread over an hour": () => Math.floor(Math.random() * hour),
    "spread over a month": () => Math.floor(Math.random() * 30 * day),
    "in the order of their time": (i) => i * 10,
    "all in one second": () => hour + Math.floor(Math.random() * 1_000),
    "all in one millisecond": () => hour,
  };

  for (const [shape, dueOf] of Object.entries(shapes)) {
    it(`a waiting message of 200 B takes at most 350 B, its place in the index at most 40 B: ${shape}`, async () => {
      const options = storeOptions(handle.url);
      const store = await RedisDelayStore.open(options);
      const hands = Array.from(
        { length: 32 },
        (_, shard) => new StoreHands({ store, close: () => store.close() }, shard),
      );
      const batches = inBatches(
        Array.from({ length: sampleSize }, (_, i) => i),
        125,
      );
      const messages = batches.map((batch, n) =>
        batch.map((i) =>
          hands[n % 32]!.message({ topic: "orders-evt", body: Buffer.alloc(200, i), deliverAtMs: at(dueOf(i)) }),
        ),
      );
      await store.schedule(0, [{ message: hands[0]!.message() }], t0); // scripts and connections take memory once
      const before = await usedMemory();
      for (const [n, batch] of messages.entries()) {
        await store.schedule(
          n % 32,
          batch.map((message) => ({ message })),
          t0,
        );
      }
      const bytes = ((await usedMemory()) - before) / sampleSize;
      let records = 0;
      for (let shard = 0; shard < 32; shard++) {
        records += Number(await admin.memory("USAGE", `${options.namespace}:{${shard}}:r`, "SAMPLES", 0));
      }
      // MEMORY USAGE counts a value by its length; what the allocator adds to 218 bytes is counted here.
      const index = await indexBytes(options.namespace!);
      console.log(`${shape}: ${bytes.toFixed(1)} B in all, ${index.toFixed(1)} B of them the index`);
      expect(records).toBeGreaterThan(sampleSize * 250);
      expect(bytes).toBeLessThanOrEqual(350);
      expect(index).toBeLessThanOrEqual(40);
      await store.close();
      await admin.flushall();
    });
  }

  /** What is freed when the buckets and the directory are deleted. */
  const indexBytes = async (namespace: string): Promise<number> => {
    const keys = [
      ...(await admin.keysBuffer(`${namespace}:{*}:b*`)),
      ...(await admin.keysBuffer(`${namespace}:{*}:d`)),
    ];
    const before = await usedMemory();
    for (const part of inBatches(keys)) await admin.del(...part);
    return (before - (await usedMemory())) / sampleSize;
  };
});

describe("Redis and memory side by side", () => {
  /** Dues chosen to crowd: the same millisecond, the same second, neighbours across a bucket's border, and far ones. */
  const crowd = fc.oneof(
    fc.constant(() => 5_000),
    fc.constant((i: number) => 10_000 + (i % 1_000)),
    fc.constant((i: number) => 8_192 * 4 - 3 + (i % 7)),
    fc.constant((i: number) => (i * 7_919) % (2 * hour)),
    fc.constant((i: number) => (i * 104_729 * 1_000) % (60 * day)),
    fc.integer({ min: -day, max: 300 * day }).map((due) => () => due),
  );
  const step = fc.oneof(
    {
      weight: 5,
      arbitrary: fc.record({ do: fc.constant("schedule" as const), crowd, count: fc.constantFrom(1, 70, 200) }),
    },
    {
      weight: 2,
      arbitrary: fc.record({ do: fc.constant("cancel" as const), from: fc.nat(), count: fc.constantFrom(1, 40) }),
    },
    {
      weight: 2,
      arbitrary: fc.record({
        do: fc.constant("reschedule" as const),
        from: fc.nat(),
        count: fc.constantFrom(1, 40),
        crowd,
      }),
    },
    {
      weight: 2,
      arbitrary: fc.record({
        do: fc.constant("replace" as const),
        from: fc.nat(),
        count: fc.constantFrom(1, 40),
        crowd,
      }),
    },
    {
      weight: 3,
      arbitrary: fc.record({
        do: fc.constant("send" as const),
        until: fc.constantFrom(10_500, 60_000, 400 * day),
        seed: fc.nat(),
      }),
    },
    { weight: 1, arbitrary: fc.record({ do: fc.constant("new owner" as const) }) },
  );

  it("give equal answers to histories of hundreds of messages", { timeout: 300_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 3, maxLength: 25 }), async (steps) => {
        const redis = await RedisDelayStore.open(storeOptions(handle.url));
        const memory = new MemoryDelayStore({ clockMs: () => t0 });
        try {
          await compareHistories(redis, memory, steps);
        } finally {
          await redis.close();
        }
      }),
      { numRuns: 25 },
    );
    await admin.flushall();
  });

  const compareHistories = async (
    redis: DelayStore,
    memory: DelayStore,
    steps: readonly (typeof step extends fc.Arbitrary<infer T> ? T : never)[],
  ): Promise<void> => {
    const hands = new StoreHands({ store: redis, close: async () => {} });
    const { shard } = hands;
    const known: DelayedMessage[] = [];
    let owner = 0;
    let epoch = 0;
    /** Asks both, expects the same, answers it. */
    const both = async <T>(ask: (store: DelayStore) => Promise<T>): Promise<T> => {
      const [fromRedis, fromMemory] = [await ask(redis), await ask(memory)];
      expect(fromRedis).toEqual(fromMemory);
      return fromRedis;
    };
    const own = async (): Promise<void> => {
      const old = `node-${owner}`;
      for (const store of [redis, memory]) await store.release(shard, epoch, old);
      owner++;
      const taken = await both((store) => store.acquire(shard, `node-${owner}`, durationMs(600_000)));
      if (taken.outcome === "acquired") epoch = taken.epoch;
      while ((await both((store) => store.recover(shard, epoch, 200, t0))) > 0);
    };
    const some = (from: number, count: number): DelayedMessage[] =>
      known.length === 0 ? [] : Array.from({ length: count }, (_, i) => known[(from + i * 13) % known.length]!);
    const nearSorted = async (store: DelayStore, untilMs: EpochMs, limit: number): Promise<unknown[]> => {
      const seen: { id: MessageId; lane: number; dueMs: number }[] = [];
      for (let cursor: string | undefined, first = true; first || cursor !== undefined; first = false) {
        const page = await store.near(shard, at(-400 * day), untilMs, cursor, limit);
        expect(page.ids.length).toBeLessThanOrEqual(limit);
        page.ids.toArray().forEach((id, i) => {
          seen.push({ id, lane: page.lanes[i]!, dueMs: page.dueMs[i]! });
        });
        cursor = page.cursor;
      }
      return seen.sort((a, b) => (a.id < b.id ? -1 : 1));
    };

    await own();
    for (const one of steps) {
      switch (one.do) {
        case "schedule": {
          const messages = Array.from({ length: one.count }, (_, i) =>
            i % 29 === 28
              ? hands.grouped("g", { deliverAtMs: at(one.crowd(i)), topic: "t1" })
              : hands.message({ deliverAtMs: at(one.crowd(i)), topic: `t${i % 3}` }),
          );
          known.push(...messages);
          await both((store) =>
            store.schedule(
              shard,
              messages.map((message) => ({ message })),
              t0,
            ),
          );
          break;
        }
        case "cancel": {
          const ids = some(one.from, one.count).map(({ id }) => id);
          await both((store) => store.cancel(shard, ids, t0));
          break;
        }
        case "reschedule": {
          const changes = some(one.from, one.count).map(({ id }, i) => ({
            id,
            deliverAtMs: at(one.crowd(i)),
            ...(i % 5 === 0 ? { body: Buffer.from(`changed ${i}`), properties: new Map([["n", `${i}`]]) } : {}),
            ...(i % 7 === 0 ? { expireAtMs: at(one.crowd(i) + 30_000) } : i % 7 === 1 ? { expireAtMs: null } : {}),
          }));
          await both((store) => store.reschedule(shard, changes, t0));
          break;
        }
        case "replace": {
          const items = some(one.from, one.count).map((message, i) => ({
            message: { ...message, deliverAtMs: at(one.crowd(i)), body: Buffer.from(`replaced ${i}`) },
            onConflict: i % 4 === 3 ? ("keep" as const) : ("replace" as const),
          }));
          await both((store) => store.schedule(shard, items, t0));
          break;
        }
        case "send": {
          const due = await both((store) => nearSorted(store, at(one.until), 97));
          const ids = (due as { id: MessageId }[]).slice(one.seed % 50, (one.seed % 50) + 200).map(({ id }) => id);
          const result = await both((store) => store.claim(shard, epoch, IdList.of(ids), at(one.until), 5_000));
          const outcomes = result.claimed.flatMap(({ id }, i): Outcome[] => {
            if (i % 11 === 10) return []; // stays out
            if (i % 7 === 3) return [{ kind: "retry", id, dueMs: at(one.until + i) }];
            if (i % 7 === 4) return [{ kind: "give_back", id }];
            if (i % 7 === 5) return [{ kind: "bury", id, reason: deadReason }];
            return [{ kind: "delivered", id }];
          });
          await both((store) => store.settle(shard, epoch, outcomes, at(one.until)));
          break;
        }
        case "new owner":
          await own();
      }
      const all = known.map(({ id }) => id);
      await both((store) => store.get(shard, all, t0));
      await both((store) => nearSorted(store, at(400 * day), 61));
      await both((store) => store.stats(shard, at(minute)).then(({ owner: _owner, ...rest }) => rest));
      await both((store) => deadOf(store, shard));
    }
  };

  const deadOf = async (store: DelayStore, shard: number): Promise<StoredMessage[]> => {
    const dead: StoredMessage[] = [];
    for (let cursor: string | undefined, first = true; first || cursor !== undefined; first = false) {
      const page = await store.dead(shard, cursor, 17);
      dead.push(...page.items);
      cursor = page.cursor;
    }
    return dead.sort((a, b) => (a.id < b.id ? -1 : 1));
  };
});

describe("paging through the near", () => {
  it("shows everything that stays exactly once while the rest is removed and more comes in", async () => {
    const store = await RedisDelayStore.open(storeOptions(handle.url));
    const hands = new StoreHands({ store, close: () => store.close() });
    await hands.own();
    const dueOf = (i: number): number => (i % 3 === 0 ? 700 : i % 3 === 1 ? i * 17 : (i * 7_919) % hour);
    const messages = Array.from({ length: 3_000 }, (_, i) => hands.message({ deliverAtMs: at(dueOf(i)) }));
    for (const batch of inBatches(messages)) await hands.schedule(...batch);
    const staying = new Set(messages.filter((_, i) => i % 4 !== 0).map(({ id }) => id));
    const leaving = messages.filter((_, i) => i % 4 === 0);
    const seen: MessageId[] = [];
    let cursor: string | undefined;
    do {
      const page = await store.near(hands.shard, t0, at(hour), cursor, 41);
      seen.push(...page.ids.toArray());
      cursor = page.cursor;
      // The last one of the page goes too, if it may: the cursor stands on it.
      const last = seen.at(-1);
      const gone = leaving.splice(0, 13).map(({ id }) => id);
      if (last !== undefined && !staying.has(last)) gone.push(last);
      await store.cancel(hands.shard, gone, t0);
      await hands.scheduled({ deliverAtMs: at((seen.length * 31) % hour) });
    } while (cursor !== undefined);
    const seenStaying = seen.filter((id) => staying.has(id));
    expect(seenStaying.length).toBe(staying.size);
    expect(new Set(seenStaying).size).toBe(staying.size);
    await store.close();
  });
});
