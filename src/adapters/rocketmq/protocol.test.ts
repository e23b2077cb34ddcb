import { gzipSync } from "node:zlib";
import definitions from "rocketmq-client-nodejs/proto/apache/rocketmq/v2/definition_pb.js";
import requests from "rocketmq-client-nodejs/proto/apache/rocketmq/v2/service_pb.js";
import { describe, expect, it } from "vitest";
import { code, messageTypeNames, method } from "../../protocol/messaging-service.ts";
import {
  decodeAck,
  decodeChangeInvisible,
  decodeRoute,
  decodeSend,
  decodeStatusOnly,
  decodeTelemetry,
  encodeAck,
  encodeChangeInvisible,
  encodeHeartbeat,
  encodeQueryRoute,
  encodeReceive,
  encodeSettings,
  encodeTermination,
} from "./protocol.ts";
import { decodeReceived } from "./received-message.ts";

// Everything here is compared with the classes generated from RocketMQ's own .proto files.

const subscription = { group: "my-group", topic: "orders" };
const status = (statusCode: number, text = "") =>
  new definitions.Status().setCode(statusCode as never).setMessage(text);
const bytes = (message: { serializeBinary(): Uint8Array }) => Buffer.from(message.serializeBinary());

describe("numbers", () => {
  it("are those of the protocol", () => {
    const theirs = definitions.Code as unknown as Record<string, number>;
    for (const [name, value] of Object.entries(code)) {
      expect(theirs[name.replace(/[A-Z]/g, "_$&").toUpperCase()], name).toBe(value);
    }
    const types = definitions.MessageType as unknown as Record<string, number>;
    for (const [value, name] of messageTypeNames) expect(types[name]).toBe(value);
  });

  it("and the method paths, too", () => {
    for (const [name, path] of Object.entries(method)) {
      expect(path).toBe(`/apache.rocketmq.v2.MessagingService/${name[0]!.toUpperCase()}${name.slice(1)}`);
    }
  });
});

describe("requests", () => {
  it("ask for a route", () => {
    const read = requests.QueryRouteRequest.deserializeBinary(encodeQueryRoute("orders"));
    expect(read.getTopic()!.getName()).toBe("orders");
    expect(read.getEndpoints()!.getAddressesList().length).toBe(1);
  });

  it("introduce a simple consumer", () => {
    const settings = requests.TelemetryCommand.deserializeBinary(encodeSettings([subscription], 5_500)).getSettings()!;
    expect(settings.getClientType()).toBe(definitions.ClientType.SIMPLE_CONSUMER);
    const read = settings.getSubscription()!;
    expect(read.getGroup()!.getName()).toBe("my-group");
    expect(read.getSubscriptionsList()[0]!.getTopic()!.getName()).toBe("orders");
    expect(read.getSubscriptionsList()[0]!.getExpression()!.getExpression()).toBe("*");
    expect(read.getLongPollingTimeout()!.getSeconds()).toBe(5);
    expect(read.getLongPollingTimeout()!.getNanos()).toBe(500_000_000);
  });

  it("introduce one of several topics, each with its tags", () => {
    const subscriptions = [
      { group: "g", topic: "a", tag: "x || y" },
      { group: "g", topic: "b" },
    ] as const;
    const read = requests.TelemetryCommand.deserializeBinary(encodeSettings(subscriptions, 5_000)).getSettings()!;
    const entries = read.getSubscription()!.getSubscriptionsList();
    expect(entries.map((one) => [one.getTopic()!.getName(), one.getExpression()!.getExpression()])).toEqual([
      ["a", "x || y"],
      ["b", "*"],
    ]);
    const receive = encodeReceive(subscriptions[0], { batchMax: 1, invisibleMs: 10_000, pollMs: 5_000 });
    const asked = requests.ReceiveMessageRequest.deserializeBinary(receive);
    expect(asked.getFilterExpression()!.getExpression()).toBe("x || y");
  });

  it("make a message invisible for another time", () => {
    const read = requests.ChangeInvisibleDurationRequest.deserializeBinary(
      encodeChangeInvisible(subscription, { messageId: "A", handle: "h" }, 90_250),
    );
    expect(read.getGroup()!.getName()).toBe("my-group");
    expect(read.getTopic()!.getName()).toBe("orders");
    expect([read.getReceiptHandle(), read.getMessageId()]).toEqual(["h", "A"]);
    expect(read.getInvisibleDuration()!.getSeconds()).toBe(90);
    expect(read.getInvisibleDuration()!.getNanos()).toBe(250_000_000);
    const reply = new requests.ChangeInvisibleDurationResponse().setStatus(status(20000)).setReceiptHandle("next");
    expect(decodeChangeInvisible(bytes(reply))).toEqual({ status: { code: 20000, text: "" }, handle: "next" });
  });

  it("keep it alive and say goodbye", () => {
    const heartbeat = requests.HeartbeatRequest.deserializeBinary(encodeHeartbeat("my-group"));
    expect(heartbeat.getGroup()!.getName()).toBe("my-group");
    expect(heartbeat.getClientType()).toBe(definitions.ClientType.SIMPLE_CONSUMER);
    const goodbye = requests.NotifyClientTerminationRequest.deserializeBinary(encodeTermination("my-group"));
    expect(goodbye.getGroup()!.getName()).toBe("my-group");
  });

  it("receive", () => {
    const read = requests.ReceiveMessageRequest.deserializeBinary(
      encodeReceive(subscription, { batchMax: 32, invisibleMs: 30_250, pollMs: 5_000 }),
    );
    expect(read.getGroup()!.getName()).toBe("my-group");
    expect(read.getMessageQueue()!.getTopic()!.getName()).toBe("orders");
    expect(read.getFilterExpression()!.getType()).toBe(definitions.FilterType.TAG);
    expect(read.getBatchSize()).toBe(32);
    expect(read.getAutoRenew()).toBe(false);
    expect(read.getInvisibleDuration()!.getSeconds()).toBe(30);
    expect(read.getInvisibleDuration()!.getNanos()).toBe(250_000_000);
    expect(read.getLongPollingTimeout()!.getSeconds()).toBe(5);
  });

  it("acknowledge many at once", () => {
    const receipts = [
      { messageId: "A", handle: "h1" },
      { messageId: "B", handle: "h2".repeat(100) },
    ];
    const read = requests.AckMessageRequest.deserializeBinary(encodeAck(subscription, receipts));
    expect(read.getGroup()!.getName()).toBe("my-group");
    expect(read.getTopic()!.getName()).toBe("orders");
    const entries = read.getEntriesList().map((e) => ({ messageId: e.getMessageId(), handle: e.getReceiptHandle() }));
    expect(entries).toEqual(receipts);
  });
});

describe("replies", () => {
  it("to a route question give the union of what the queues take", () => {
    const reply = new requests.QueryRouteResponse().setStatus(status(20000));
    reply.addMessageQueues().setAcceptMessageTypesList([1, 2]);
    reply.addMessageQueues().setAcceptMessageTypesList([2, 0, 4]);
    const route = decodeRoute(bytes(reply));
    expect(route.status.code).toBe(20000);
    expect([...route.types]).toEqual(["NORMAL", "FIFO", "TRANSACTION"]);
  });

  it("to a send give the status of the call and of each entry", () => {
    const reply = new requests.SendMessageResponse().setStatus(status(30000, "mixed"));
    reply.addEntries().setStatus(status(20000)).setMessageId("A");
    reply.addEntries().setStatus(status(41301, "too big")).setOffset(7);
    expect(decodeSend(bytes(reply))).toEqual({
      status: { code: 30000, text: "mixed" },
      entries: [
        { code: 20000, text: "" },
        { code: 41301, text: "too big" },
      ],
    });
  });

  it("to an acknowledgement give the entries that failed", () => {
    const reply = new requests.AckMessageResponse().setStatus(status(30000));
    reply.addEntries().setMessageId("A").setStatus(status(20000));
    reply.addEntries().setMessageId("B").setReceiptHandle("h").setStatus(status(40013, "expired"));
    expect(decodeAck(bytes(reply))).toEqual({
      status: { code: 30000, text: "" },
      failed: [{ messageId: "B", status: { code: 40013, text: "expired" } }],
    });
  });

  it("on the telemetry stream are settings or something else", () => {
    const settings = new requests.TelemetryCommand().setStatus(status(20000)).setSettings(new definitions.Settings());
    expect(decodeTelemetry(bytes(settings))).toEqual({ status: { code: 20000, text: "" }, settings: true });
    expect(decodeTelemetry(bytes(new requests.TelemetryCommand().setStatus(status(40002, "bad"))))).toEqual({
      status: { code: 40002, text: "bad" },
      settings: false,
    });
  });

  it("that hold a status only", () => {
    expect(decodeStatusOnly(bytes(new requests.HeartbeatResponse().setStatus(status(40015, "who?"))))).toEqual({
      code: 40015,
      text: "who?",
    });
  });
});

describe("a received part", () => {
  it("is a message with everything that its sender gave it", () => {
    const system = new definitions.SystemProperties()
      .setMessageId("01AB")
      .setTag("tag-1")
      .setKeysList(["k1", "k2"])
      .setBornHost("sender")
      .setReceiptHandle("handle")
      .setDeliveryAttempt(2)
      .setMessageGroup("g")
      .setQueueId(3)
      .setQueueOffset(12)
      .setBodyEncoding(definitions.Encoding.IDENTITY);
    const message = new definitions.Message()
      .setTopic(new definitions.Resource().setName("orders"))
      .setSystemProperties(system)
      .setBody(Uint8Array.of(0, 255));
    message.getUserPropertiesMap().set("colour", "grün").set("empty", "");
    const part = decodeReceived(bytes(new requests.ReceiveMessageResponse().setMessage(message)));
    expect(part).toEqual({
      kind: "message",
      message: {
        brokerMessageId: "01AB",
        bornHost: "sender",
        bornAtMs: 0,
        topic: "orders",
        tag: "tag-1",
        keys: ["k1", "k2"],
        properties: new Map([
          ["colour", "grün"],
          ["empty", ""],
        ]),
        messageGroup: "g",
        queueId: 3,
        body: Buffer.from([0, 255]),
        deliveryAttempt: 2,
        receipt: { messageId: "01AB", handle: "handle" },
      },
    });
  });

  it("is unpacked when its sender packed it, unless it is a bomb or a lie", () => {
    const received = (packed: Buffer) => {
      const system = new definitions.SystemProperties().setBodyEncoding(definitions.Encoding.GZIP);
      const message = new definitions.Message().setSystemProperties(system).setBody(packed);
      const part = decodeReceived(bytes(new requests.ReceiveMessageResponse().setMessage(message)));
      return part.kind === "message" ? part.message.body : undefined;
    };
    expect(received(gzipSync("hello"))!.toString()).toBe("hello");
    const bomb = gzipSync(Buffer.alloc(20_000_000));
    expect(received(bomb)!.equals(bomb)).toBe(true);
    expect(received(Buffer.from("lie"))!.toString()).toBe("lie");
  });

  it("is a status, or something that is passed over", () => {
    const found = decodeReceived(bytes(new requests.ReceiveMessageResponse().setStatus(status(40401, "none"))));
    expect(found).toEqual({ kind: "status", status: { code: 40401, text: "none" } });
    expect(decodeReceived(Buffer.alloc(0))).toEqual({ kind: "other" });
  });
});
