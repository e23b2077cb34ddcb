import { MemoryDocumentStore } from "../../src/adapters/memory/memory-document-store.ts";
import { RedisDelayStore } from "../../src/adapters/redis/redis-delay-store.ts";
import type { Sink } from "../../src/dispatch/sink.port.ts";
import { epochMs, hour } from "../../src/message/time.ts";
import { Service } from "../../src/service.ts";
import { plainParts } from "../../src/testing/plain-parts.ts";

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
    ...plainParts(`bench-${process.pid}`),
  });
  await service.start();
  return service;
};
