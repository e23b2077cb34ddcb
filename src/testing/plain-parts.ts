import { MemoryTopicMemory } from "../adapters/memory/memory-topic-memory.ts";
import { systemRandom } from "../adapters/system/system-random.ts";
import { machineClock, systemTimers } from "../adapters/system/system-time.ts";
import { durationMs } from "../message/time.ts";
import { silentLog } from "../runtime/log.ts";
import { Metrics } from "../runtime/metrics.ts";
import type { ServiceParts } from "../service.ts";

/** A service's parts but its stores and its sink, for tests and benchmarks of those: every topic exists, no way in. */
export const plainParts = (node: string): Omit<ServiceParts, "store" | "documents" | "sink"> => ({
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
