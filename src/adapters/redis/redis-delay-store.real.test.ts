import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startRedisCluster } from "../../../scripts/services.mjs";
import { services } from "../../../test/services.ts";
import { delayStoreContract } from "../../delay/delay-store.contract.ts";
import { type DelayStoreSubject, type DelayStoreWishes, StoreHands, t0 } from "../../delay/delay-store-hands.ts";
import { laneOf } from "../../message/id.ts";
import { RedisDelayStore } from "./redis-delay-store.ts";
import { RedisTopicMemory } from "./redis-topic-memory.ts";
import { ownNamespace, ownRunDir, storeOptions } from "./testing.ts";

/** The contract on one Redis and on a Cluster of three, and what only this store does. */
const subjectAt = async (address: string, wishes: DelayStoreWishes = {}): Promise<DelayStoreSubject> => {
  const options = storeOptions(address, wishes.dedupeWindowMs);
  const [store, other] = [await RedisDelayStore.open(options), await RedisDelayStore.open(options)];
  const close = async () => {
    await store.close();
    await other.close();
  };
  return { store, other, close };
};

describe("on one Redis", async () => {
  const { redis } = await services();
  delayStoreContract("Redis", (wishes) => subjectAt(redis.url, wishes), { modelRuns: 30 });

  it("refuses a shard count that differs from the stored one, and says both", async () => {
    const options = { ...storeOptions(redis.url), shardCount: 8 };
    await (await RedisDelayStore.open(options)).close();
    await (await RedisDelayStore.open(options)).close();
    await expect(RedisDelayStore.open({ ...options, shardCount: 16 })).rejects.toMatchObject({
      code: "invalid_config",
      message: expect.stringMatching(/16.*8/),
    });
  });

  it("keeps apart two lanes that share a number", async () => {
    // Found by trying: both names have the same 32-bit hash.
    const [one, two] = collidingTopics();
    expect(laneOf("default", one)).toBe(laneOf("default", two));
    const subject = await subjectAt(redis.url);
    const hands = new StoreHands(subject);
    await hands.own();
    const messages = [one, two, one, two].map((topic) => hands.message({ topic }));
    await hands.schedule(messages[0]!);
    // This store has not seen the first lane yet and learns of the collision from the script.
    const elsewhere = new StoreHands({ ...subject, store: hands.other });
    await elsewhere.schedule(messages[1]!);
    await hands.schedule(messages[2]!, messages[3]!);
    const reader = new StoreHands(subject);
    expect(await Promise.all(messages.map(async (message) => (await reader.get(message))?.message?.topic))).toEqual(
      messages.map(({ topic }) => topic),
    );
    const { claimed } = await hands.claim(messages);
    expect(claimed.map(({ topic }) => topic)).toEqual(messages.map(({ topic }) => topic));
    const unadmitted = hands.message({ topic: two });
    await elsewhere.store.bury(hands.shard, [{ message: unadmitted, reason: { code: "x", detail: "y" } }], t0);
    expect((await hands.get(unadmitted))?.message?.topic).toBe(two);
    await subject.close();
  });

  it("remembers topics", async () => {
    const options = { address: redis.url, namespace: ownNamespace() };
    const [memory, again] = [await RedisTopicMemory.open(options), await RedisTopicMemory.open(options)];
    expect(await memory.known()).toEqual([]);
    for (const topic of ["orders", "refunds", "orders"]) await memory.remember(topic);
    expect([...(await again.known())].sort()).toEqual(["orders", "refunds"]);
    await memory.close();
    await again.close();
  });
});

describe("on a Cluster of three", () => {
  const { runDir, stop } = ownRunDir();
  let address = "";
  beforeAll(async () => {
    const { urls } = await startRedisCluster({ runDir });
    address = `redis+cluster://${urls.map((url) => new URL(url).host).join(",")}`;
  });
  afterAll(stop);

  delayStoreContract("Redis Cluster", (wishes) => subjectAt(address, wishes), { modelRuns: 10 });

  it("spreads its shards over all nodes", async () => {
    const subject = await subjectAt(address);
    for (let shard = 0; shard < subject.store.shardCount; shard++) {
      const hands = new StoreHands(subject, shard);
      const message = hands.message();
      await hands.schedule(message);
      expect(await hands.near()).toEqual([message.id]);
    }
    const { warnings, problems } = await subject.store.check();
    expect(problems).toEqual([]);
    // Each node has its own "maxmemory is not set".
    expect(new Set(warnings.map((sentence) => /^127\.0\.0\.1:\d+/.exec(sentence)?.[0])).size).toBe(3);
    await subject.close();
  });
});

/** The first two of `topic-<n>` whose lanes have one number; by the birthday of 2^32 some 77,000 tries. */
const collidingTopics = (): [string, string] => {
  const seen = new Map<number, string>();
  for (let n = 0; ; n++) {
    const topic = `topic-${n}`;
    const lane = laneOf("default", topic);
    const before = seen.get(lane);
    if (before !== undefined) return [before, topic];
    seen.set(lane, topic);
  }
};
