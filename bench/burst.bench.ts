import { createTopic, watchTopic } from "./lab/broker.ts";
import { startWitness } from "./lab/consumer.ts";
import { fillStore } from "./lab/fill.ts";
import { Meter } from "./lab/meter.ts";
import { pause } from "./lab/pace.ts";
import type { Benchmark, Lab } from "./lab/row.ts";
import { startNoopServer, startServer, uniqueName } from "./lab/server-process.ts";

/**
 * 100,000 messages of one topic due in the same millisecond, while another topic has 200 a second: when is the last of
 * the burst there, and what does the other topic notice?
 */
const quietPerSecond = 200;
/** The other topic's messages begin this long before the burst and end this long after it. */
const beforeMs = 500;
const afterMs = 4_500;

export const benchmark: Benchmark = async (lab, report) => {
  const count = lab.quick ? 20_000 : 100_000;
  await atNoop(lab, report, count);
  await atBroker(lab, report, count);
};

/** The burst after the quiet topic's messages, so that these are read at the same time as the burst. */
const fill = async (lab: Lab, namespace: string, burst: string, quiet: string, count: number): Promise<number> => {
  const dueMs = Date.now() + (lab.quick ? 3_500 : 7_000);
  const quietCount = (quietPerSecond * (beforeMs + afterMs)) / 1000;
  await fillStore(lab, {
    namespace,
    topic: quiet,
    count: quietCount,
    dueMsOf: (i) => dueMs - beforeMs + Math.floor((i * 1000) / quietPerSecond),
  });
  await fillStore(lab, { namespace, topic: burst, count, dueMsOf: () => dueMs });
  if (Date.now() > dueMs - 300) throw new Error("the store was not filled in time for the burst");
  return dueMs;
};

/** So that the burst meets a server that has worked before. */
const warmUp = async (lab: Lab, namespace: string, topic: string): Promise<void> => {
  await fillStore(lab, { namespace, topic, count: 10_000, dueMsOf: (i) => Date.now() + 300 + (i % 1000) });
  await pause(2_500);
};

const atNoop = async (lab: Lab, report: Parameters<Benchmark>[1], count: number): Promise<void> => {
  const namespace = uniqueName("bench");
  const server = await startNoopServer(lab, { namespace });
  await warmUp(lab, namespace, "WARM");
  const dueMs = await fill(lab, namespace, "BURST", "QUIET", count);
  await pause(dueMs - Date.now() - 100);
  await server.loopDelayMs();
  const meter = new Meter({ server: server.pid, redis: lab.redis.pid });
  await pause(dueMs + 3_000 - Date.now());
  const loopDelay = await server.loopDelayMs();
  await pause(dueMs + afterMs + 500 - Date.now());
  const { BURST: burst, QUIET: quiet } = await server.sunk();
  if (burst?.count !== count) throw new Error(`${burst?.count} of ${count} came`);
  report({
    id: "burst/noop",
    what: `${count.toLocaleString("en")} due in one millisecond, sink that answers at once`,
    durability: "always",
    ...meter.stop(count, burst.lastAtMs - dueMs),
    numbers: {
      "last after ms": burst.lastAtMs - dueMs,
      "other topic p99 ms": quiet!.p99Ms,
      "loop delay max ms": loopDelay,
      early: burst.early + quiet!.early,
    },
  });
  await server.stop();
};

const atBroker = async (lab: Lab, report: Parameters<Benchmark>[1], count: number): Promise<void> => {
  const { broker, endpoint } = lab.rocketmq;
  const namespace = uniqueName("bench");
  const warm = await createTopic(broker, "WARM");
  const burst = await createTopic(broker, "BURST");
  const quiet = await createTopic(broker, "QUIET");
  const server = await startServer(lab, { namespace });
  const witness = await startWitness(endpoint, quiet);
  await warmUp(lab, namespace, warm.topic);
  const dueMs = await fill(lab, namespace, burst.topic, quiet.topic, count);
  await pause(dueMs - Date.now() - 100);
  const meter = new Meter({ server: server.pid, redis: lab.redis.pid, rocketmq: lab.rocketmq.pid });
  const { firstAtMs, lastAtMs, seen } = await watchTopic(broker, burst.topic, count, 60_000);
  if (seen !== count) throw new Error(`${seen} of ${count} came`);
  const measured = meter.stop(count, lastAtMs - dueMs);
  await pause(dueMs + afterMs + 1_000 - Date.now());
  const { p99Ms, early, count: quietSeen } = await witness.summary();
  report({
    id: "burst/broker",
    what: `${count.toLocaleString("en")} due in one millisecond, real broker`,
    durability: "always",
    ...measured,
    numbers: {
      "last after ms": lastAtMs - dueMs,
      "other topic p99 ms": p99Ms,
      early: early + (firstAtMs < dueMs ? 1 : 0),
      "other topic seen": quietSeen,
    },
  });
  await witness.stop();
  await server.stop();
};
