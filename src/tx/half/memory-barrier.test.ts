import { describeBarrier } from "./barrier.contract.ts";
import { createMemoryBarrier } from "./testing/memory-barrier.ts";

describeBarrier("memory", async () => {
  let nowMs = 1_000_000;
  const barrier = createMemoryBarrier(() => nowMs);
  return {
    barrier,
    begin: async () => barrier.begin(),
    commit: async (tx) => barrier.commit(tx),
    rollback: async (tx) => barrier.rollback(tx),
    pass: async (ms) => {
      nowMs += ms;
    },
  };
});
