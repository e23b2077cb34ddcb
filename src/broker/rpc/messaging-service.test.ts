import fc from "fast-check";
import definitions from "rocketmq-client-nodejs/proto/apache/rocketmq/v2/definition_pb.js";
import requests from "rocketmq-client-nodejs/proto/apache/rocketmq/v2/service_pb.js";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { code, method } from "../../protocol/messaging-service.ts";
import { silentLog } from "../../runtime/log.ts";
import { SimulatedTime } from "../delivery/testing/simulated-time.ts";
import { type Caller, MessagingService } from "./messaging-service.ts";
import { createFakeBroker, type FakeBroker } from "./testing/fake-broker.ts";
import { aMessage, bytes, duration, receiveRequest, resource, sendRequest, statusOf } from "./testing/requests.ts";

let time: SimulatedTime;
let broker: FakeBroker;
let service: MessagingService;

beforeEach(() => {
  time = new SimulatedTime();
  broker = createFakeBroker(time, time);
  service = new MessagingService({ broker, clock: time, timers: time, log: silentLog });
});
afterEach(() => service.stop());

const caller = (over: Partial<Caller> = {}): Caller => ({
  clientId: "client-1",
  remoteHost: "10.0.0.9",
  authority: "broker.test:8081",
  local: { host: "127.0.0.1", port: 8081 },
  leftMs: 30_000,
  ...over,
});

const ask = (name: string, request: { serializeBinary(): Uint8Array } | Buffer, from = caller()) =>
  service.unary(name, Buffer.isBuffer(request) ? request : bytes(request), from);

type Message = InstanceType<typeof definitions.Message>;

const receive = async (
  request = receiveRequest(),
  from = caller(),
  signal = new AbortController().signal,
): Promise<{ status: number; messages: Message[] }> => {
  let status = 0;
  const messages: Message[] = [];
  await service.receive(bytes(request), from, signal, (reply) => {
    const read = requests.ReceiveMessageResponse.deserializeBinary(reply);
    if (read.hasStatus()) status = read.getStatus()!.getCode();
    if (read.hasMessage()) messages.push(read.getMessage()!);
  });
  return { status, messages };
};

const withInvisible = (request: ReturnType<typeof receiveRequest>, seconds: number) =>
  request.setInvisibleDuration(duration(seconds));

const ackOf = (...handles: string[]) =>
  new requests.AckMessageRequest()
    .setGroup(resource("billing"))
    .setTopic(resource("orders"))
    .setEntriesList(
      handles.map((handle) => new requests.AckMessageEntry().setMessageId("ID1").setReceiptHandle(handle)),
    );

const handleOf = (message: Message | undefined): string => message!.getSystemProperties()!.getReceiptHandle()!;

const settings = (topics: readonly string[], group?: string) => {
  const command = new requests.TelemetryCommand();
  const said = new definitions.Settings().setClientType(1);
  if (group === undefined) {
    said.setPublishing(new definitions.Publishing().setTopicsList(topics.map(resource)));
  } else {
    const entries = topics.map((topic) => new definitions.SubscriptionEntry().setTopic(resource(topic)));
    said.setSubscription(new definitions.Subscription().setGroup(resource(group)).setSubscriptionsList(entries));
  }
  return bytes(command.setSettings(said));
};

const telemetry = (clientId: string) => {
  const heard: InstanceType<typeof requests.TelemetryCommand>[] = [];
  const side = service.telemetry(caller({ clientId }), (message) => {
    heard.push(requests.TelemetryCommand.deserializeBinary(message));
  });
  return { ...side, heard };
};

describe("a route", () => {
  const route = async (from: Caller) => {
    const request = new requests.QueryRouteRequest().setTopic(resource("orders"));
    request.setEndpoints(
      new definitions.Endpoints()
        .setScheme(1)
        .setAddressesList([new definitions.Address().setHost("10.1.1.1").setPort(9)]),
    );
    const reply = requests.QueryRouteResponse.deserializeBinary(await ask(method.queryRoute, request, from));
    return reply.toObject();
  };

  it("has what all clients insist on", async () => {
    const { status, messageQueuesList } = await route(caller());
    expect(status!.code).toBe(code.ok);
    expect(messageQueuesList[0]).toMatchObject({
      topic: { name: "orders" },
      id: 0,
      permission: 4,
      acceptMessageTypesList: [1, 2, 3, 4],
      broker: { id: 0, endpoints: { scheme: 3, addressesList: [{ host: "broker.test", port: 8081 }] } },
    });
    expect(messageQueuesList[0]!.broker!.name).not.toBe("");
  });

  it("is the address that the client used, however it says it", async () => {
    const addressFor = async (authority: string | undefined) =>
      (await route(caller({ authority }))).messageQueuesList[0]!.broker!.endpoints;
    expect(await addressFor("127.0.0.1:8081")).toMatchObject({ scheme: 1, addressesList: [{ host: "127.0.0.1" }] });
    expect(await addressFor("[::1]:8081")).toMatchObject({ scheme: 2, addressesList: [{ host: "::1", port: 8081 }] });
    expect(await addressFor("IPAuthority")).toMatchObject({ addressesList: [{ host: "10.1.1.1", port: 9 }] });
    expect(await addressFor(undefined)).toMatchObject({ addressesList: [{ host: "10.1.1.1", port: 9 }] });
  });
});

describe("sending, receiving, acknowledging", () => {
  it("answers each message of a batch, and an acknowledgement per handle", async () => {
    const reply = await ask(method.sendMessage, sendRequest(aMessage(), aMessage(), aMessage()));
    const sent = requests.SendMessageResponse.deserializeBinary(reply).toObject();
    expect(sent.status!.code).toBe(code.ok);
    expect(sent.entriesList.map((entry) => [entry.status!.code, entry.messageId, entry.offset])).toEqual([
      [code.ok, "ID1", 0],
      [code.ok, "ID1", 1],
      [code.ok, "ID1", 2],
    ]);
    const { status, messages } = await receive(withInvisible(receiveRequest(), 10));
    expect([status, messages.length]).toEqual([code.ok, 3]);
    const [first, second] = messages.map(handleOf);
    const mixed = requests.AckMessageResponse.deserializeBinary(await ask(method.ackMessage, ackOf(first!, "none")));
    expect(mixed.getStatus()!.getCode()).toBe(code.multipleResults);
    expect(mixed.getEntriesList().map((entry) => entry.getStatus()!.getCode())).toEqual([
      code.ok,
      code.invalidReceiptHandle,
    ]);
    expect(statusOf(await ask(method.ackMessage, ackOf(second!)))).toBe(code.ok);
    expect(statusOf(await ask(method.ackMessage, ackOf("none")))).toBe(code.invalidReceiptHandle);
  });

  it("an empty poll ends with 40401 after its time, and before its caller gives up", async () => {
    const ends = async (leftMs: number) => {
      const begunMs = time.monotonicMs();
      let endedMs = 0;
      const polled = receive(withInvisible(receiveRequest(), 10), caller({ leftMs })).then(({ status }) => {
        endedMs = time.monotonicMs();
        return status;
      });
      await time.pass(25_000);
      expect(await polled).toBe(code.messageNotFound);
      return endedMs - begunMs;
    };
    expect(await ends(23_000)).toBeCloseTo(20_000, -2);
    expect(await ends(3_000)).toBeCloseTo(2_500, -2);
    expect(await ends(100)).toBe(0);
  });

  it("a client that is gone gets nothing, and what was taken for it comes again", async () => {
    const gone = new AbortController();
    const polled = receive(withInvisible(receiveRequest(), 60), caller(), gone.signal);
    await time.pass(10);
    await ask(method.sendMessage, sendRequest(aMessage()));
    gone.abort();
    expect((await time.now(polled)).messages).toEqual([]);
    const again = receive(withInvisible(receiveRequest(), 60), caller({ clientId: "client-2" }));
    expect((await time.now(again)).messages.length).toBe(1);
  });

  it("what the broker gives just as the client leaves goes back at once", async () => {
    await ask(method.sendMessage, sendRequest(aMessage()));
    const gone = new AbortController();
    const { receive: take } = broker;
    broker.receive = async (request, signal) => {
      const taken = await take(request, signal);
      gone.abort();
      return taken;
    };
    expect((await receive(withInvisible(receiveRequest(), 60), caller(), gone.signal)).messages).toEqual([]);
    expect(broker.heldCount("orders")).toEqual({ visible: 1, out: 0 });
  });

  it("a goodbye ends the client's long polls, and nobody else's", async () => {
    const mine = receive(withInvisible(receiveRequest(), 10));
    let otherEnded = false;
    const other = receive(withInvisible(receiveRequest(), 10), caller({ clientId: "client-2" }));
    void other.then(() => {
      otherEnded = true;
    });
    await time.pass(100);
    await ask(method.notifyClientTermination, new requests.NotifyClientTerminationRequest());
    expect((await time.now(mine)).status).toBe(code.messageNotFound);
    expect(otherEnded).toBe(false);
    await time.pass(20_000);
    await other;
  });

  it("messages of a push consumer stay away for as long as it lives, under the handle that it knows", async () => {
    await ask(method.sendMessage, sendRequest(aMessage()));
    const push = receiveRequest().setAutoRenew(true);
    const { messages } = await receive(push);
    for (let i = 0; i < 60; i++) {
      await ask(method.heartbeat, new requests.HeartbeatRequest());
      await time.pass(10_000);
    }
    expect(broker.heldCount("orders")).toEqual({ visible: 0, out: 1 });
    expect(statusOf(await ask(method.ackMessage, ackOf(handleOf(messages[0]))))).toBe(code.ok);
    expect(broker.heldCount("orders")).toEqual({ visible: 0, out: 0 });
  });

  it("and come again a while after it has died", async () => {
    await ask(method.sendMessage, sendRequest(aMessage()));
    await receive(receiveRequest().setAutoRenew(true));
    await time.pass(300_000);
    expect(broker.heldCount("orders")).toEqual({ visible: 1, out: 0 });
  });

  it("refuses what is not supported, and says what is wrong", async () => {
    const sql = withInvisible(receiveRequest("orders", "billing", "a > 1", 2), 10);
    expect((await receive(sql)).status).toBe(code.unsupported);
    expect((await receive(receiveRequest())).status).toBe(code.illegalInvisibleTime);
    for (const name of [method.pullMessage, method.updateOffset, method.getOffset, method.queryOffset]) {
      expect(statusOf(await ask(name, Buffer.alloc(0)))).toBe(code.unsupported);
    }
    expect(statusOf(await ask(method.syncLiteSubscription, Buffer.alloc(0)))).toBe(code.unsupported);
    expect(statusOf(await ask(method.endTransaction, Buffer.alloc(0)))).toBe(code.invalidTransactionId);
    expect(statusOf(await ask(method.queryRoute, new requests.QueryRouteRequest().setTopic(resource("a b"))))).toBe(
      code.illegalTopic,
    );
  });
});

describe("a client", () => {
  it("without an id, or with an absurd one, is refused", async () => {
    for (const clientId of [undefined, "", "x".repeat(5_000)]) {
      const from = caller({ clientId });
      expect(statusOf(await ask(method.sendMessage, sendRequest(aMessage()), from))).toBe(code.clientIdRequired);
      expect((await receive(withInvisible(receiveRequest(), 10), from)).status).toBe(code.clientIdRequired);
    }
    const { heard, onMessage } = telemetry("");
    onMessage(settings(["orders"]));
    expect(heard[0]!.getStatus()!.getCode()).toBe(code.clientIdRequired);
  });

  it("is answered with its own settings and the broker's rules", async () => {
    await broker.createGroup({ name: "ordered", attemptsMax: 5, orderly: true });
    const producer = telemetry("p");
    producer.onMessage(settings(["orders"]));
    expect(producer.heard[0]!.toObject()).toMatchObject({
      status: { code: code.ok },
      settings: {
        clientType: 1,
        backoffPolicy: { maxAttempts: 3, exponentialBackoff: { multiplier: 2 } },
        publishing: { topicsList: [{ name: "orders" }], maxBodySize: 4_194_304, validateMessageType: true },
        metric: { on: false },
      },
    });
    const consumer = telemetry("c");
    consumer.onMessage(settings(["orders"], "ordered"));
    expect(consumer.heard[0]!.toObject().settings).toMatchObject({
      backoffPolicy: { maxAttempts: 5, exponentialBackoff: { initial: { seconds: 5 } } },
      subscription: {
        group: { name: "ordered" },
        fifo: true,
        receiveBatchSize: 32,
        longPollingTimeout: { seconds: 20 },
        subscriptionsList: [{ topic: { name: "orders" } }],
      },
    });
  });

  it("with several topics gets its settings once more, for Node loses the first ones", async () => {
    const one = telemetry("one");
    one.onMessage(settings(["a"]));
    const two = telemetry("two");
    two.onMessage(settings(["a", "b"]));
    await time.pass(1_000);
    expect([one.heard.length, two.heard.length]).toEqual([1, 2]);
  });

  it("whose settings are not known is told so by its heartbeat", async () => {
    const heartbeat = () => ask(method.heartbeat, new requests.HeartbeatRequest());
    expect(statusOf(await heartbeat())).toBe(code.unrecognizedClientType);
    telemetry("client-1").onMessage(settings(["orders"]));
    expect(statusOf(await heartbeat())).toBe(code.ok);
  });

  it("is asked about a transaction if it produces to that topic, is alive and connected; each in turn", async () => {
    const half = aMessage();
    half.getSystemProperties()!.setMessageType(4);
    await ask(method.sendMessage, sendRequest(half));
    expect(broker.checkNow()).toBe(0);
    const [first, second, other, left, silent] = ["first", "second", "other", "left", "silent"].map(telemetry);
    for (const producer of [first, second, left, silent]) producer!.onMessage(settings(["orders"]));
    other!.onMessage(settings(["bills"]));
    left!.onEnd();
    for (let i = 0; i < 30; i++) {
      await time.pass(10_000);
      for (const clientId of ["first", "second", "other", "left"]) {
        await ask(method.heartbeat, new requests.HeartbeatRequest(), caller({ clientId }));
      }
    }
    for (let i = 0; i < 4; i++) expect(broker.checkNow()).toBe(1);
    const asked = [first, second, other, left, silent].map(
      (producer) => producer!.heard.filter((command) => command.hasRecoverOrphanedTransactionCommand()).length,
    );
    expect(asked).toEqual([2, 2, 0, 0, 0]);
  });
});

describe("hostile requests", () => {
  it("are answered with a status, whatever the bytes and the method", async () => {
    const status = async (name: string, request: Buffer): Promise<number> => {
      if (name !== method.receiveMessage) return statusOf(await ask(name, request));
      let found = 0;
      await service.receive(request, caller({ leftMs: 0 }), new AbortController().signal, (reply) => {
        if (found === 0) found = statusOf(reply);
      });
      return found;
    };
    const names = Object.values(method).filter((name) => name !== method.telemetry);
    const whole = [sendRequest(aMessage()), bytes(receiveRequest()), bytes(ackOf("h"))];
    const damaged = fc.tuple(fc.constantFrom(...whole), fc.nat(), fc.nat(255)).map(([request, at, value]) => {
      const copy = Buffer.from(request);
      copy[at % copy.length] = value;
      return copy;
    });
    const anything = fc.uint8Array({ maxLength: 60 }).map((array) => Buffer.from(array));
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...names), fc.oneof(anything, damaged), async (name, request) => {
        const found = await status(name, request);
        expect(found).toBeGreaterThanOrEqual(20_000);
        expect(found).not.toBe(code.internalError);
      }),
      { numRuns: 500 },
    );
  });

  it("on a telemetry stream throw nothing but a RangeError", () => {
    const { onMessage } = telemetry("hostile");
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), (array) => {
        try {
          onMessage(Buffer.concat([Buffer.from([0x12, array.length]), array]));
        } catch (error) {
          expect(error).toBeInstanceOf(RangeError);
        }
      }),
      { numRuns: 500 },
    );
  });

  it("of huge lengths and deep nesting end at once", async () => {
    const huge = Buffer.from("0affffffffffffffff7f", "hex");
    expect(statusOf(await ask(method.sendMessage, huge))).toBe(code.badRequest);
    let nested = Buffer.alloc(0);
    for (let i = 0; i < 2_000; i++) {
      nested = Buffer.concat([Buffer.from([0x0a, (nested.length & 0x7f) | 0x80, nested.length >> 7]), nested]);
    }
    expect(statusOf(await ask(method.queryRoute, nested))).toBeGreaterThanOrEqual(40_000);
  });
});
