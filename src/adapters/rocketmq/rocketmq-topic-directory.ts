import type { TopicDirectory, TopicLookup } from "../../ingest/topic-directory.port.ts";
import { topicPattern } from "../../message/message.ts";
import { code, decodeRoute, encodeQueryRoute, method } from "./protocol.ts";
import { createSession, type SessionOptions } from "./session.ts";

/**
 * Asks the proxy which topics exist and what they take, and remembers the answers for a while: every accepted message
 * asks.
 *
 * A topic that is created after somebody asked for it stays missing for 20 to 40 s: the proxy remembers its own miss
 * that long, and nothing we could send makes it look again. So create topics first.
 */
export type RocketmqTopicDirectory = TopicDirectory & { close(): Promise<void> };

export type RocketmqTopicDirectoryOptions = Omit<SessionOptions, "idleMs"> & {
  /** The longest that an answer takes. */
  readonly timeoutMs?: number;
};

/** After this an answer is still given, and asked for again behind the back of whoever got it. */
const freshMs = 30_000;
/** After this it is not given any more. */
const staleMs = 300_000;
const missingMs = 1_000;
/** Names come from requests, so their number must not grow without end. */
const rememberedMax = 10_000;
const idleMs = 60_000;

type Remembered = { readonly lookup: TopicLookup; readonly atMs: number };

const missing: TopicLookup = { outcome: "missing" };
const unreachable: TopicLookup = { outcome: "unreachable" };

export const createRocketmqTopicDirectory = (options: RocketmqTopicDirectoryOptions): RocketmqTopicDirectory => {
  const { clock, timeoutMs = 1_000 } = options;
  const session = createSession({ ...options, idleMs });
  const remembered = new Map<string, Remembered>();
  const asking = new Map<string, Promise<TopicLookup>>();

  const remember = (topic: string, lookup: TopicLookup): void => {
    remembered.delete(topic); // so that the oldest answer stands first
    if (remembered.size >= rememberedMax) remembered.delete(remembered.keys().next().value!);
    remembered.set(topic, { lookup, atMs: clock.monotonicMs() });
  };

  const query = async (topic: string): Promise<TopicLookup> => {
    const reply = await session.unary(method.queryRoute, encodeQueryRoute(topic), timeoutMs);
    return reply.ok ? readRoute(reply.body) : unreachable;
  };

  /** One question at a time for a topic, however many ask. */
  const ask = (topic: string): Promise<TopicLookup> => {
    const present = asking.get(topic);
    if (present !== undefined) return present;
    const asked = query(topic).then((lookup) => {
      asking.delete(topic);
      // While the proxy is away, the last thing it said about an existing topic stays true enough.
      if (lookup.outcome !== "unreachable") remember(topic, lookup);
      return lookup;
    });
    asking.set(topic, asked);
    return asked;
  };

  return {
    async lookUp(topic) {
      if (!topicPattern.test(topic)) return missing;
      const known = remembered.get(topic);
      if (known === undefined) return ask(topic);
      const ageMs = clock.monotonicMs() - known.atMs;
      const exists = known.lookup.outcome === "exists";
      if (ageMs <= (exists ? freshMs : missingMs)) return known.lookup;
      if (!exists || ageMs > staleMs) return ask(topic);
      void ask(topic);
      return known.lookup;
    },
    async close() {
      session.close();
    },
  };
};

const readRoute = (body: Buffer): TopicLookup => {
  let route: ReturnType<typeof decodeRoute>;
  try {
    route = decodeRoute(body);
  } catch {
    return unreachable;
  }
  const { status, types } = route;
  if (status.code === code.topicNotFound || status.code === code.illegalTopic) return missing;
  // A route without a type is one whose broker is just registering.
  if (status.code !== code.ok || types.size === 0) return unreachable;
  return { outcome: "exists", types: [...types] };
};
