import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import {
  killService,
  type RocketmqHandle,
  startAgain,
  startRocketmq,
  stopServices,
} from "../../../scripts/services.mjs";
import type { SendResult } from "../../dispatch/sink.port.ts";
import { ensureIngest } from "./ensure-ingest.ts";
import { createRemotingAdmin, type RemotingAdmin } from "./remoting-admin.ts";
import { createRocketmqSink } from "./rocketmq-sink.ts";
import { createRocketmqSource } from "./rocketmq-source.ts";
import { createRocketmqTopicDirectory } from "./rocketmq-topic-directory.ts";
import { aMessage, parts, pauseMs, systemClock, uniqueName } from "./testing.ts";

// A RocketMQ of our own, to kill, freeze and start again.

let runDir: string;
let rocketmq: RocketmqHandle;
let admin: RemotingAdmin;

beforeAll(async () => {
  runDir = mkdtempSync(join(tmpdir(), "escapement-outage-"));
  rocketmq = await startRocketmq({ runDir, config: { enableMixedMessageType: true } });
  admin = createRemotingAdmin({ broker: rocketmq.broker, timers: parts.timers });
});
afterAll(async () => {
  await stopServices({ names: ["rocketmq"], runDir });
  rmSync(runDir, { recursive: true, force: true });
});

beforeEach(async () => {
  rocketmq = await startAgain(rocketmq);
});

const base = () => ({ endpoint: rocketmq.endpoint, ...parts });
const untilAborted = () => new AbortController().signal;
const classOf = (result: SendResult | undefined) => (result?.ok ? "ok" : result?.failure.class);

const newTopicAndGroup = async () => {
  const topic = uniqueName("outage");
  const group = uniqueName("group");
  await admin.createTopic({ name: topic });
  await admin.createGroup({ name: group });
  return { topic, group };
};

/** Receives and acknowledges until `count` messages are there or the time is over; failures are waited out. */
const receiveUntil = async (source: ReturnType<typeof createRocketmqSource>, count: number, withinMs: number) => {
  const ids: (string | undefined)[] = [];
  const endMs = systemClock.monotonicMs() + withinMs;
  while (ids.length < count && systemClock.monotonicMs() < endMs) {
    try {
      const messages = await source.receive(untilAborted());
      ids.push(...messages.map(({ properties }) => properties.get("ESC_ID")));
      await source.ack(messages);
    } catch {
      await pauseMs(200);
    }
  }
  return ids;
};

/** A process of its own that polls with a source and closes it when told; it has nothing else that would end it. */
const startChild = async (topic: string, group: string): Promise<ChildProcess> => {
  const url = (file: string) => JSON.stringify(new URL(file, import.meta.url).href);
  const program = `
    const { createRocketmqSource } = await import(${url("./rocketmq-source.ts")});
    const { createRocketmqSink } = await import(${url("./rocketmq-sink.ts")});
    const { aMessage, parts } = await import(${url("./testing.ts")});
    const base = { endpoint: ${JSON.stringify(rocketmq.endpoint)}, ...parts };
    const source = createRocketmqSource({ ...base, topic: "${topic}", group: "${group}", pollMs: 20_000 });
    const sink = createRocketmqSink({ ...base, sendTimeoutMs: 500 });
    await sink.send("${topic}", [aMessage()]);
    await source.receive(new AbortController().signal);
    const polling = source.receive(new AbortController().signal).catch(() => []);
    process.stdin.once("data", async () => {
      process.stdin.destroy();
      await Promise.all([source.close(), sink.close()]);
      await polling;
    });
    process.stdout.write("polling\\n");`;
  const child = spawn(process.execPath, ["--input-type=module", "--eval", program], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  await once(child.stdout!, "data");
  return child;
};

const closeAndTime = async (child: ChildProcess): Promise<number> => {
  const fromMs = systemClock.monotonicMs();
  const exited = once(child, "exit");
  child.stdin!.write("close\n");
  const timer = parts.timers.after(20_000, () => child.kill("SIGKILL"));
  const [exitCode] = await exited;
  timer.cancel();
  expect(exitCode).toBe(0);
  return systemClock.monotonicMs() - fromMs;
};

describe("a broker that allows mixed topics", () => {
  it("gets an ingest topic that takes messages with and without a message group", async () => {
    const topic = uniqueName("ingest");
    const group = uniqueName("ingest_group");
    expect(await ensureIngest({ ...base(), admin, topic, group })).toEqual({ type: "MIXED" });
    expect(await ensureIngest({ ...base(), admin, topic, group })).toEqual({ type: "MIXED" });
    expect(await admin.group(group)).toEqual({ name: group, retryMaxTimes: 10_000, orderly: false });
    const sink = createRocketmqSink(base());
    const plain = [aMessage(), aMessage()];
    const grouped = aMessage({ messageGroup: "g" });
    const results = [...(await sink.send(topic, plain)), ...(await sink.send(topic, [grouped]))];
    expect(results.map(classOf)).toEqual(["ok", "ok", "ok"]);
    const source = createRocketmqSource({ ...base(), topic, group, pollMs: 1_000 });
    const ids = await receiveUntil(source, 3, 10_000);
    expect(new Set(ids)).toEqual(new Set([...plain, grouped].map(({ id }) => id)));
    await Promise.all([source.close(), sink.close()]);
  });
});

describe("a broker that is killed and comes back", () => {
  it("loses no acknowledged message, is never taken for a permanent failure, and is found again by itself", async () => {
    const { topic, group } = await newTopicAndGroup();
    const sink = createRocketmqSink({ ...base(), sendTimeoutMs: 1_000 });
    const source = createRocketmqSource({ ...base(), topic, group, pollMs: 1_000, invisibleMs: 5_000 });
    const directory = createRocketmqTopicDirectory(base());
    expect(await directory.lookUp(topic)).toMatchObject({ outcome: "exists" });
    expect(classOf((await sink.send(topic, [aMessage()]))[0])).toBe("ok");
    expect((await receiveUntil(source, 1, 10_000)).length).toBe(1);

    await killService(rocketmq, "SIGKILL", { role: "proxy" });
    const whileAway: [string | undefined, number][] = [];
    for (let n = 0; n < 20; n++) {
      const fromMs = systemClock.monotonicMs();
      const [result] = await sink.send(topic, [aMessage(), aMessage()]);
      whileAway.push([classOf(result), systemClock.monotonicMs() - fromMs]);
      await pauseMs(50);
    }
    // The first one may leave on a connection whose end has not been noticed yet, and then nobody knows.
    expect(["transient", "unknown"]).toContain(whileAway[0]![0]);
    expect(new Set(whileAway.slice(1).map(([failureClass]) => failureClass))).toEqual(new Set(["transient"]));
    expect(Math.max(...whileAway.map(([, tookMs]) => tookMs))).toBeLessThan(1_200);
    expect(await directory.lookUp(topic)).toMatchObject({ outcome: "exists" });
    expect(await directory.lookUp(uniqueName("other"))).toEqual({ outcome: "unreachable" });

    rocketmq = await startAgain(rocketmq);
    const startedMs = systemClock.monotonicMs();
    const sent = new Set<string>();
    while (sent.size < 10 && systemClock.monotonicMs() - startedMs < 60_000) {
      const message = aMessage();
      const [result] = await sink.send(topic, [message]);
      expect(["ok", "transient", "unknown"]).toContain(classOf(result));
      if (result?.ok) sent.add(message.id);
      else await pauseMs(100);
    }
    expect(sent.size).toBe(10);
    const received = new Set(await receiveUntil(source, 10, 30_000));
    for (const id of sent) expect(received).toContain(id);
    await Promise.all([source.close(), sink.close(), directory.close()]);
  });
});

describe("a process that wants to leave", () => {
  it("is gone within a second, with the proxy there", async () => {
    const { topic, group } = await newTopicAndGroup();
    expect(await closeAndTime(await startChild(topic, group))).toBeLessThan(1_000);
  });

  it("is gone within a second when the proxy is frozen", async () => {
    const { topic, group } = await newTopicAndGroup();
    const child = await startChild(topic, group);
    await killService(rocketmq, "SIGSTOP", { role: "proxy" });
    try {
      await pauseMs(500);
      expect(await closeAndTime(child)).toBeLessThan(1_000);
    } finally {
      await killService(rocketmq, "SIGCONT", { role: "proxy" });
    }
  });

  it("is gone within a second when the proxy was killed", async () => {
    const { topic, group } = await newTopicAndGroup();
    const child = await startChild(topic, group);
    await killService(rocketmq, "SIGKILL", { role: "proxy" });
    await pauseMs(1_500); // reconnecting is in full swing
    expect(await closeAndTime(child)).toBeLessThan(1_000);
  });
});
