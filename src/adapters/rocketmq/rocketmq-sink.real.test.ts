import { connect, type PeerCertificate } from "node:tls";
import type { MessageView } from "rocketmq-client-nodejs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { consumeAll } from "../../../test/rocketmq-consumer.ts";
import { services } from "../../../test/services.ts";
import type { SendResult, Sink } from "../../dispatch/sink.port.ts";
import type { DelayedMessage } from "../../message/message.ts";
import { createRemotingAdmin, type RemotingAdmin, type TopicType } from "./remoting-admin.ts";
import { createRocketmqSink } from "./rocketmq-sink.ts";
import { aMessage, eventually, parts, pauseMs, uniqueName } from "./testing.ts";

// Against a real RocketMQ, seen through the official client: what arrives is what was handed over.

let endpoint: string;
let admin: RemotingAdmin;
let sink: Sink;

beforeAll(async () => {
  const { rocketmq } = await services();
  endpoint = rocketmq.endpoint;
  admin = createRemotingAdmin({ broker: rocketmq.broker, timers: parts.timers });
  sink = createRocketmqSink({ endpoint, ...parts });
});
afterAll(() => sink?.close());

const newTopic = async (type: TopicType = "NORMAL"): Promise<string> => {
  const name = uniqueName("sink");
  await admin.createTopic({ name, type, queues: 4 });
  return name;
};

/** Sends, then collects what the official client receives until there are as many, and half a second more. */
const sendAndReceive = async (
  topic: string,
  expected: number,
  send: () => Promise<unknown>,
  pollers = 2,
): Promise<MessageView[]> => {
  const received: MessageView[] = [];
  const onMessage = (message: MessageView) => void received.push(message);
  const group = uniqueName("witness");
  await admin.createGroup({ name: group });
  const consuming = await consumeAll({ endpoint, topic, group, onMessage, pollers });
  try {
    await send();
    await eventually(`${expected} messages received`, 20_000, () => received.length >= expected);
    await pauseMs(500);
    return received;
  } finally {
    await consuming.stop();
  }
};

const oks = (results: readonly SendResult[]) => results.filter((result) => result.ok).length;
const failureOf = (result: SendResult | undefined) => (result?.ok === false ? result.failure : result);

describe("messages sent to a real RocketMQ", () => {
  it("in a batch of 128 stay 128 separate messages, each with its own id, tag, keys and properties", async () => {
    const topic = await newTopic();
    const messages = Array.from({ length: 128 }, (_, index) =>
      aMessage({
        topic,
        tag: `tag-${index % 3}`,
        keys: [`key-${index}`, "shared"],
        properties: new Map([["index", String(index)]]),
        body: Buffer.from(`body ${index}`),
        attempt: 2,
      }),
    );
    let results: readonly SendResult[] = [];
    const received = await sendAndReceive(topic, 128, async () => {
      results = await sink.send(topic, messages);
    });
    expect(oks(results)).toBe(128);
    expect(received.length).toBe(128);
    for (const [index, message] of messages.entries()) {
      const result = results[index]!;
      const copy = received.find(({ properties }) => properties.get("ESC_ID") === message.id)!;
      expect(copy.messageId).toBe(result.ok && result.brokerMessageId);
      expect(copy.body.toString()).toBe(`body ${index}`);
      expect(copy.tag).toBe(message.tag);
      expect(copy.keys).toEqual(message.keys);
      expect(copy.properties.get("index")).toBe(String(index));
      expect(copy.properties.get("ESC_ATTEMPT")).toBe("2");
      expect(copy.properties.get("ESC_DELIVER_AT")).toBe(String(message.deliverAtMs));
      expect(copy.corrupted).toBeFalsy();
      expect(copy.deliveryTimestamp).toBeUndefined();
    }
  });

  it("keep their bodies byte for byte, from one byte to 4,000,000", async () => {
    const topic = await newTopic();
    const allBytes = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
    const bodies = [Buffer.from([0]), allBytes, Buffer.alloc(4_000_000, allBytes), Buffer.from("grün 世界 🎉")];
    const received = await sendAndReceive(topic, bodies.length, async () => {
      for (const body of bodies) {
        const results = await sink.send(topic, [aMessage({ topic, body })]);
        expect(oks(results)).toBe(1);
      }
    });
    expect(received.length).toBe(bodies.length);
    for (const body of bodies) expect(received.some((copy) => copy.body.equals(body))).toBe(true);
  });

  it("keep properties and tags of any alphabet, and a message without any is fine, too", async () => {
    const topic = await newTopic();
    const full = aMessage({ topic, tag: "标签", keys: ["ключ"], properties: new Map([["цвет", "grün=#0f0\u00a0🎉"]]) });
    const bare = aMessage({ topic });
    const received = await sendAndReceive(topic, 2, () => sink.send(topic, [full, bare]));
    const copyOf = (message: DelayedMessage) => received.find((copy) => copy.properties.get("ESC_ID") === message.id)!;
    expect(copyOf(full).tag).toBe("标签");
    expect(copyOf(full).keys).toEqual(["ключ"]);
    expect(copyOf(full).properties.get("цвет")).toBe("grün=#0f0\u00a0🎉");
    expect(copyOf(bare).tag || undefined).toBeUndefined();
    expect(copyOf(bare).keys).toEqual([]);
    expect(copyOf(bare).properties.size).toBe(3);
  });

  it("of one message group arrive in the order in which they were sent", async () => {
    const topic = await newTopic("FIFO");
    const sent = Array.from({ length: 40 }, (_, index) =>
      aMessage({ topic, messageGroup: `group-${index % 2}`, body: Buffer.from(String(index)) }),
    );
    const send = async () => {
      for (const message of sent) expect(oks(await sink.send(topic, [message]))).toBe(1);
    };
    const received = await sendAndReceive(topic, sent.length, send, 1);
    for (const group of ["group-0", "group-1"]) {
      const expected = sent.filter(({ messageGroup }) => messageGroup === group).map(({ body }) => body.toString());
      const order = received.filter(({ messageGroup }) => messageGroup === group).map(({ body }) => body.toString());
      expect(order).toEqual(expected);
    }
  });

  it("with so many properties that the broker would refuse the batch, go in several", async () => {
    const topic = await newTopic();
    const large = new Map([["large", "p".repeat(12_000)]]);
    const messages = Array.from({ length: 128 }, () =>
      aMessage({ topic, properties: large, body: Buffer.alloc(25_000) }),
    );
    let results: readonly SendResult[] = [];
    const received = await sendAndReceive(topic, 128, async () => {
      results = await sink.send(topic, messages);
    });
    expect(oks(results)).toBe(128);
    expect(new Set(received.map((copy) => copy.properties.get("ESC_ID"))).size).toBe(128);
    expect(received.length).toBe(128);
  });
});

describe("messages that a real RocketMQ refuses", () => {
  it("for a missing topic: not now, but perhaps later", async () => {
    const topic = uniqueName("missing");
    const results = await sink.send(topic, [aMessage({ topic }), aMessage({ topic })]);
    for (const result of results) {
      expect(failureOf(result)).toMatchObject({ class: "transient", code: "topic_route_missing" });
    }
  });

  it.each([
    ["FIFO", undefined],
    ["NORMAL", "group-1"],
    ["TRANSACTION", undefined],
  ] as const)("on a topic of type %s with message group %s: never", async (type, messageGroup) => {
    const topic = await newTopic(type);
    const message = aMessage({ topic, ...(messageGroup === undefined ? {} : { messageGroup }) });
    const [result] = await sink.send(topic, [message]);
    expect(failureOf(result)).toMatchObject({ class: "permanent", code: "topic_type_mismatch" });
  });

  it.each([
    ["body_too_large", { body: Buffer.alloc(4 * 1024 * 1024 + 1, 1) }],
    ["message_too_large", { body: Buffer.alloc(9_000_000, 1) }],
    ["empty_body", { body: Buffer.alloc(0) }],
    ["illegal_tag", { tag: "a|b" }],
    ["illegal_key", { keys: ["a\u0002"] }],
    ["illegal_property", { properties: new Map([["KEYS", "x"]]) }],
    ["illegal_property", { properties: new Map([["x", "a\u0001b"]]) }],
    ["properties_too_large", { properties: new Map([["x", "a".repeat(20_000)]]) }],
    ["properties_too_large", { properties: new Map(Array.from({ length: 130 }, (_, n) => [`p${n}`, "v"])) }],
  ] as const)("for their own fault (%s %#): never", async (expected, over) => {
    const topic = await newTopic();
    const [result] = await sink.send(topic, [aMessage({ topic, ...over })]);
    expect(failureOf(result)).toMatchObject({ class: "permanent", code: expected });
  });

  it("for an illegal topic: never, and the sink works on", async () => {
    const topic = await newTopic();
    for (const illegal of ["two words", "ünïcode", "", "x".repeat(128), "a/b"]) {
      const [result] = await sink.send(illegal, [aMessage({ topic: illegal })]);
      expect(failureOf(result)).toMatchObject({ class: "permanent", code: "illegal_topic" });
    }
    expect(oks(await sink.send(topic, [aMessage({ topic })]))).toBe(1);
  });

  it("in a batch with others: the others are sent, once", async () => {
    const topic = await newTopic();
    const messages = Array.from({ length: 64 }, (_, index) =>
      aMessage({ topic, ...(index === 17 ? { tag: "a|b" } : {}) }),
    );
    let results: readonly SendResult[] = [];
    const received = await sendAndReceive(topic, 63, async () => {
      results = await sink.send(topic, messages);
    });
    expect(failureOf(results[17])).toMatchObject({ class: "permanent", code: "illegal_tag" });
    expect(oks(results)).toBe(63);
    expect(received.length).toBe(63);
    const ids = messages.filter((_, index) => index !== 17).map(({ id }) => id as string);
    expect(new Set(received.map((copy) => copy.properties.get("ESC_ID")))).toEqual(new Set(ids));
  });
});

describe("a connection over TLS", () => {
  // A proxy makes itself a certificate when it has none, and takes TLS and plaintext on the same port.
  const certificateOfProxy = async (): Promise<PeerCertificate> => {
    const [host, port] = endpoint.split(":");
    const socket = connect({ host: host!, port: Number(port), rejectUnauthorized: false, ALPNProtocols: ["h2"] });
    await new Promise((resolve, reject) => socket.once("secureConnect", resolve).once("error", reject));
    const certificate = socket.getPeerCertificate();
    socket.destroy();
    return certificate;
  };

  it("works when the certificate is one that we trust, and only then", async () => {
    const { raw, subject } = await certificateOfProxy();
    const pem = `-----BEGIN CERTIFICATE-----\n${raw.toString("base64")}\n-----END CERTIFICATE-----\n`;
    const serverName = String(subject.CN);
    const trusting = createRocketmqSink({
      endpoint,
      ...parts,
      tls: { rootCertificates: Buffer.from(pem), serverName },
    });
    const strict = createRocketmqSink({ endpoint, ...parts, tls: {}, sendTimeoutMs: 1_000 });
    const topic = await newTopic();
    expect(oks(await trusting.send(topic, [aMessage({ topic })]))).toBe(1);
    const [refused] = await strict.send(topic, [aMessage({ topic })]);
    expect(failureOf(refused)).toMatchObject({ class: "transient", code: "broker_unavailable" });
    await Promise.all([trusting.close(), strict.close()]);
  });
});
