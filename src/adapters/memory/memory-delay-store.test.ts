import { describe, expect, it } from "vitest";
import { delayStoreContract } from "../../delay/delay-store.contract.ts";
import { StoreHands } from "../../delay/delay-store-hands.ts";
import { durationMs } from "../../message/time.ts";
import { MemoryDelayStore } from "./memory-delay-store.ts";

const memorySubject = async (wishes: { dedupeWindowMs?: number } = {}) => {
  let nowMs = 1_750_000_000_000;
  const { dedupeWindowMs } = wishes;
  const store = new MemoryDelayStore({
    clockMs: () => nowMs,
    ...(dedupeWindowMs === undefined ? {} : { dedupeWindowMs: durationMs(dedupeWindowMs) }),
  });
  const advanceMs = async (ms: number) => {
    nowMs += ms;
  };
  return { store, advanceMs, close: () => store.close() };
};

delayStoreContract("memory", memorySubject, { modelRuns: 150, modelSteps: 60 });

describe("the memory store", () => {
  it("takes a known id without onConflict for the caller's bug, and stores nothing of that call", async () => {
    const hands = new StoreHands(await memorySubject());
    const known = await hands.scheduled();
    const other = hands.message();
    const items = [{ message: other }, { message: known }];
    await expect(hands.store.schedule(hands.shard, items, hands.message().deliverAtMs)).rejects.toThrow("is not fresh");
    const twice = [{ message: other }, { message: other }];
    await expect(hands.store.schedule(hands.shard, twice, hands.message().deliverAtMs)).rejects.toThrow("is not fresh");
    expect(await hands.get(other)).toBeUndefined();
  });

  it("has done a call's work before it yields", async () => {
    const hands = new StoreHands(await memorySubject());
    const message = hands.message();
    const scheduled = hands.schedule(message);
    const canceled = hands.cancel(message);
    expect((await canceled).outcome).toBe("done");
    await scheduled;
  });
});
