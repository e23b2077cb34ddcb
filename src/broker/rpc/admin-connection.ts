import type { Duplex } from "node:stream";
import {
  decodeRemotingRequest,
  encodeRemotingReply,
  type ReceivedRemoting,
  requestCode,
} from "../../protocol/remoting-frame.ts";
import type { Log } from "../../runtime/log.ts";
import type { Timers } from "../../runtime/timers.ts";
import type { Broker, GroupInfo, TopicInfo, TopicType } from "../broker.port.ts";
import { BrokerError } from "../broker-error.ts";

/**
 * Administration, as RocketMQ's own tools and `escapement topics|groups` ask for it: the remoting protocol, a handful
 * of its request codes. Sending and receiving in that protocol is not offered.
 */
export type AdminParts = { readonly broker: Broker; readonly timers: Timers; readonly log: Log };

const replyCode = { ok: 0, systemError: 1, notSupported: 3, topicNotExist: 17, groupNotExist: 26 } as const;

/** Questions are small; an answer may list ten thousand topics, but nobody sends that. */
const requestBytesMax = 1024 * 1024;
const idleMs = 60_000;
/** Answers that nobody reads. */
const unreadBytesMax = 16 * 1024 * 1024;

type Answer = { readonly code: number; readonly remark?: string; readonly body?: object };

export const serveAdmin = (socket: Duplex, { broker, timers, log }: AdminParts): void => {
  let received: Buffer = Buffer.alloc(0);
  let timer = timers.after(idleMs, () => socket.destroy());
  // One after the other: a question may depend on the one before it.
  let last: Promise<void> = Promise.resolve();

  const answer = async (request: ReceivedRemoting): Promise<void> => {
    const {
      code,
      remark = "",
      body,
    } = await answerTo(broker, request).catch((error: unknown): Answer => {
      if (error instanceof BrokerError) return { code: replyCode.systemError, remark: error.message };
      log.error({ err: error, code: request.code }, "an administrator's request failed");
      return { code: replyCode.systemError, remark: "the broker failed to do this; its log says more" };
    });
    if (request.oneway || socket.destroyed) return;
    if (socket.writableLength > unreadBytesMax) return void socket.destroy();
    const bytes = body === undefined ? undefined : Buffer.from(JSON.stringify(body));
    socket.write(encodeRemotingReply(code, request.opaque, remark, bytes));
  };

  socket.on("data", (part: Buffer) => {
    timer.cancel();
    timer = timers.after(idleMs, () => socket.destroy());
    received = received.length === 0 ? part : Buffer.concat([received, part]);
    try {
      for (let frame = decodeRemotingRequest(received); frame !== undefined; frame = decodeRemotingRequest(received)) {
        const { request, bytes } = frame;
        received = received.subarray(bytes);
        last = last.then(() => answer(request));
      }
      if (received.length > requestBytesMax) socket.destroy();
      // No more questions before these are answered.
      socket.pause();
      void last.then(() => socket.resume());
    } catch {
      socket.destroy(); // not this protocol after all
    }
  });
  socket.on("end", () => void last.then(() => socket.end()));
  socket.on("close", () => timer.cancel());
};

const answerTo = async (broker: Broker, { code, fields, body }: ReceivedRemoting): Promise<Answer> => {
  switch (code) {
    case requestCode.updateTopic:
      await broker.createTopic(readTopic(broker, fields));
      return { code: replyCode.ok };
    case requestCode.deleteTopic:
      await broker.deleteTopic(text(fields.topic));
      return { code: replyCode.ok };
    case requestCode.topicConfig: {
      const topic = topicOf(broker, text(fields.topic));
      return topic === undefined
        ? { code: replyCode.topicNotExist, remark: "the topic does not exist" }
        : { code: replyCode.ok, body: topicConfig(topic) };
    }
    case requestCode.allTopics: {
      const topicConfigTable = Object.fromEntries(broker.topics().map((topic) => [topic.name, topicConfig(topic)]));
      return { code: replyCode.ok, body: { topicConfigTable } };
    }
    case requestCode.updateGroup:
      await broker.createGroup(readGroup(body));
      return { code: replyCode.ok };
    case requestCode.deleteGroup:
      await broker.deleteGroup(text(fields.groupName));
      return { code: replyCode.ok };
    case requestCode.groupConfig: {
      const name = text(fields.group);
      const group = broker.groups().find((one) => one.name === name);
      return group === undefined
        ? { code: replyCode.groupNotExist, remark: "the consumer group does not exist" }
        : { code: replyCode.ok, body: groupConfig(group) };
    }
    case requestCode.allGroups: {
      const subscriptionGroupTable = Object.fromEntries(
        broker.groups().map((group) => [group.name, groupConfig(group)]),
      );
      return { code: replyCode.ok, body: { subscriptionGroupTable } };
    }
    default:
      return { code: replyCode.notSupported, remark: `request code ${code} is not supported by this broker` };
  }
};

const text = (value: unknown): string => (typeof value === "string" ? value : "");

const topicOf = (broker: Broker, name: string): TopicInfo | undefined =>
  broker.topics().find((topic) => topic.name === name);

const typeAttribute = "message.type";
const topicTypes: readonly string[] = ["NORMAL", "FIFO", "DELAY", "TRANSACTION", "MIXED"] satisfies TopicType[];

/** Attributes are written `+name=value`, with commas between them; a topic that exists keeps its type without one. */
const readTopic = (broker: Broker, fields: ReceivedRemoting["fields"]): TopicInfo => {
  const name = text(fields.topic);
  const known = topicOf(broker, name);
  const attribute = text(fields.attributes)
    .split(",")
    .find((one) => one.trim().replace(/^\+/, "").startsWith(`${typeAttribute}=`));
  const type = attribute?.split("=")[1]?.trim() ?? known?.type ?? "NORMAL";
  if (!topicTypes.includes(type)) throw refused(`a topic's type is one of ${topicTypes.join(", ")}, not ${type}`);
  if (known !== undefined && known.type !== type) {
    throw refused(`the topic exists with type ${known.type}, which cannot be changed to ${type}`);
  }
  return { name, type: type as TopicType, queues: Number(text(fields.writeQueueNums) || text(fields.readQueueNums)) };
};

const readGroup = (body: Buffer): GroupInfo => {
  let read: { groupName?: unknown; retryMaxTimes?: unknown; consumeMessageOrderly?: unknown };
  try {
    read = JSON.parse(body.toString("utf8"));
  } catch {
    throw refused("the body must be the group's settings as JSON");
  }
  const { groupName, retryMaxTimes = retriesDefault, consumeMessageOrderly } = read ?? {};
  if (!Number.isInteger(retryMaxTimes)) throw refused("retryMaxTimes must be a whole number");
  return {
    name: text(groupName),
    attemptsMax: (retryMaxTimes as number) + 1,
    orderly: consumeMessageOrderly === true,
  };
};

const retriesDefault = 16;

const refused = (message: string): BrokerError => new BrokerError(replyCode.systemError, message);

const readWrite = 6;

const topicConfig = ({ name, type, queues }: TopicInfo) => ({
  topicName: name,
  readQueueNums: queues,
  writeQueueNums: queues,
  perm: readWrite,
  order: false,
  topicFilterType: "SINGLE_TAG",
  topicSysFlag: 0,
  attributes: { [typeAttribute]: type },
});

const groupConfig = ({ name, attemptsMax, orderly }: GroupInfo) => ({
  groupName: name,
  consumeEnable: true,
  consumeMessageOrderly: orderly,
  retryMaxTimes: attemptsMax - 1,
});
