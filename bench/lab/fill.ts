import { randomBytes } from "node:crypto";
import { Redis } from "ioredis";
import { RedisDelayStore } from "../../src/adapters/redis/redis-delay-store.ts";
import { nearWindowMs, wakeMarginMs } from "../../src/delay/near-window.port.ts";
import { timeOrderedId } from "../../src/message/id.ts";
import type { DelayedMessage } from "../../src/message/message.ts";
import { epochMs, hour } from "../../src/message/time.ts";
import { inParallel } from "./pace.ts";
import type { Lab } from "./row.ts";

/** Puts messages straight into the store, by its adapter: for benchmarks of what comes after. */
export type Fill = {
  readonly namespace: string;
  readonly topic: string;
  readonly count: number;
  readonly dueMsOf: (i: number) => number;
};

const batch = 200;
const shards = 32;
export const body200 = Buffer.alloc(200, "x");

export const fillStore = async (lab: Lab, { namespace, topic, count, dueMsOf }: Fill): Promise<void> => {
  const clock = { nowMs: () => epochMs(Date.now()), monotonicMs: () => performance.now() };
  const store = await RedisDelayStore.open({
    address: lab.redis.url,
    namespace,
    shardCount: shards,
    clock,
    dedupeWindowMs: hour,
  });
  const random = randomBytes(10 * batch);
  await inParallel(Math.ceil(count / batch), 8, async (job) => {
    const nowMs = clock.nowMs();
    const messages = Math.min(batch, count - job * batch);
    const items = Array.from({ length: messages }, (_, i) => {
      random.writeUInt32LE(job * batch + i, i * 10 + 2);
      const message: DelayedMessage = {
        id: timeOrderedId(nowMs, random.subarray(i * 10, i * 10 + 10), job % shards),
        tenant: "default",
        topic,
        keys: [],
        properties: new Map(),
        body: body200,
        deliverAtMs: epochMs(dueMsOf(job * batch + i)),
        acceptedAtMs: nowMs,
        attempt: 0,
      };
      return { message, wakeUntilMs: epochMs(nowMs + nearWindowMs + wakeMarginMs) };
    });
    await store.schedule(job % shards, items, nowMs);
  });
  await store.close();
};

/** One command to the benchmark's Redis. */
export const redisCommand = async (lab: Lab, name: string, ...args: string[]): Promise<unknown> => {
  const redis = new Redis(lab.redis.url);
  try {
    return await redis.call(name, ...args);
  } finally {
    redis.disconnect();
  }
};

export const setFsync = async (lab: Lab, policy: "always" | "everysec" | "no"): Promise<void> => {
  await redisCommand(lab, "config", "set", "appendfsync", policy);
};
