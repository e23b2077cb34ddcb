import { MemoryDocumentStore } from "../../src/adapters/memory/memory-document-store.ts";
import { MemoryTopicMemory } from "../../src/adapters/memory/memory-topic-memory.ts";
import { RedisDelayStore } from "../../src/adapters/redis/redis-delay-store.ts";
import { systemRandom } from "../../src/adapters/system/system-random.ts";
import { machineClock, systemTimers } from "../../src/adapters/system/system-time.ts";
import type { Sink } from "../../src/dispatch/sink.port.ts";
import { durationMs, epochMs, hour } from "../../src/message/time.ts";
import { silentLog } from "../../src/runtime/log.ts";
import { Metrics } from "../../src/runtime/metrics.ts";
import { Service } from "../../src/service.ts";

/** The whole service on a real Redis, without HTTP and without a broker: every topic exists, and the sink is given. */
export const embeddedService = async (
  redisUrl: string,
  namespace: string,
  durability: "always" | "everysec",
  sink: Sink,
): Promise<Service> => {
  const clock = { nowMs: () => epochMs(Date.now()), monotonicMs: () => performance.now() };
  const store = await RedisDelayStore.open({
    address: redisUrl,
    namespace,
    durability,
    shardCount: 32,
    dedupeWindowMs: hour,
    clock,
  });
  const service = new Service({
    store,
    documents: new MemoryDocumentStore(),
    sink,
    directory: { lookUp: async () => ({ outcome: "exists", types: ["NORMAL"] }) },
    memory: new MemoryTopicMemory(),
    sources: [],
    machine: machineClock,
    timers: systemTimers,
    random: systemRandom,
    log: silentLog,
    metrics: new Metrics(),
    node: `bench-${process.pid}`,
    leaseMs: durationMs(10_000),
    ownTopics: new Set(),
  });
  await service.start();
  return service;
};
