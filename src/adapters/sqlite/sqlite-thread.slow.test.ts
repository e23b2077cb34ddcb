import { describe, expect, it } from "vitest";
import { delayStoreContract } from "../../delay/delay-store.contract.ts";
import { StoreHands } from "../../delay/delay-store-hands.ts";
import { durationMs } from "../../message/time.ts";
import { SqliteBench } from "./testing/sqlite-bench.ts";

/** The store as a service runs it: the file on a thread of its own. */

delayStoreContract(
  "sqlite on its own thread",
  async ({ dedupeWindowMs } = {}) => {
    const bench = new SqliteBench();
    const window = dedupeWindowMs === undefined ? {} : { dedupeWindowMs: durationMs(dedupeWindowMs) };
    const store = await bench.open({ thread: "own", ...window });
    const advanceMs = async (ms: number) => {
      bench.nowMs += ms;
    };
    return { store, advanceMs, close: async () => bench[Symbol.asyncDispose]() };
  },
  { modelRuns: 10, modelSteps: 50 },
);

describe("the thread of the file", () => {
  it("refuses as the store does, and its ending is a refusal of what comes after", async () => {
    await using bench = new SqliteBench();
    const store = await bench.open({ thread: "own", shardCount: 8 });
    await expect(bench.open({ thread: "own" })).rejects.toMatchObject({ code: "store_refusing" });
    const hands = new StoreHands({ store, close: () => store.close() });
    const message = hands.message();
    const scheduled = hands.scheduleOne(message);
    await store.close();
    expect((await scheduled).outcome).toBe("scheduled");
    await expect(hands.get(message)).rejects.toMatchObject({ code: "store_unavailable" });
    await expect(bench.open({ thread: "own", shardCount: 16 })).rejects.toMatchObject({
      code: "invalid_config",
      field: "SHARDS",
    });
    const again = new StoreHands({ store: await bench.open({ thread: "own", shardCount: 8 }), close: async () => {} });
    expect((await again.get(message))?.state).toBe("scheduled");
  });

  it("does not hold up the event loop while it commits", async () => {
    await using bench = new SqliteBench();
    const store = await bench.open({ thread: "own" });
    const hands = new StoreHands({ store, close: () => store.close() });
    // 48 MB in one commit: some hundred milliseconds of work on any disk.
    let turns = 0;
    let isDone = false;
    const many = Promise.all(
      Array.from({ length: 12 }, () => hands.schedule(hands.message({ body: Buffer.alloc(4_000_000, 1) }))),
    ).then(() => {
      isDone = true;
    });
    while (!isDone) {
      await new Promise((resolve) => setTimeout(resolve, 1));
      turns++;
    }
    await many;
    expect(turns).toBeGreaterThan(10);
  });
});
