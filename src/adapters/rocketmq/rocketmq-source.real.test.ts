import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { services } from "../../../test/services.ts";
import type { Sink } from "../../dispatch/sink.port.ts";
import type { IncomingMessage, TopicSource } from "../../ingest/topic-source.port.ts";
import { ensureIngest } from "./ensure-ingest.ts";
import { createRemotingAdmin, type RemotingAdmin } from "./remoting-admin.ts";
import { createRocketmqSink } from "./rocketmq-sink.ts";
import { createRocketmqSource } from "./rocketmq-source.ts";
import { aMessage, parts, systemClock, uniqueName } from "./testing.ts";

let endpoint: string;
let admin: RemotingAdmin;
let sink: Sink;
const open: TopicSource[] = [];
const untilAborted = () => new AbortController().signal;

beforeAll(async () => {
  const { rocketmq } = await services();
  endpoint = rocketmq.endpoint;
  admin = createRemotingAdmin({ broker: rocketmq.broker, timers: parts.timers });
  sink = createRocketmqSink({ endpoint, ...parts });
});
afterAll(async () => {
  await Promise.all(open.map((source) => source.close()));
  await sink?.close();
});

const newSource = async (over: { invisibleMs?: number } = {}) => {
  const topic = uniqueName("source");
  const group = uniqueName("group");
  await admin.createTopic({ name: topic, queues: 4 });
  await admin.createGroup({ name: group });
  const source = createRocketmqSource({ endpoint, topic, group, pollMs: 1_000, ...over, ...parts });
  open.push(source);
  return { topic, source };
};

const sendMany = async (topic: string, count: number): Promise<string[]> => {
  const messages = Array.from({ length: count }, (_, n) => aMessage({ topic, body: Buffer.from(String(n)) }));
  for (let from = 0; from < count; from += 100) await sink.send(topic, messages.slice(from, from + 100));
  return messages.map(({ id }) => id);
};

/** Receives and acknowledges for a while; `keep` decides which messages are not acknowledged. */
const receiveFor = async (
  source: TopicSource,
  durationMs: number,
  until: (received: IncomingMessage[]) => boolean,
  keep: (message: IncomingMessage) => boolean = () => false,
): Promise<IncomingMessage[]> => {
  const received: IncomingMessage[] = [];
  const endMs = systemClock.monotonicMs() + durationMs;
  while (systemClock.monotonicMs() < endMs && !until(received)) {
    const messages = await source.receive(untilAborted());
    received.push(...messages);
    await source.ack(messages.filter((message) => !keep(message)));
  }
  return received;
};

const idOf = (message: IncomingMessage) => message.properties.get("ESC_ID");

describe("the ingest topic of a real RocketMQ", () => {
  it("gives each message with all its parts", async () => {
    const { topic, source } = await newSource();
    const sent = aMessage({
      topic,
      tag: "tag-1",
      keys: ["k1", "k2"],
      properties: new Map([["ESC_DELAY", "30m"]]),
      body: Buffer.from([0, 255, 128]),
    });
    const [result] = await sink.send(topic, [sent]);
    const [received] = await receiveFor(source, 10_000, (soFar) => soFar.length > 0);
    expect(received).toMatchObject({
      brokerMessageId: result?.ok && result.brokerMessageId,
      topic,
      tag: "tag-1",
      keys: ["k1", "k2"],
      body: sent.body,
      deliveryAttempt: 1,
    });
    expect(received!.properties.get("ESC_DELAY")).toBe("30m");
    expect(received!.messageGroup).toBeUndefined();
    expect(received!.bornHost).not.toBe("");
    expect(Math.abs(received!.bornAtMs - systemClock.nowMs())).toBeLessThan(60_000);
  });

  it("brings a body of 4,000,000 bytes", async () => {
    const { topic, source } = await newSource();
    const body = Buffer.alloc(4_000_000, "0123456789");
    await sink.send(topic, [aMessage({ topic, body })]);
    const [received] = await receiveFor(source, 10_000, (soFar) => soFar.length > 0);
    expect(received!.body.equals(body)).toBe(true);
  });

  it("gives nothing again that was acknowledged in batches", async () => {
    const { topic, source } = await newSource({ invisibleMs: 2_000 });
    const ids = await sendMany(topic, 1_000);
    const received = await receiveFor(source, 30_000, (soFar) => soFar.length >= 1_000);
    expect(new Set(received.map(idOf))).toEqual(new Set(ids));
    expect(received.length).toBe(1_000);
    // Well past the invisible time: what was not acknowledged would be back by now (the next test shows when).
    const again = await receiveFor(source, 10_000, (soFar) => soFar.length > 0);
    expect(again).toEqual([]);
  });

  it("gives again what was not acknowledged, counting the attempts", async () => {
    const { topic, source } = await newSource({ invisibleMs: 2_000 });
    const ids = await sendMany(topic, 40);
    const kept = new Set(ids.filter((_, index) => index % 4 === 0));
    const first = (message: IncomingMessage) => message.deliveryAttempt === 1 && kept.has(idOf(message) as never);
    const received = await receiveFor(source, 30_000, (soFar) => soFar.length >= 50, first);
    const again = received.filter(({ deliveryAttempt }) => deliveryAttempt === 2);
    expect(new Set(again.map(idOf))).toEqual(kept);
    expect(received.length).toBe(50);
  });

  it("waits when there is nothing, and not longer than asked", async () => {
    const { source } = await newSource();
    const fromMs = systemClock.monotonicMs();
    expect(await source.receive(untilAborted())).toEqual([]);
    const tookMs = systemClock.monotonicMs() - fromMs;
    expect(tookMs).toBeGreaterThan(500);
    expect(tookMs).toBeLessThan(4_000);
  });

  it("can be left at once, by the signal or by closing", async () => {
    const { source } = await newSource();
    await source.receive(untilAborted());
    const abort = new AbortController();
    const aborted = source.receive(abort.signal);
    parts.timers.after(100, () => abort.abort());
    const fromMs = systemClock.monotonicMs();
    expect(await aborted).toEqual([]);
    const closing = source.receive(untilAborted());
    await source.close();
    expect(await closing).toEqual([]);
    expect(systemClock.monotonicMs() - fromMs).toBeLessThan(900);
    expect(await source.receive(untilAborted())).toEqual([]);
  });
});

describe("the consumer group", () => {
  it("must exist; when it is missing that is said, and once it is there receiving works by itself", async () => {
    const topic = uniqueName("source");
    const group = uniqueName("late_group");
    await admin.createTopic({ name: topic });
    const source = createRocketmqSource({ endpoint, topic, group, pollMs: 1_000, ...parts });
    open.push(source);
    await expect(source.receive(untilAborted())).rejects.toThrow(/group not found/);
    await admin.createGroup({ name: group });
    await sink.send(topic, [aMessage({ topic })]);
    const endMs = systemClock.monotonicMs() + 10_000;
    let received: readonly IncomingMessage[] = [];
    while (received.length === 0 && systemClock.monotonicMs() < endMs) {
      received = await source.receive(untilAborted()).catch(() => []);
    }
    expect(received.length).toBe(1);
  });

  it("and the topic are made ready before use, also where topics cannot be mixed", async () => {
    const topic = uniqueName("ingest");
    const group = uniqueName("ingest_group");
    const made = await ensureIngest({ endpoint, admin, topic, group, ...parts });
    expect(made).toEqual({ type: "NORMAL" });
    expect(await admin.group(group)).toEqual({ name: group, retryMaxTimes: 10_000, orderly: false });
    await sink.send(topic, [aMessage({ topic }), aMessage({ topic })]);
    const source = createRocketmqSource({ endpoint, topic, group, pollMs: 1_000, ...parts });
    open.push(source);
    expect((await receiveFor(source, 10_000, (soFar) => soFar.length >= 2)).length).toBe(2);
  });
});
