import { connect } from "node:net";
import { topicPattern } from "../../message/message.ts";
import {
  decodeRemoting,
  encodeRemoting,
  type RemotingReply,
  type RemotingRequest,
  requestCode,
} from "../../protocol/remoting-frame.ts";
import type { Timers } from "../../runtime/timers.ts";

/**
 * Creates, lists and deletes topics and consumer groups at one broker. The gRPC protocol cannot do that, so this speaks the older
 * remoting protocol to the broker's own port (10911 by default), with one connection per question: these are rare.
 *
 * A cluster has several brokers and each keeps its own topics: ask every one of them.
 */
export type RemotingAdmin = {
  /** Creates the topic, or changes its queues; an existing topic keeps its messages. Refuses to change the type. */
  createTopic(topic: NewTopic): Promise<void>;
  /** Creates the group, or sets what is given of an existing one and leaves the rest of its settings alone. */
  createGroup(group: NewGroup): Promise<void>;
  /** Undefined when the broker does not have it. */
  topic(name: string): Promise<TopicConfig | undefined>;
  topicExists(name: string): Promise<boolean>;
  /** Those that programs use; with `all` also those that the broker keeps for itself. */
  topics(options?: { readonly all?: boolean }): Promise<TopicConfig[]>;
  /** With all its messages. A broker may say yes for a topic that it does not have. */
  deleteTopic(name: string): Promise<void>;
  /** Undefined when the broker does not have it. A broker with its default settings creates it by being asked. */
  group(name: string): Promise<GroupConfig | undefined>;
  /** Asks for none by name, and so creates none. */
  groups(options?: { readonly all?: boolean }): Promise<GroupConfig[]>;
  /** With how far it has read: one of the same name begins anew. Refuses those that the broker needs itself. */
  deleteGroup(name: string): Promise<void>;
};

/** A broker takes MIXED (all of the others in one topic) only when its `enableMixedMessageType` is set. */
export type TopicType = "NORMAL" | "FIFO" | "DELAY" | "TRANSACTION" | "MIXED";
export type NewTopic = { readonly name: string; readonly type?: TopicType; readonly queues?: number };
export type TopicConfig = { readonly name: string; readonly type: string; readonly queues: number };

export type NewGroup = {
  readonly name: string;
  /** Redeliveries before the broker puts a message into its own dead letter topic, where we would not look. */
  readonly retryMaxTimes?: number;
  /** One message of a message group at a time: the next one comes when the one before was acknowledged. */
  readonly orderly?: boolean;
};

export type GroupConfig = { readonly name: string; readonly retryMaxTimes: number; readonly orderly: boolean };

export type RemotingAdminOptions = {
  /** `host:port` of the broker. */
  readonly broker: string;
  readonly timeoutMs?: number;
  readonly timers: Timers;
};

/** A question the broker answered with "no", or not at all. */
export class RemotingError extends Error {
  override readonly name = "RemotingError";
  /** The broker's response code; undefined when there was no answer. */
  readonly code: number | undefined;

  constructor(message: string, code?: number) {
    super(message);
    this.code = code;
  }
}

const replyCode = { ok: 0, notSupported: 3, topicNotExist: 17, groupNotExist: 26 } as const;

const readAndWrite = 6;
const queuesDefault = 8;
const queuesMax = 1_024; // the broker has no limit of its own, and a slip of a finger should not make a million files
/** The broker gives up on a message after 16 redeliveries by default; whoever owns retries must not be cut off. */
const retryMaxTimesDefault = 10_000;
const groupPattern = /^[%|a-zA-Z0-9_-]{1,120}$/;

/** Each group's copies of messages that come again. */
const retryTopicPrefix = "%RETRY%";
/** Made by every broker at its start, for its own use and for tools. It lists its system topics, but not these. */
const systemGroups: ReadonlySet<string> = new Set([
  "CID_ONS-HTTP-PROXY",
  "CID_ONSAPI_OWNER",
  "CID_ONSAPI_PERMISSION",
  "CID_ONSAPI_PULL",
  "CID_RMQ_SYS_TRANS",
  "FILTERSRV_CONSUMER",
  "SELF_TEST_C_GROUP",
  "TOOLS_CONSUMER",
]);

const isMissing = ({ code }: RemotingReply): boolean =>
  code === replyCode.topicNotExist || code === replyCode.groupNotExist;

export const createRemotingAdmin = ({ broker, timers, timeoutMs = 3_000 }: RemotingAdminOptions): RemotingAdmin => {
  const ask = (request: RemotingRequest) => askBroker(broker, request, timeoutMs, timers);

  const must = async (request: RemotingRequest, what: string): Promise<RemotingReply> => {
    const reply = await ask(request);
    if (reply.code !== replyCode.ok) {
      throw new RemotingError(`the broker at ${broker} refused to ${what}: ${reply.remark || reply.code}`, reply.code);
    }
    return reply;
  };

  const topic = async (name: string): Promise<TopicConfig | undefined> => {
    const reply = await ask({ code: requestCode.topicConfig, fields: { topic: name } });
    if (reply.code === replyCode.ok) return topicConfig(name, readJson(reply.body) as WireTopic);
    if (isMissing(reply)) return undefined;
    throw new RemotingError(`the broker at ${broker} did not say whether topic ${name} exists: ${reply.remark}`);
  };

  const groupSettings = async (name: string): Promise<WireGroup | undefined> => {
    const reply = await ask({ code: requestCode.groupConfig, fields: { group: name } });
    if (reply.code === replyCode.ok) return readJson(reply.body) as WireGroup;
    if (isMissing(reply)) return undefined;
    throw new RemotingError(`the broker at ${broker} did not say whether group ${name} exists: ${reply.remark}`);
  };

  const systemTopics = async (): Promise<ReadonlySet<string>> => {
    const reply = await ask({ code: requestCode.systemTopics });
    // The embedded broker does not show its own at all.
    if (reply.code === replyCode.notSupported) return new Set();
    if (reply.code !== replyCode.ok) {
      throw new RemotingError(`the broker at ${broker} did not name its own topics: ${reply.remark}`, reply.code);
    }
    return new Set((readJson(reply.body) as { topicList?: string[] }).topicList);
  };

  return {
    topic,
    topicExists: async (name) => (await topic(name)) !== undefined,

    async createTopic({ name, type = "NORMAL", queues = queuesDefault }) {
      if (!topicPattern.test(name)) throw new RemotingError(`"${name}" is not a topic name that RocketMQ allows`);
      if (!(Number.isInteger(queues) && queues >= 1 && queues <= queuesMax)) {
        throw new RemotingError(`a topic has 1 to ${queuesMax} queues, not ${queues}`);
      }
      const existing = await topic(name);
      if (existing !== undefined && existing.type !== type) {
        throw new RemotingError(
          `topic ${name} exists with type ${existing.type}; RocketMQ cannot change it to ${type}`,
        );
      }
      const fields = {
        topic: name,
        defaultTopic: "TBW102",
        readQueueNums: String(queues),
        writeQueueNums: String(queues),
        perm: String(readAndWrite),
        topicFilterType: "SINGLE_TAG",
        topicSysFlag: "0",
        order: "false",
        // "+" adds an attribute and is refused for one that is there; an existing one has the right value already.
        ...(existing === undefined ? { attributes: `+message.type=${type}` } : {}),
      };
      await must({ code: requestCode.updateTopic, fields }, `create topic ${name}`);
    },

    async topics({ all = false } = {}) {
      const { body } = await must({ code: requestCode.allTopics }, "list its topics");
      const { topicConfigTable = {} } = readJson(body) as { topicConfigTable?: Record<string, WireTopic> };
      const left = all ? new Set<string>() : await systemTopics();
      return Object.entries(topicConfigTable)
        .filter(([name]) => all || !(left.has(name) || name.startsWith(retryTopicPrefix)))
        .map(([name, topic]) => topicConfig(name, topic));
    },

    async deleteTopic(name) {
      await must({ code: requestCode.deleteTopic, fields: { topic: name } }, `delete topic ${name}`);
    },

    async group(name) {
      const settings = await groupSettings(name);
      return settings && groupConfig(name, settings);
    },

    async groups({ all = false } = {}) {
      const { body } = await must({ code: requestCode.allGroups }, "list its consumer groups");
      const { subscriptionGroupTable = {} } = readJson(body) as { subscriptionGroupTable?: Record<string, WireGroup> };
      return Object.entries(subscriptionGroupTable)
        .filter(([name]) => all || !systemGroups.has(name))
        .map(([name, group]) => groupConfig(name, group));
    },

    async deleteGroup(name) {
      // The real broker would do it.
      if (systemGroups.has(name)) throw new RemotingError(`group ${name} is one of RocketMQ's own; it stays`);
      // Seen at 5.5.0: without cleanOffset it says yes, and the group is there as if nothing had been asked; one that
      // did not exist is there then, too.
      const fields = { groupName: name, cleanOffset: "true" };
      await must({ code: requestCode.deleteGroup, fields }, `delete group ${name}`);
    },

    async createGroup({ name, retryMaxTimes = retryMaxTimesDefault, orderly }) {
      if (!groupPattern.test(name)) throw new RemotingError(`"${name}" is not a group name that RocketMQ allows`);
      const settings = {
        ...newGroupSettings,
        ...(await groupSettings(name)),
        groupName: name,
        retryMaxTimes,
        ...(orderly === undefined ? {} : { consumeMessageOrderly: orderly }),
      };
      const body = Buffer.from(JSON.stringify(settings));
      await must({ code: requestCode.updateGroup, body }, `create group ${name}`);
    },
  };
};

/** The broker's own defaults, for one that does not create groups by itself. */
const newGroupSettings = {
  consumeEnable: true,
  consumeFromMinEnable: true,
  consumeBroadcastEnable: true,
  consumeMessageOrderly: false,
  retryQueueNums: 1,
  brokerId: 0,
  whichBrokerWhenConsumeSlowly: 1,
  notifyConsumerIdsChangedEnable: true,
  groupSysFlag: 0,
  consumeTimeoutMinute: 15,
};

type WireTopic = { readonly writeQueueNums?: number; readonly attributes?: Readonly<Record<string, string>> };
type WireGroup = { readonly retryMaxTimes: number; readonly consumeMessageOrderly?: boolean };

const topicConfig = (name: string, { writeQueueNums, attributes }: WireTopic): TopicConfig => ({
  name,
  queues: writeQueueNums ?? 0,
  type: attributes?.["message.type"] ?? "NORMAL",
});

const groupConfig = (name: string, { retryMaxTimes, consumeMessageOrderly }: WireGroup): GroupConfig => ({
  name,
  retryMaxTimes,
  orderly: consumeMessageOrderly ?? false,
});

/** Brokers write maps with numbers as keys (`{0:"a"}`, as static topics have) without the quotes that JSON wants. */
export const readJson = (body: Buffer): unknown =>
  JSON.parse(
    body
      .toString("utf8")
      .replace(/"[^"\\]*(?:\\.[^"\\]*)*"|(-?\d+)(?=\s*:)/g, (part, key?: string) =>
        key === undefined ? part : `"${key}"`,
      ),
  );

export const askBroker = (
  broker: string,
  request: RemotingRequest,
  timeoutMs: number,
  timers: Timers,
): Promise<RemotingReply> =>
  new Promise((resolve, reject) => {
    const colon = broker.lastIndexOf(":");
    const port = Number(broker.slice(colon + 1));
    const host = broker.slice(0, colon).replace(/^\[(.*)\]$/, "$1");
    if (host === "" || !(port >= 1 && port <= 65_535)) {
      return reject(new RemotingError(`broker must be one host:port such as 127.0.0.1:10911, not "${broker}"`));
    }
    const socket = connect({ host, port });
    let received: Buffer = Buffer.alloc(0);
    const finish = (act: () => void) => {
      timer.cancel();
      socket.destroy();
      act();
    };
    const failWith = (detail: string) => finish(() => reject(new RemotingError(`broker ${broker}: ${detail}`)));
    const timer = timers.after(timeoutMs, () => failWith(`no answer within ${timeoutMs} ms`));
    socket.on("error", (error) => failWith(error.message));
    socket.on("close", () => failWith("closed the connection before it answered"));
    socket.on("data", (part) => {
      received = Buffer.concat([received, part]);
      try {
        const reply = decodeRemoting(received);
        if (reply !== undefined) finish(() => resolve(reply));
      } catch (error) {
        failWith((error as Error).message);
      }
    });
    socket.write(encodeRemoting(request, 1));
  });
