import { randomUUID } from "node:crypto";
import { createInterface } from "node:readline";
import {
  ConsumeResult,
  Endpoints,
  FilterExpression,
  type ILogger,
  type MessageView,
  Producer,
  PublishingMessage,
  PushConsumer,
  SendReceipt,
  SimpleConsumer,
} from "rocketmq-client-nodejs";
import definitions from "rocketmq-client-nodejs/proto/apache/rocketmq/v2/definition_pb.js";
import requests from "rocketmq-client-nodejs/proto/apache/rocketmq/v2/service_pb.js";

/**
 * The official Node client as a driver program (see ../README.md). Where the client needs help to behave as it
 * promises, a comment says which; nothing here speaks the protocol in its place, except for the batch, which it can
 * only send by parts of itself.
 */
type Outgoing = {
  readonly topic: string;
  readonly body: string;
  readonly tag?: string;
  readonly keys?: string[];
  readonly properties?: Record<string, string>;
  readonly messageGroup?: string;
  readonly deliverAtMs?: number;
};
/** Every field that some verb has; which of them are there depends on the verb. */
type Question = Outgoing & {
  readonly n: number;
  readonly do: string;
  readonly name: string;
  readonly producer: string;
  readonly consumer: string;
  readonly group: string;
  readonly topics: string[];
  readonly messages: Outgoing[];
  readonly check?: string;
  readonly resolve: string;
  readonly handle: string;
  readonly filter: string;
  readonly filterType?: string;
  readonly awaitMs: number;
  readonly max: number;
  readonly invisibleMs: number;
  readonly failFirst?: number;
};
type Client = Producer | SimpleConsumer | PushConsumer;

const version = "1.0.8";
const endpoints = process.argv[2] ?? "";
const requestMs = 5_000;
const settingsAgainMs = 200;

/** Without a logger of ours the client writes files; without `debug` its transactions throw. */
const quiet: ILogger = { info: () => {}, warn: () => {}, error: () => {}, debug: () => {} };
const base = { endpoints, namespace: "", requestTimeout: requestMs, logger: quiet };

const producers = new Map<string, Producer>();
const consumers = new Map<string, SimpleConsumer>();
const pushers = new Map<string, PushConsumer>();
const held = new Map<string, { consumer: SimpleConsumer; message: MessageView }>();

const say = (line: object): void => void process.stdout.write(`${JSON.stringify(line)}\n`);

/** A settings answer that comes before all routes are known is lost on the client, which then waits for ever: ask again. */
const started = async <T extends Client>(client: T): Promise<T> => {
  const sessions = client as unknown as { getTelemetrySession(at: Endpoints): { syncSettings(): void } };
  const again = setInterval(() => {
    try {
      sessions.getTelemetrySession(new Endpoints(endpoints)).syncSettings();
    } catch {
      // no session yet: the routes are still being asked for
    }
  }, settingsAgainMs);
  try {
    await client.startup();
    return client;
  } catch (error) {
    await client.shutdown().catch(() => {}); // or its timers keep the process
    throw error;
  } finally {
    clearInterval(again);
  }
};

const messageOptions = ({ topic, body, tag, keys, properties, messageGroup, deliverAtMs }: Outgoing) => ({
  topic,
  body: Buffer.from(body, "base64"),
  ...(tag === undefined ? {} : { tag }),
  ...(keys === undefined ? {} : { keys }),
  ...(properties === undefined ? {} : { properties: new Map(Object.entries(properties)) }),
  ...(messageGroup === undefined ? {} : { messageGroup }),
  ...(deliverAtMs === undefined ? {} : { deliveryTimestamp: new Date(deliverAtMs) }),
});

const shown = (message: MessageView) => ({
  messageId: message.messageId,
  topic: message.topic,
  body: message.body.toString("base64"),
  ...(message.tag ? { tag: message.tag } : {}),
  keys: message.keys,
  properties: Object.fromEntries(message.properties),
  ...(message.messageGroup ? { messageGroup: message.messageGroup } : {}),
  ...(message.deliveryTimestamp ? { deliverAtMs: message.deliveryTimestamp.getTime() } : {}),
  bornAtMs: message.bornTimestamp?.getTime() ?? 0,
  attempt: message.deliveryAttempt ?? 0,
  ...(message.corrupted ? { corrupted: true } : {}),
});

const found = <T>(table: Map<string, T>, name: string): T => {
  const value = table.get(name);
  if (value === undefined) throw new Error(`nothing here is called ${name}`);
  return value;
};

const { COMMIT, ROLLBACK, TRANSACTION_RESOLUTION_UNSPECIFIED } = definitions.TransactionResolution;
const resolutions: Record<string, number> = {
  commit: COMMIT,
  rollback: ROLLBACK,
  unknown: TRANSACTION_RESOLUTION_UNSPECIFIED,
};

const verbs: Record<string, (q: Question) => Promise<object>> = {
  async producer(q) {
    const check = async (message: MessageView) => {
      const { messageId, properties } = message;
      say({ event: "check", producer: q.name, name: q.name, messageId, properties: Object.fromEntries(properties) });
      return resolutions[q.check ?? "unknown"]!;
    };
    const producer = new Producer({ ...base, topics: q.topics, ...(q.check ? { checker: { check } } : {}) });
    producers.set(q.name, await started(producer));
    return {};
  },

  async send(q) {
    const { messageId, recallHandle } = await found(producers, q.producer).send(messageOptions(q));
    return { messageId, ...(recallHandle ? { recallHandle } : {}) };
  },

  /** The client has no batch; the parts it sends one message with do it. */
  async sendBatch(q) {
    const producer = found(producers, q.producer);
    const inside = producer as unknown as {
      getRouteData(topic: string): Promise<{ messageQueues: ConstructorParameters<typeof SendReceipt>[3][] }>;
      rpcClientManager: {
        sendMessage(
          to: unknown,
          request: InstanceType<typeof requests.SendMessageRequest>,
          ms: number,
        ): Promise<InstanceType<typeof requests.SendMessageResponse>>;
      };
    };
    const queue = (await inside.getRouteData(q.topic)).messageQueues[0]!;
    const messages = q.messages.map(
      (one) => new PublishingMessage(messageOptions({ ...one, topic: q.topic }), producer.publishingSettings, false),
    );
    const request = new requests.SendMessageRequest();
    for (const message of messages) request.addMessages(message.toProtobuf("", queue));
    const response = await inside.rpcClientManager.sendMessage(queue.broker.endpoints, request, requestMs);
    const receipts = SendReceipt.processResponseInvocation(queue, response);
    return { messageIds: messages.map(({ messageId }) => messageId), receipts: receipts.map((one) => one.messageId) };
  },

  async sendTransaction(q) {
    const producer = found(producers, q.producer);
    const transaction = producer.beginTransaction();
    const { messageId, transactionId } = await producer.send(messageOptions(q), transaction);
    if (q.resolve === "commit") await transaction.commit();
    if (q.resolve === "rollback") await transaction.rollback();
    return { messageId, transactionId };
  },

  async recall(q) {
    const { messageId } = await found(producers, q.producer).recallMessage(q.topic, q.handle);
    return { messageId };
  },

  async consumer(q) {
    const filter = q.filterType === "sql" ? new FilterExpression(q.filter, definitions.FilterType.SQL) : q.filter;
    const consumer = new SimpleConsumer({
      ...base,
      consumerGroup: q.group,
      subscriptions: new Map([[q.topic, filter]]),
      awaitDuration: q.awaitMs,
    });
    consumers.set(q.name, await started(consumer));
    return {};
  },

  async receive(q) {
    const consumer = found(consumers, q.consumer);
    const messages = await consumer.receive(q.max, q.invisibleMs);
    return {
      messages: messages.map((message) => {
        const handle = randomUUID();
        held.set(handle, { consumer, message });
        return { handle, ...shown(message) };
      }),
    };
  },

  async ack(q) {
    const { consumer, message } = found(held, q.handle);
    await consumer.ack(message);
    return {};
  },

  async changeInvisible(q) {
    const { consumer, message } = found(held, q.handle);
    await consumer.changeInvisibleDuration(message, q.invisibleMs);
    return {};
  },

  async push(q) {
    let failuresLeft = q.failFirst ?? 0;
    const consume = async (message: MessageView) => {
      say({ event: "pushed", name: q.name, message: shown(message) });
      return failuresLeft-- > 0 ? ConsumeResult.FAILURE : ConsumeResult.SUCCESS;
    };
    const pusher = new PushConsumer({
      ...base,
      consumerGroup: q.group,
      subscriptions: new Map([[q.topic, q.filter]]),
      messageListener: { consume },
    });
    pushers.set(q.name, await started(pusher));
    return {};
  },

  async close(q) {
    for (const table of [producers, consumers, pushers] as Map<string, Client>[]) {
      const client = table.get(q.name);
      table.delete(q.name);
      await client?.shutdown();
    }
    return {};
  },
};

/** The client wraps errors in errors, and one of its refusals has the code in its text only. */
const refusal = (error: unknown): { code: number; text: string } => {
  let text = "";
  for (let at = error as (Error & { code?: number }) | undefined; at instanceof Error; at = at.cause as typeof at) {
    text += `${text === "" ? "" : " < "}${at.message}`;
    if (typeof at.code === "number") return { code: at.code >= 10_000 ? at.code : -at.code, text };
  }
  const inText = /\(code: (\d{5})\)/.exec(text);
  return { code: inText === null ? 0 : Number(inText[1]), text: text || String(error) };
};

// A stream that is reset just after a shutdown has no listener for its error any more, which would end this process.
process.on("uncaughtException", (error) => process.stderr.write(`uncaught: ${error.stack}\n`));
process.on("unhandledRejection", (error) => process.stderr.write(`unhandled: ${String(error)}\n`));

if (process.argv.includes("--tls")) {
  process.stderr.write("this client verifies certificates and cannot be told not to\n");
  process.exit(2);
}

const lines = createInterface({ input: process.stdin });
lines.on("line", async (line) => {
  const q = JSON.parse(line) as Question;
  const verb = verbs[q.do];
  try {
    if (verb === undefined) throw new Error(`unsupported by this client: ${q.do}`);
    say({ n: q.n, ok: await verb(q) });
  } catch (error) {
    say({ n: q.n, error: refusal(error) });
  }
});
lines.on("close", async () => {
  setTimeout(() => process.exit(0), 6_000).unref();
  const all = [...producers.values(), ...consumers.values(), ...pushers.values()];
  await Promise.allSettled(all.map((client) => client.shutdown()));
  process.exit(0); // a client whose broker is gone would keep the process
});
say({ ready: true, client: `node ${version}` });
