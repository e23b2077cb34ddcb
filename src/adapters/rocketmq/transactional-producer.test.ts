import definitions from "rocketmq-client-nodejs/proto/apache/rocketmq/v2/definition_pb.js";
import requests from "rocketmq-client-nodejs/proto/apache/rocketmq/v2/service_pb.js";
import { describe, expect, it } from "vitest";
import { code, method } from "../../protocol/messaging-service.ts";
import { readStoredMessages } from "../../protocol/stored-message.ts";
import type { HalfCheck, Resolution } from "../../tx/half/half-broker.port.ts";
import type { LocalMessaging } from "./local-session.ts";
import { eventually, parts, pauseMs } from "./testing.ts";
import { createTransactionalProducer } from "./transactional-producer.ts";

// The producer of halves against a proxy made of functions; what it says is read by the classes of the official client.

type Ended = {
  readonly topic: string;
  readonly transactionId: string;
  readonly resolution: number;
  readonly source: number;
};

const aProxy = () => {
  const streams: {
    write: (message: Buffer) => void;
    settings: InstanceType<typeof definitions.Settings> | undefined;
  }[] = [];
  const sent: InstanceType<typeof definitions.Message>[] = [];
  const ended: Ended[] = [];
  const calls: string[] = [];
  let sendAnswer = (): Buffer => {
    const reply = new requests.SendMessageResponse().setStatus(new definitions.Status().setCode(code.ok as never));
    reply
      .addEntries()
      .setStatus(new definitions.Status().setCode(code.ok as never))
      .setTransactionId(`T${sent.length}`)
      .setMessageId("M");
    return Buffer.from(reply.serializeBinary());
  };
  const ok = () => {
    const reply = new requests.HeartbeatResponse().setStatus(new definitions.Status().setCode(code.ok as never));
    return Buffer.from(reply.serializeBinary());
  };
  const local: LocalMessaging = {
    async unary(called, request) {
      calls.push(called);
      if (called === method.sendMessage) {
        sent.push(requests.SendMessageRequest.deserializeBinary(request).getMessagesList()[0]!);
        return sendAnswer();
      }
      if (called === method.endTransaction) {
        const end = requests.EndTransactionRequest.deserializeBinary(request);
        ended.push({
          topic: end.getTopic()!.getName(),
          transactionId: end.getTransactionId(),
          resolution: end.getResolution(),
          source: end.getSource(),
        });
      }
      return ok();
    },
    receive: async () => {},
    telemetry(_caller, write) {
      const stream = { write, settings: undefined as (typeof streams)[number]["settings"] };
      streams.push(stream);
      return {
        onMessage(message) {
          stream.settings = requests.TelemetryCommand.deserializeBinary(message).getSettings()!;
          const reply = new requests.TelemetryCommand().setSettings(stream.settings);
          write(Buffer.from(reply.serializeBinary()));
        },
        onEnd: () => {},
      };
    },
  };
  const ask = (transactionId: string, topic = "orders_tx") => {
    const message = new definitions.Message()
      .setTopic(new definitions.Resource().setName(topic))
      .setBody(Buffer.from("b"));
    message.setSystemProperties(new definitions.SystemProperties().setMessageId(`m-${transactionId}`));
    message.getUserPropertiesMap().set("ESC_TX", transactionId);
    const asked = new requests.RecoverOrphanedTransactionCommand().setMessage(message).setTransactionId(transactionId);
    const command = new requests.TelemetryCommand().setRecoverOrphanedTransactionCommand(asked);
    streams[0]!.write(Buffer.from(command.serializeBinary()));
  };
  return {
    local,
    streams,
    sent,
    ended,
    calls,
    ask,
    answerSend: (answer: () => Buffer) => {
      sendAnswer = answer;
    },
  };
};

const producerAt = (
  local: LocalMessaging,
  check: (check: HalfCheck) => Promise<Resolution | undefined> = async () => undefined,
  over: { checksAtOnceMax?: number; checksWaitingMax?: number } = {},
) => createTransactionalProducer({ ...parts, endpoint: "127.0.0.1:1", local, check, ...over });

const aHalf = {
  topic: "orders_tx",
  tag: "t",
  keys: ["k1"],
  properties: new Map([["ESC_TX", "x"]]),
  body: Buffer.from([0, 255]),
};

describe("the producer of half messages", () => {
  it("names one topic on each stream, as a producer, and no recovery time", async () => {
    const { local, streams } = aProxy();
    const producer = producerAt(local);
    for (const topic of ["orders_tx", "payments_tx", "orders_tx"]) producer.listen(topic);
    for (const topic of ["orders_tx", "payments_tx"]) {
      expect(await producer.registered(topic, 1_000, new AbortController().signal)).toBe(true);
    }
    expect(
      streams.map(({ settings }) =>
        settings!
          .getPublishing()!
          .getTopicsList()
          .map((one) => one.getName()),
      ),
    ).toEqual([["orders_tx"], ["payments_tx"]]);
    expect(streams[0]!.settings!.getClientType()).toBe(definitions.ClientType.PRODUCER);
    await producer.close();
  });

  it("sends a half as a transactional message, and ends it once", async () => {
    const { local, sent, ended } = aProxy();
    const producer = producerAt(local);
    const result = await producer.send(aHalf);
    const message = sent[0]!;
    const system = message.getSystemProperties()!;
    expect(system.getMessageType()).toBe(definitions.MessageType.TRANSACTION);
    expect(system.hasOrphanedTransactionRecoveryDuration()).toBe(false);
    expect([system.getTag(), system.getKeysList(), message.getUserPropertiesMap().get("ESC_TX")]).toEqual([
      "t",
      ["k1"],
      "x",
    ]);
    expect(Buffer.from(message.getBody_asU8())).toEqual(aHalf.body);
    if (!result.ok) throw new Error(result.failure.detail);
    expect(result.half).toMatchObject({ topic: "orders_tx", transactionId: "T1", messageId: system.getMessageId() });
    expect(await producer.end(result.half, "commit")).toEqual({ ok: true });
    expect(ended).toEqual([{ topic: "orders_tx", transactionId: "T1", resolution: 1, source: 1 }]);
    await producer.close();
  });

  it("tries a half once, and says what is wrong", async () => {
    const { local, answerSend, calls } = aProxy();
    const producer = producerAt(local);
    const refusal = new requests.SendMessageResponse().setStatus(
      new definitions.Status().setCode(code.messagePropertyConflictWithType as never).setMessage("is NORMAL"),
    );
    answerSend(() => Buffer.from(refusal.serializeBinary()));
    expect(await producer.send(aHalf)).toMatchObject({
      ok: false,
      failure: { class: "permanent", code: "topic_type_mismatch" },
    });
    expect(calls.filter((called) => called === method.sendMessage)).toHaveLength(1);
    await producer.close();
    expect(await producer.send(aHalf)).toMatchObject({ ok: false, failure: { code: "producer_closed" } });
  });

  it("answers a check as it is told, as a check, and says nothing when it is not known", async () => {
    const { local, ended, ask } = aProxy();
    const answers: Record<string, Resolution | undefined> = { a: "commit", b: "rollback", c: undefined };
    const seen: string[] = [];
    const producer = producerAt(local, async ({ properties, messageId }) => {
      seen.push(messageId);
      return answers[properties.get("ESC_TX")!];
    });
    producer.listen("orders_tx");
    await producer.registered("orders_tx", 1_000, new AbortController().signal);
    for (const transactionId of ["a", "b", "c"]) ask(transactionId);
    await eventually("all checks are answered", 1_000, () => ended.length === 2 && seen.length === 3);
    expect(ended.map(({ transactionId, resolution, source }) => [transactionId, resolution, source])).toEqual([
      ["a", 1, 2],
      ["b", 2, 2],
    ]);
    await producer.close();
  });

  it("answers few at a time, each once while it is being answered, and drops what it cannot hold", async () => {
    const { local, ended, ask } = aProxy();
    const waiting: (() => void)[] = [];
    const producer = producerAt(local, () => new Promise((resolve) => waiting.push(() => resolve("commit"))), {
      checksAtOnceMax: 2,
      checksWaitingMax: 3,
    });
    producer.listen("orders_tx");
    await producer.registered("orders_tx", 1_000, new AbortController().signal);
    for (const transactionId of ["a", "a", "b", "c", "d", "e", "f"]) ask(transactionId);
    await pauseMs(20);
    expect(waiting).toHaveLength(2);
    while (waiting.length > 0) {
      for (const answer of waiting.splice(0)) answer();
      await pauseMs(10);
    }
    // a and b at once, c to e waiting, f not: the broker asks again.
    expect(ended.map(({ transactionId }) => transactionId).toSorted()).toEqual(["a", "b", "c", "d", "e"]);
    ask("a"); // answered by now: this is another round
    await pauseMs(20);
    expect(waiting).toHaveLength(1);
    waiting[0]!();
    await producer.close();
  });

  it("lives on when a check cannot be answered, or a command cannot be read", async () => {
    const { local, ended, ask, streams } = aProxy();
    let fails = true;
    const producer = producerAt(local, async () => {
      if (fails) throw new Error("no database");
      return "rollback";
    });
    producer.listen("orders_tx");
    await producer.registered("orders_tx", 1_000, new AbortController().signal);
    streams[0]!.write(Buffer.from(new requests.TelemetryCommand().serializeBinary()));
    ask("a");
    await pauseMs(10);
    fails = false;
    ask("a");
    await eventually("the second one is answered", 1_000, () => ended.length === 1);
    await producer.close();
  });
});

describe("messages as a broker stores them", () => {
  it("are read with the offset id by which they are resumed", () => {
    const text = (value: string) => Buffer.from(value, "latin1");
    const properties = text("REAL_TOPIC\u0001orders\u0002UNIQ_KEY\u0001M1\u0002empty\u0001\u0002");
    const topic = text("TRANS_CHECK_MAX_TIME_TOPIC");
    const body = text("hello");
    const fixed = Buffer.alloc(88);
    const size = fixed.length + body.length + 1 + topic.length + 2 + properties.length;
    fixed.writeInt32BE(size, 0);
    fixed.writeInt32BE(-626843481, 4);
    fixed.writeBigInt64BE(7n, 20);
    fixed.writeBigInt64BE(0x1a2bn, 28);
    fixed.writeBigInt64BE(1_800_000_000_000n, 40);
    fixed.writeBigInt64BE(1_800_000_000_500n, 56);
    Buffer.from([127, 0, 0, 1, 0, 0, 0x2a, 0x9f]).copy(fixed, 64);
    fixed.writeInt32BE(body.length, 84);
    const propertyBytes = Buffer.alloc(2);
    propertyBytes.writeInt16BE(properties.length);
    const one = Buffer.concat([fixed, body, Buffer.from([topic.length]), topic, propertyBytes, properties]);
    const read = readStoredMessages(Buffer.concat([one, one]));
    expect(read).toHaveLength(2);
    expect(read[1]).toEqual({
      topic: "TRANS_CHECK_MAX_TIME_TOPIC",
      queueOffset: 7,
      offsetId: "7F00000100002A9F0000000000001A2B",
      bornAtMs: 1_800_000_000_000,
      storedAtMs: 1_800_000_000_500,
      bodyBytes: 5,
      properties: new Map([
        ["REAL_TOPIC", "orders"],
        ["UNIQ_KEY", "M1"],
        ["empty", ""],
      ]),
    });
    fixed.writeInt32BE(-626_843_477, 4); // the topic's length in two bytes
    fixed.writeInt32BE(size + 1, 0);
    const wide = Buffer.concat([fixed, body, Buffer.from([0, topic.length]), topic, propertyBytes, properties]);
    expect(readStoredMessages(wide)[0]!.properties.get("REAL_TOPIC")).toBe("orders");
    for (const cut of [1, 40, one.length - 1])
      expect(() => readStoredMessages(one.subarray(0, cut))).toThrow(RangeError);
  });
});
