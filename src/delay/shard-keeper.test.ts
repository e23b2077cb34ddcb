import { beforeEach, describe, expect, it } from "vitest";
import { MemoryDelayStore } from "../adapters/memory/memory-delay-store.ts";
import { IdList } from "../message/id-list.ts";
import { durationMs, epochMs } from "../message/time.ts";
import type { Log } from "../runtime/log.ts";
import { StoreHands } from "./delay-store-hands.ts";
import { ShardKeeper } from "./shard-keeper.ts";

const silent = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} } as unknown as Log;

describe("the shard keeper", () => {
  let passedMs: number;
  let store: MemoryDelayStore;
  let events: string[];
  let keeper: ShardKeeper;
  let hands: StoreHands;

  const keeperOf = (node: string): ShardKeeper =>
    new ShardKeeper({
      store,
      worker: {
        gained: (shard, epoch) => void events.push(`${node} gains ${shard} epoch ${epoch}`),
        lost: (shard) => void events.push(`${node} loses ${shard}`),
        drain: async (shard) => void events.push(`${node} drains ${shard}`),
      },
      clock: { nowMs: () => epochMs(1_750_000_000_000 + passedMs), monotonicMs: () => passedMs },
      log: silent,
      node,
      leaseMs: durationMs(10_000),
      fit: () => true,
    });

  beforeEach(async () => {
    passedMs = 0;
    events = [];
    store = new MemoryDelayStore({ clockMs: () => 1_750_000_000_000 + passedMs, shardCount: 2 });
    keeper = keeperOf("a");
    await keeper.runOnce();
    hands = new StoreHands({ store, advanceMs: async () => {}, close: async () => {} });
  });

  it("takes what is free, and tells the worker under which epoch", () => {
    expect(events).toEqual(["a gains 0 epoch 1", "a gains 1 epoch 1"]);
    expect(keeper.heldShards).toEqual([0, 1]);
    expect(keeper.validUntilMs(0)).toBe(10_000);
  });

  it("gives half to a second one, after finishing what is out", async () => {
    const other = keeperOf("b");
    await other.runOnce();
    events.length = 0;
    await keeper.runOnce();
    await Promise.resolve();
    await other.runOnce();
    const [shard] = other.heldShards;
    expect(events).toEqual([`a drains ${shard}`, `a loses ${shard}`, `b gains ${shard} epoch 2`]);
    expect(keeper.heldShards).toEqual([1 - shard!]);
  });

  it("counts a shard as lost when its lease could not be renewed, and takes it again under a new epoch", async () => {
    passedMs = 10_001;
    events.length = 0;
    await keeper.runOnce();
    expect(events).toEqual(["a loses 0", "a loses 1", "a gains 0 epoch 2", "a gains 1 epoch 2"]);
  });

  it("starts over: what the store counts as claimed by us, and we do not know of, waits again", async () => {
    const message = hands.message({ deliverAtMs: epochMs(1_750_000_000_000) });
    await hands.schedule(message);
    const ids = IdList.of([message.id]);
    const claimed = await store.claim(hands.shard, 1, ids, epochMs(1_750_000_000_001), 1e9);
    expect(claimed.claimed).toHaveLength(1);
    // Its outcome was recorded by a server that is gone; this one still counts it as out.
    await keeper.startOver();
    await keeper.runOnce();
    expect(await hands.get(message)).toMatchObject({ state: "scheduled", attempt: 1 });
    expect(events.slice(2, 4)).toEqual(["a drains 0", "a drains 1"]);
    expect(events.slice(-2)).toEqual(["a gains 0 epoch 2", "a gains 1 epoch 2"]);
  });
});
