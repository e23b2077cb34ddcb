import { randomBytes } from "node:crypto";
import { delayStoreContract } from "../../delay/delay-store.contract.ts";
import type { DelayStoreSubject, DelayStoreWishes } from "../../delay/delay-store-hands.ts";
import { durationMs, epochMs } from "../../message/time.ts";
import { RedisDelayStore } from "./redis-delay-store.ts";
const clock = { nowMs: () => epochMs(Date.now()), monotonicMs: () => performance.now() };
delayStoreContract("redis", async (wishes: DelayStoreWishes): Promise<DelayStoreSubject> => {
  const namespace = `t${randomBytes(6).toString("hex")}`;
  const options = { address: process.env.R ?? "redis://127.0.0.1:26391", clock, namespace,
    ...(wishes.dedupeWindowMs === undefined ? {} : { dedupeWindowMs: durationMs(wishes.dedupeWindowMs) }) };
  const store = await RedisDelayStore.open(options);
  const other = await RedisDelayStore.open(options);
  return { store, other, close: async () => { await store.close(); await other.close(); } };
}, { modelRuns: 15 });
