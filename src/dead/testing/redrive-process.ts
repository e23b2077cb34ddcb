import { appendFileSync } from "node:fs";
import { MemoryTopicMemory } from "../../adapters/memory/memory-topic-memory.ts";
import { RedisDelayStore } from "../../adapters/redis/redis-delay-store.ts";
import { RedisDocumentStore } from "../../adapters/redis/redis-document-store.ts";
import { systemRandom } from "../../adapters/system/system-random.ts";
import { machineClock, systemTimers } from "../../adapters/system/system-time.ts";
import { durationMs, epochMs } from "../../message/time.ts";
import { silentLog } from "../../runtime/log.ts";
import { Metrics } from "../../runtime/metrics.ts";
import { Service } from "../../service.ts";

/**
 * A process of a service on a real Redis whose broker is a file: a line with the id of everything that it sends. Ends
 * when its parent says so.
 */
const [address, namespace, file, node] = process.argv.slice(2) as [string, string, string, string];
const clock = { nowMs: () => epochMs(Date.now()), monotonicMs: () => performance.now() };
const service = new Service({
  store: await RedisDelayStore.open({ address, namespace, clock, shardCount: 8, durability: "everysec" }),
  documents: await RedisDocumentStore.open({ address, namespace }),
  sink: {
    send: async (_topic, messages) => {
      appendFileSync(file, messages.map(({ id }) => `${id} ${node}\n`).join(""));
      return messages.map(() => ({ ok: true, brokerMessageId: "" }) as const);
    },
    close: async () => {},
  },
  directory: { lookUp: async () => ({ outcome: "exists", types: ["NORMAL"] }) },
  memory: new MemoryTopicMemory(),
  sources: [],
  machine: machineClock,
  timers: systemTimers,
  random: systemRandom,
  log: silentLog,
  metrics: new Metrics(),
  node,
  leaseMs: durationMs(10_000),
  ownTopics: new Set(),
});
await service.start();
process.once("message", () => {
  void service.stop().then(() => process.exit(0));
});
process.send!("started");
