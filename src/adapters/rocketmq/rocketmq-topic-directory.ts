import type { TopicDirectory, TopicLookup } from "../../ingest/topic-directory.port.ts";
import { topicPattern } from "../../message/message.ts";
import { code, method } from "../../protocol/messaging-service.ts";
import { decodeRoute, encodeQueryRoute, type Route } from "./protocol.ts";
import { createSession, type SessionOptions } from "./session.ts";
import { createTopicCache } from "./topic-cache.ts";

/**
 * Asks the proxy which topics exist and what they take; topic-cache.ts remembers the answers.
 *
 * A topic that is created after somebody asked for it stays missing for 20 to 40 s: the proxy remembers its own miss
 * that long, and nothing we could send makes it look again. So create topics first.
 */
export type RocketmqTopicDirectory = TopicDirectory & { close(): Promise<void> };

export type RocketmqTopicDirectoryOptions = Omit<SessionOptions, "idleMs"> & {
  /** The longest that an answer takes. */
  readonly timeoutMs?: number;
};

/** As in the sink: a connection that something on the way has forgotten would cost a timeout. */
const idleMs = 60_000;

const missing: TopicLookup = { outcome: "missing" };
const unreachable: TopicLookup = { outcome: "unreachable" };

export const createRocketmqTopicDirectory = (options: RocketmqTopicDirectoryOptions): RocketmqTopicDirectory => {
  const { clock, timeoutMs = 1_000 } = options;
  const session = createSession({ ...options, idleMs });
  const cache = createTopicCache(async (topic) => {
    const request = encodeQueryRoute(topic);
    const reply = await session.unary({ method: method.queryRoute, request, timeoutMs, decode: decodeRoute });
    return reply.ok ? lookupOf(reply.value) : unreachable;
  }, clock);
  return {
    // An illegal name, once asked for, costs other clients of the protocol their session; and no broker can have it.
    lookUp: async (topic) => (topicPattern.test(topic) ? cache.lookUp(topic) : missing),
    close: async () => session.close(),
  };
};

const lookupOf = ({ status, types }: Route): TopicLookup => {
  if (status.code === code.topicNotFound || status.code === code.illegalTopic) return missing;
  // A route without a type is one whose broker is just registering.
  if (status.code !== code.ok || types.size === 0) return unreachable;
  return { outcome: "exists", types: [...types] };
};
