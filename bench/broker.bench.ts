import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { createRocketmqSink } from "../src/adapters/rocketmq/rocketmq-sink.ts";
import { createRocketmqSource } from "../src/adapters/rocketmq/rocketmq-source.ts";
import { aMessage, parts } from "../src/adapters/rocketmq/testing.ts";
import { createTopic } from "./lab/broker.ts";
import { bytesBelow, residentMiB, startEmbeddedBroker } from "./lab/embedded-broker.ts";
import { Meter } from "./lab/meter.ts";
import { inParallel, pause, until } from "./lab/pace.ts";
import type { Benchmark, Lab, Report, Row } from "./lab/row.ts";
import { median, Samples } from "./lab/samples.ts";
import { uniqueName } from "./lab/server-process.ts";

/**
 * The embedded broker beside RocketMQ 5.5.0, in turn on the same machine, with the same client (our sink and source):
 * one message per call, 64 per call, receiving with one acknowledgement for 32, and how long a message takes to a
 * consumer whose long poll is open. The embedded broker has each message on its disk before it answers (sync flush);
 * RocketMQ runs as it comes, with an asynchronous flush, and so is given the easier task. Median of the rounds.
 */
export const benchmark: Benchmark = async (lab, report) => {
  mkdirSync(lab.runDir, { recursive: true });
  const folder = mkdtempSync(join(lab.runDir, "broker-"));
  const embedded = await startEmbeddedBroker(folder);
  const targets: readonly Target[] = [
    { name: "embedded", ...embedded, admin: embedded.endpoint, durability: "always" },
    { name: "rocketmq", ...lab.rocketmq, admin: lab.rocketmq.broker, durability: "none" },
  ];
  const rounds = new Map<string, Row[]>();
  const note: Report = (row) => void rounds.set(row.id, [...(rounds.get(row.id) ?? []), row]);
  // The first round warms both up and is not counted.
  for (let round = 0; round <= (lab.quick ? 1 : 5); round++) {
    for (const target of targets) await measure(lab, target, round === 0 ? () => {} : note);
  }
  for (const rows of rounds.values()) report(medianRow(rows));
  await embedded.stop();
  rmSync(folder, { recursive: true, force: true });
  await endurance(lab, report);
};

type Target = {
  readonly name: "embedded" | "rocketmq";
  readonly endpoint: string;
  readonly admin: string;
  readonly pid: number;
  readonly durability: string;
};

const body = Buffer.alloc(256, "x");
const batchOf = (topic: string, count: number) =>
  Array.from({ length: count }, (_, n) =>
    aMessage({ topic, tag: "bench", keys: [`key-${n}`], properties: new Map([["kind", "bench"]]), body }),
  );

const measure = async (lab: Lab, target: Target, report: Report): Promise<void> => {
  const { name, endpoint, admin, pid, durability } = target;
  const base = { endpoint, ...parts };
  const role = name === "embedded" ? "server" : "rocketmq";
  const { topic, group } = await createTopic(admin, "BENCH");
  const sink = createRocketmqSink(base);
  const scale = lab.quick ? 10 : 1;

  const send = async (id: string, what: string, perCall: number, lanes: number, calls: number): Promise<void> => {
    const batch = batchOf(topic, perCall);
    const meter = new Meter({ generator: process.pid, [role]: pid });
    await inParallel(calls, lanes, async () => {
      const results = await sink.send(topic, batch);
      if (results.some((result) => !result.ok)) throw new Error(`${name} refused messages`);
    });
    report({
      id: `broker/${id} ${name}`,
      what: `${name}: ${what}`,
      durability,
      ...meter.stop(calls * perCall),
      numbers: {},
    });
  };
  // A group begins where it first looks, so it looks before anything is there.
  const sources = Array.from({ length: 8 }, () => createRocketmqSource({ ...base, topic, group, pollMs: 1_000 }));
  await sources[0]!.receive(AbortSignal.timeout(2_000));
  await send("send single", "send one by one, 64 at a time", 1, 64, 10_000 / scale);
  await send("send batch", "send 64 per call, 8 at a time", 64, 8, 1_600 / scale);

  const count = 10_000 / scale + (64 * 1_600) / scale;
  const limit = Math.min(count, 40_000 / scale);
  let received = 0;
  const meter = new Meter({ generator: process.pid, [role]: pid });
  await Promise.all(
    sources.map(async (source) => {
      while (received < limit) {
        const messages = await source.receive(new AbortController().signal);
        await source.ack(messages);
        received += messages.length;
      }
    }),
  );
  const what = `${name}: receive 32 at a time and acknowledge them in one call, 8 consumers`;
  report({ id: `broker/receive + ack ${name}`, what, durability, ...meter.stop(received), numbers: {} });
  await Promise.all(sources.map((source) => source.close()));

  const quiet = await createTopic(admin, "QUIET");
  const samples = new Samples();
  const source = createRocketmqSource({ ...base, ...quiet, pollMs: 1_000 });
  let wanted = true;
  const consuming = (async () => {
    while (wanted) {
      const messages = await source.receive(new AbortController().signal);
      const nowMs = performance.now();
      for (const { properties } of messages) samples.push(nowMs - Number(properties.get("sent")));
      await source.ack(messages);
    }
  })();
  await pause(300);
  const sends = lab.quick ? 50 : 500;
  for (let i = 0; i < sends; i++) {
    const properties = new Map([["sent", String(performance.now())]]);
    await sink.send(quiet.topic, [aMessage({ topic: quiet.topic, properties, body })]);
    await pause(2);
  }
  await until("all have arrived", 10_000, () => samples.length >= sends);
  const { p50Ms, p99Ms, maxMs } = samples.summary();
  report({
    id: `broker/latency ${name}`,
    what: `${name}: from before the send to the consumer, one after the other`,
    durability,
    cpuMicros: {},
    numbers: { "p50 ms": p50Ms, "p99 ms": p99Ms, "max ms": maxMs },
  });
  wanted = false;
  await consuming;
  await source.close();
  await sink.close();
};

/** By the rate, or by the p99 where there is none. */
const medianRow = (rows: readonly Row[]): Row => {
  const keyOf = (row: Row): number => row.perSecond ?? row.numbers["p99 ms"] ?? 0;
  const middle = median(rows.map(keyOf));
  return rows.find((row) => keyOf(row) === middle)!;
};

/** Many messages through the embedded broker: does it grow, how much disk, and how long does it take to start again. */
const endurance = async (lab: Lab, report: Report): Promise<void> => {
  const folder = mkdtempSync(join(lab.runDir, "broker-"));
  const count = lab.quick ? 100_000 : 10_000_000;
  const recoveryCount = lab.quick ? 50_000 : 1_000_000;
  let embedded = await startEmbeddedBroker(folder);
  const { topic } = await createTopic(embedded.endpoint, uniqueName("MANY"));
  let sink = createRocketmqSink({ endpoint: embedded.endpoint, ...parts });
  const batch = batchOf(topic, 128);
  const sendMany = (messages: number) =>
    inParallel(Math.ceil(messages / 128), 8, async () => {
      const results = await sink.send(topic, batch);
      if (results.some((result) => !result.ok)) throw new Error("messages were refused");
    });
  await sendMany(recoveryCount);
  const bytesPerMessage = bytesBelow(folder) / recoveryCount;
  await sink.close();
  process.kill(embedded.pid, "SIGKILL");
  await embedded.stop();
  embedded = await startEmbeddedBroker(folder);
  const numbers = { "start ms": embedded.startedInMs, "B per message": bytesPerMessage };
  const what = `embedded: start after kill -9 with ${recoveryCount.toLocaleString("en-US")} messages, the process included`;
  report({ id: "broker/recovery", what, durability: "always", cpuMicros: {}, numbers });

  sink = createRocketmqSink({ endpoint: embedded.endpoint, ...parts });
  await sendMany(count / 10);
  const earlyMiB = residentMiB(embedded.pid);
  const meter = new Meter({ generator: process.pid, server: embedded.pid });
  await sendMany((count * 9) / 10);
  report({
    id: "broker/endurance",
    what: `embedded: memory after ${(count / 10).toLocaleString("en-US")} and after ${count.toLocaleString("en-US")} messages`,
    durability: "always",
    ...meter.stop((count * 9) / 10),
    numbers: { "early MiB": earlyMiB, "late MiB": residentMiB(embedded.pid) },
  });
  await sink.close();
  await embedded.stop();
  rmSync(folder, { recursive: true, force: true });
};
