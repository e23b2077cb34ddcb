import { createTopic, watchTopic } from "./lab/broker.ts";
import { fillStore } from "./lab/fill.ts";
import { Meter } from "./lab/meter.ts";
import { pause, until } from "./lab/pace.ts";
import type { Benchmark, Lab } from "./lab/row.ts";
import { startNoopServer, startServer, uniqueName } from "./lab/server-process.ts";

/**
 * How fast due messages leave: to the real broker, and to a sink that answers at once, which is what store, wheel and
 * dispatcher can do. Twice each: a backlog that a fresh server finds when it starts, and one that falls due within a
 * second while the server runs and is warm. From the first message there to the last.
 */
export const benchmark: Benchmark = async (lab, report) => {
  const count = lab.quick ? 20_000 : 100_000;
  await toBroker(lab, report, count);
  await toNoop(lab, report, count);
};

const toBroker = async (lab: Lab, report: Parameters<Benchmark>[1], count: number): Promise<void> => {
  const { broker } = lab.rocketmq;
  const namespace = uniqueName("bench");
  const cold = await createTopic(broker, "COLD");
  const warm = await createTopic(broker, "WARM");
  await fillStore(lab, { namespace, topic: cold.topic, count, dueMsOf: () => Date.now() });
  const server = await startServer(lab, { namespace, eager: true });
  const processes = { generator: process.pid, server: server.pid, redis: lab.redis.pid, rocketmq: lab.rocketmq.pid };

  const run = async (id: string, what: string, topic: string, prepare: () => Promise<void>): Promise<void> => {
    await prepare();
    const meter = new Meter(processes);
    const { firstAtMs, lastAtMs, seen } = await watchTopic(broker, topic, count, 60_000);
    if (seen !== count) throw new Error(`${id}: ${seen} of ${count} messages are at the broker`);
    report({ id, what, durability: "always", ...meter.stop(count, lastAtMs - firstAtMs), numbers: {} });
  };

  await run("dispatch/broker cold", "due backlog to the real broker, fresh server", cold.topic, async () => {});
  await run("dispatch/broker", "due messages to the real broker, warm server", warm.topic, async () => {
    const dueMs = Date.now() + (lab.quick ? 3_000 : 6_000);
    await fillStore(lab, {
      namespace,
      topic: warm.topic,
      count,
      dueMsOf: (i) => dueMs + Math.floor((i * 1000) / count),
    });
    await pause(dueMs - Date.now());
  });
  await server.stop();
};

const toNoop = async (lab: Lab, report: Parameters<Benchmark>[1], count: number): Promise<void> => {
  const namespace = uniqueName("bench");
  await fillStore(lab, { namespace, topic: "COLD", count, dueMsOf: () => Date.now() });
  const server = await startNoopServer(lab, { namespace });
  const processes = { server: server.pid, redis: lab.redis.pid };
  const all = async (topic: string): Promise<boolean> => (await server.count(topic)) >= count;
  await until("the backlog is out", 60_000, () => all("COLD"), 50);
  const dueMs = Date.now() + (lab.quick ? 3_000 : 6_000);
  await fillStore(lab, { namespace, topic: "WARM", count, dueMsOf: (i) => dueMs + Math.floor((i * 1000) / count) });
  await pause(dueMs - Date.now());
  const meter = new Meter(processes);
  await until("all are out", 60_000, () => all("WARM"), 50);
  const { firstAtMs, lastAtMs, early } = (await server.sunk()).WARM!;
  const what = "due messages to a sink that answers at once, warm server";
  report({
    id: "dispatch/noop",
    what,
    durability: "always",
    ...meter.stop(count, lastAtMs - firstAtMs),
    numbers: { early },
  });
  await server.stop();
};
