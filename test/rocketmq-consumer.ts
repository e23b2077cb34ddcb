import { type ILogger, type MessageView, SimpleConsumer } from "rocketmq-client-nodejs";
import definitions from "rocketmq-client-nodejs/proto/apache/rocketmq/v2/definition_pb.js";
import requests from "rocketmq-client-nodejs/proto/apache/rocketmq/v2/service_pb.js";
import { surviving } from "./surviving-client.ts";

/**
 * What users of RocketMQ run on the other side: the official client, consuming one topic. An independent witness of
 * what we sent; none of our own protocol code is involved. Messages of one poll are acknowledged in one call, without
 * which the client would be slower than what it witnesses.
 */
export type ConsumeAllOptions = {
  readonly endpoint: string;
  readonly topic: string;
  /** Must exist: RocketMQ 5.5 refuses the settings of an unknown group, and the client waits for them for ever. */
  readonly group: string;
  /** Called once per delivery; when it throws, the message is not acknowledged and comes again. */
  readonly onMessage: (message: MessageView) => void;
  /** Polls in flight. One keeps the order of a FIFO topic. */
  readonly pollers?: number;
  readonly invisibleMs?: number;
};

export type Consuming = {
  /** Ends the open polls (about a second) and the client. */
  stop(): Promise<void>;
};

const pollMs = 1_000;
/** Long enough that poll and request together pass the proxy's check of 5 s. */
const requestMs = 5_000;
const batchMax = 32;

/** Without a logger of ours the client writes into the user's home folder. */
const quiet: ILogger = { info: () => {}, warn: () => {}, error: () => {}, debug: () => {} };

export const consumeAll = async (options: ConsumeAllOptions): Promise<Consuming> => {
  const { endpoint, topic, group, onMessage, pollers = 2, invisibleMs = 30_000 } = options;
  const consumer = new SimpleConsumer({
    endpoints: endpoint,
    namespace: "",
    consumerGroup: group,
    subscriptions: new Map([[topic, "*"]]),
    awaitDuration: pollMs,
    requestTimeout: requestMs,
    logger: quiet,
  });
  await startedInTime(surviving(consumer), group);
  let stopping = false;

  const acknowledge = async (messages: readonly MessageView[]): Promise<void> => {
    const request = new requests.AckMessageRequest();
    request.setGroup(new definitions.Resource().setName(group));
    request.setTopic(new definitions.Resource().setName(topic));
    for (const { messageId, receiptHandle } of messages) {
      request.addEntries().setMessageId(messageId).setReceiptHandle(receiptHandle);
    }
    await consumer.ackMessageViaRpc(messages[0]!.endpoints, request, requestMs);
  };

  const poll = async (): Promise<void> => {
    while (!stopping) {
      try {
        const messages = await consumer.receive(batchMax, invisibleMs);
        const taken = messages.filter((message) => accepted(message, onMessage));
        if (taken.length > 0) await acknowledge(taken);
      } catch {
        // The broker may be away on purpose; the pause keeps a failing poll from spinning.
        await new Promise((resolve) => setTimeout(resolve, 200));
      }
    }
  };

  const polling = Array.from({ length: pollers }, poll);
  return {
    async stop() {
      stopping = true;
      await Promise.all(polling);
      await consumer.shutdown().catch(() => {}); // rejects when the proxy is gone
    },
  };
};

const startMs = 10_000;

const startedInTime = async (consumer: SimpleConsumer, group: string): Promise<void> => {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    const error = new Error(`the official client did not start within ${startMs} ms; does group ${group} exist?`);
    timer = setTimeout(() => reject(error), startMs);
  });
  try {
    await Promise.race([consumer.startup(), late]);
  } finally {
    clearTimeout(timer);
  }
};

const accepted = (message: MessageView, onMessage: (message: MessageView) => void): boolean => {
  try {
    onMessage(message);
    return true;
  } catch {
    return false;
  }
};
