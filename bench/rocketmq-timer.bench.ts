import { Producer } from "rocketmq-client-nodejs";
import { killService, startRocketmq } from "../scripts/services.mjs";
import { createTopic, watchTopic } from "./lab/broker.ts";
import { startWitness } from "./lab/consumer.ts";
import { body200 } from "./lab/fill.ts";
import { batchRequest, HttpConnection, postOf, saturate } from "./lab/http-connection.ts";
import { Meter } from "./lab/meter.ts";
import { inParallel, pause } from "./lab/pace.ts";
import type { Benchmark, Lab } from "./lab/row.ts";
import { startServer, uniqueName } from "./lab/server-process.ts";
import { noteStarted } from "./lab/started.ts";

/**
 * Side by side with RocketMQ's own timer, at its stock precision (1,000 ms) and at its finest (100 ms), each in a
 * broker of its own: how fast delayed messages are accepted, how late an ordinary consumer gets them, and how fast a
 * burst due in one second is there. Theirs is sent as its Node client sends (one message per call, 64 in flight: a
 * timer message cannot travel in a batch); ours over HTTP in batches of 100. The consumer program is the same.
 *
 * Durability differs and favours them: the broker acknowledges from memory (ASYNC_FLUSH, its default), we from disk.
 */
type Target = { readonly endpoint: string; readonly broker: string; readonly pid: number };

const inFlight = 64;
const quiet = { info: () => {}, warn: () => {}, error: () => {}, debug: () => {} };

export const benchmark: Benchmark = async (lab, report) => {
  const counts = lab.quick
    ? { lateness: 1_000, overMs: 2_000, burst: 2_000 }
    : { lateness: 10_000, overMs: 10_000, burst: 50_000 };
  for (const precisionMs of lab.quick ? ([100] as const) : ([1_000, 100] as const)) {
    const handle = await startRocketmq({
      runDir: lab.runDir,
      name: `timer${precisionMs}`,
      timerPrecisionMs: precisionMs,
    });
    for (const pid of Object.values(handle.pids)) noteStarted(pid);
    try {
      await theirs(lab, report, { ...handle, pid: handle.pids.proxy! }, precisionMs, counts);
    } finally {
      await killService(handle, "SIGTERM");
    }
  }
  await ours(lab, report, counts);
};

type Counts = { readonly lateness: number; readonly overMs: number; readonly burst: number };

const theirs = async (
  lab: Lab,
  report: Parameters<Benchmark>[1],
  { endpoint, broker, pid }: Target,
  precisionMs: number,
  counts: Counts,
): Promise<void> => {
  const id = (what: string): string => `rocketmq timer/${precisionMs} ms ${what}`;
  const name = `RocketMQ timer, ${precisionMs.toLocaleString("en")} ms`;
  const at = await createTopic(broker, "TIMER", "DELAY");
  const drain = await createTopic(broker, "DRAIN", "DELAY");
  const producer = new Producer({ endpoints: endpoint, namespace: "", logger: quiet, requestTimeout: 10_000 });
  await producer.startup();
  const send = (topic: string, dueMs: number): Promise<unknown> =>
    producer.send({
      topic,
      body: body200,
      properties: new Map([["DUE", String(dueMs)]]),
      deliveryTimestamp: new Date(dueMs),
    });
  // Warm, and a first guess of the rate, so that nothing falls due before all of it was accepted.
  const warmCount = lab.quick ? 300 : 3_000;
  const warmFromMs = Date.now();
  await inParallel(warmCount, inFlight, (i) => send(drain.topic, warmFromMs + 20_000 + i));
  const guess = (warmCount / (Date.now() - warmFromMs)) * 1000;

  const witness = await startWitness(endpoint, at, "DUE", "none");
  const firstDueMs = Date.now() + (counts.lateness / guess) * 1000 * 1.3 + 2_000;
  const meter = new Meter({ generator: process.pid, rocketmq: pid });
  await inParallel(counts.lateness, inFlight, (i) =>
    send(at.topic, Math.floor(firstDueMs + (i * counts.overMs) / counts.lateness)),
  );
  const { void: _, ...accepted } = meter.stop(counts.lateness);
  // A generator above 80 % of a core is how this client works: unary calls are what its users have.
  report({ id: id("accept"), what: `${name}: accept, one per call`, durability: "none", ...accepted, numbers: {} });
  let seen = await witness.summary();
  const latestMs = firstDueMs + counts.overMs + 15_000;
  while (seen.count < counts.lateness && Date.now() < latestMs) {
    await pause(200);
    seen = await witness.summary();
  }
  report({
    id: id("lateness"),
    what: `${name}: ${counts.lateness.toLocaleString("en")} over ${counts.overMs / 1000} s, at a consumer`,
    durability: "none",
    cpuMicros: {},
    numbers: {
      "p50 ms": seen.p50Ms,
      "p99 ms": seen.p99Ms,
      "max ms": seen.maxMs,
      early: seen.early,
      missing: counts.lateness - seen.count,
    },
  });
  await witness.stop();

  const burst = await createTopic(broker, "BURST", "DELAY");
  const dueMs = Math.ceil((Date.now() + (counts.burst / accepted.perSecond!) * 1000 * 1.3 + 2_000) / 1000) * 1000;
  await inParallel(counts.burst, inFlight, (i) => send(burst.topic, dueMs + (i % 1_000)));
  if (Date.now() > dueMs) throw new Error("the burst was not accepted before it was due");
  const out = await watchTopic(broker, burst.topic, counts.burst, dueMs - Date.now() + 60_000);
  report({
    id: id("drain"),
    what: `${name}: ${counts.burst.toLocaleString("en")} due within one second`,
    durability: "none",
    cpuMicros: {},
    numbers: { "last after ms": out.lastAtMs - dueMs, missing: counts.burst - out.seen },
  });
  await producer.shutdown().catch(() => {});
};

const ours = async (lab: Lab, report: Parameters<Benchmark>[1], counts: Counts): Promise<void> => {
  const { broker, endpoint } = lab.rocketmq;
  const at = await createTopic(broker, "OURS");
  const burst = await createTopic(broker, "BURST");
  const server = await startServer(lab, { namespace: uniqueName("bench") });
  const processes = { generator: process.pid, server: server.pid, redis: lab.redis.pid, rocketmq: lab.rocketmq.pid };
  const connections = Array.from({ length: 8 }, () => new HttpConnection(server.port));
  const hourMs = 3_600_000;
  const far = Array.from({ length: 16 }, () => batchRequest(() => at.topic, 100, hourMs, hourMs));
  await saturate(connections, lab.quick ? 500 : 3_000, () => far[0]!);
  const meter = new Meter(processes);
  let turn = 0;
  const answers = await saturate(connections, lab.quick ? 1_000 : 3_000, () => far[turn++ % far.length]!);
  const count = (answers.get(200) ?? 0) * 100;
  report({
    id: "rocketmq timer/ours accept",
    what: "Escapement: accept, HTTP batches of 100",
    durability: "always",
    ...meter.stop(count),
    numbers: {},
  });

  const witness = await startWitness(endpoint, at);
  const sendAll = async (topic: string, total: number, fromMs: number, overMs: number): Promise<void> => {
    const free = [...connections];
    await inParallel(total / 100, connections.length, (call) => {
      const connection = free.pop()!;
      const request = batchAt(topic, fromMs, (i) => Math.floor(((call * 100 + i) * overMs) / total));
      return new Promise<void>((resolve, reject) => {
        connection.send(request, (status) => {
          free.push(connection);
          if (status === 200) resolve();
          else reject(new Error(`a batch was answered ${status}`));
        });
      });
    });
  };
  await sendAll(at.topic, counts.lateness, Date.now() + 2_500, counts.overMs);
  let seen = await witness.summary();
  const latestMs = Date.now() + counts.overMs + 15_000;
  while (seen.count < counts.lateness && Date.now() < latestMs) {
    await pause(200);
    seen = await witness.summary();
  }
  report({
    id: "rocketmq timer/ours lateness",
    what: `Escapement: ${counts.lateness.toLocaleString("en")} over ${counts.overMs / 1000} s, at a consumer`,
    durability: "always",
    cpuMicros: {},
    numbers: {
      "p50 ms": seen.p50Ms,
      "p99 ms": seen.p99Ms,
      "max ms": seen.maxMs,
      early: seen.early,
      missing: counts.lateness - seen.count,
    },
  });
  await witness.stop();

  const dueMs = Math.ceil((Date.now() + (lab.quick ? 2_500 : 5_000)) / 1000) * 1000;
  await sendAll(burst.topic, counts.burst, dueMs, 1_000);
  if (Date.now() > dueMs) throw new Error("the burst was not accepted before it was due");
  const out = await watchTopic(broker, burst.topic, counts.burst, dueMs - Date.now() + 60_000);
  report({
    id: "rocketmq timer/ours drain",
    what: `Escapement: ${counts.burst.toLocaleString("en")} due within one second`,
    durability: "always",
    cpuMicros: {},
    numbers: { "last after ms": out.lastAtMs - dueMs, missing: counts.burst - out.seen },
  });
  for (const connection of connections) connection.close();
  await server.stop();
};

const batchAt = (topic: string, fromMs: number, offsetOf: (i: number) => number): Buffer => {
  const items = Array.from({ length: 100 }, (_, i) => ({
    topic,
    body: body200.toString(),
    deliverAt: fromMs + offsetOf(i),
  }));
  return postOf("/v1/messages/batch", "application/json", JSON.stringify(items));
};
