import { randomUUID } from "node:crypto";
import { hostname } from "node:os";
import type { RocketmqCredentials } from "./adapters/rocketmq/call-headers.ts";
import { commandsFor } from "./adapters/rocketmq/consumer-groups.ts";
import { type ConsumedTopic, createRocketmqDeliveries } from "./adapters/rocketmq/rocketmq-deliveries.ts";
import { createRocketmqHandOff } from "./adapters/rocketmq/rocketmq-hand-off.ts";
import { createRocketmqTopicDirectory } from "./adapters/rocketmq/rocketmq-topic-directory.ts";
import { grpcTarget, type RocketmqTls } from "./adapters/rocketmq/session.ts";
import { systemRandom } from "./adapters/system/system-random.ts";
import { machineClock, systemTimers } from "./adapters/system/system-time.ts";
import type { Handler, Verifier } from "./consumer/attempt.ts";
import { EscapementConsumerError, invalidOption } from "./consumer/consumer-error.ts";
import type { ConsumerStats } from "./consumer/consumer-stats.ts";
import type { ConsumedMessage } from "./consumer/handler-context.ts";
import type { GivenPolicy } from "./consumer/known-policies.ts";
import { type Order, orders } from "./consumer/order.ts";
import { RetryingConsumer } from "./consumer/retrying-consumer.ts";
import { isEscapementError } from "./message/errors.ts";
import { topicPattern } from "./message/message.ts";
import { parseDuration } from "./message/parse-time.ts";
import { retryTopicOf } from "./message/retry-topic.ts";
import { parsePolicy } from "./retry/parse-policy.ts";
import { presets } from "./retry/presets.ts";
import { uncheckedClock } from "./runtime/clock.ts";
import { createLog, type Log } from "./runtime/log.ts";
import { EscapementApiError, EscapementClientError } from "./sdk/errors.ts";
import { type FetchLike, Transport } from "./sdk/transport.ts";
import type { ConsumerSyncReply } from "./wire/consumer-sync.ts";
import type { ConsumerGroupReply, DurationInput, RetryPolicyInput } from "./wire/http.ts";

export type { Handler, Verifier, VerifyAnswer } from "./consumer/attempt.ts";
export { type ConsumerErrorCode, EscapementConsumerError } from "./consumer/consumer-error.ts";
export type { ConsumerStats } from "./consumer/consumer-stats.ts";
export type { ConsumedMessage, Deadline, HandlerContext, Verdict } from "./consumer/handler-context.ts";
export type { Order } from "./consumer/order.ts";
export {
  ClassifiedError,
  PermanentError,
  ThrottledError,
  TransientError,
  UnknownOutcomeError,
} from "./retry/classified-errors.ts";

/**
 * Starts a consumer that retries: receives a group's messages from RocketMQ 5, runs the handler, and lets a retry
 * policy decide about what it throws.
 *
 *   const consumer = await startConsumer(
 *     { endpoint: "127.0.0.1:8081", group: "billing", topic: "orders" },
 *     async (message, ctx) => { await charge(message.body, { idempotencyKey: message.id, signal: ctx.signal }); },
 *   );
 *   // later
 *   await consumer.stop();
 *
 * A message is acknowledged when the handler has returned, or when what failed is safe at the delay server's ingest
 * topic. So a handler may see a message more than once, under one `message.id`.
 *
 * @throws EscapementConsumerError with a `code`: `invalid_option`, `group_missing`, `broker_unavailable`.
 */
export const startConsumer = async <T = Buffer>(
  options: StartConsumerOptions<T>,
  handler: Handler<T>,
): Promise<RunningConsumer> => {
  const given = checked(options);
  const clock = uncheckedClock(machineClock);
  const { log = createLog({ level: "warn", pretty: false }) } = options;
  const parts = { log, clock, timers: systemTimers };
  const session = {
    ...parts,
    endpoint: options.endpoint,
    ...(options.credentials === undefined ? undefined : { credentials: options.credentials }),
    ...(options.tls === undefined || options.tls === false
      ? undefined
      : { tls: options.tls === true ? {} : options.tls }),
  };
  const transport = given.url === undefined ? undefined : serviceAt(given.url, options.headers ?? {});
  const { retryTopic, ingestTopic } = await readyGroup(options, transport, session);
  const topics = [{ topic: retryTopic }, ...given.topics] as const;
  const deliveries = createRocketmqDeliveries({
    ...session,
    group: options.group,
    topics,
    invisibleMs: given.invisibleMs,
  });
  const handOff = createRocketmqHandOff({ ...session, topic: ingestTopic });
  const giveUp = async (error: Error): Promise<never> => {
    await Promise.all([deliveries.close(), handOff.close()]);
    transport?.close();
    throw error;
  };
  if (!(await deliveries.registered(registrationMaxMs))) return giveUp(notRegistered(options, deliveries.trouble));
  const polls = Math.min(pollsMax, Math.max(1, Math.ceil(given.concurrency / messagesPerPoll)));
  const consumer = new RetryingConsumer<T>({
    ...parts,
    group: options.group,
    retryTopic,
    sources: deliveries.sources.map((source) => {
      const ofRetryTopic = source.topic === retryTopic;
      return { source, ofRetryTopic, polls: ofRetryTopic ? Math.min(polls, 2) : polls };
    }),
    handOff,
    ...(transport === undefined
      ? undefined
      : { service: { sync: (request, signal) => sync(transport, request, signal) } }),
    policy: given.policy,
    handler,
    ...(options.verify === undefined ? undefined : { verify: options.verify }),
    ...(options.decode === undefined ? undefined : { decode: options.decode }),
    ...(options.dependency === undefined ? undefined : { dependency: options.dependency }),
    ...(options.order === undefined ? undefined : { order: options.order }),
    settings: given,
    worker: `${hostname()}@${process.pid}@${randomUUID().slice(0, 8)}`,
    random: systemRandom,
  });
  await consumer.start();
  return {
    stats: () => consumer.stats(),
    async stop() {
      await consumer.stop();
      transport?.close();
    },
  };
};

export type StartConsumerOptions<T> = {
  /** `host:port` of a RocketMQ 5 proxy, or of the embedded broker. */
  readonly endpoint: string;
  /**
   * The Escapement server, for policies by name, breakers shared by all workers, and for making the group ready. Default
   * `http://127.0.0.1:7361`; null for none. The consumer works on while it is away.
   */
  readonly url?: string | null;
  readonly group: string;
  /** One topic or several, as you like each with a tag of its own. */
  readonly topic: string | readonly (string | { readonly topic: string; readonly tag?: string })[];
  /** Only messages with this tag, or one of several: `"a || b"`. */
  readonly tag?: string;
  /**
   * A policy; or the name of a preset or of a policy at the server. Absent: what the server has bound to topic, group
   * and tag, else the preset `default`.
   */
  readonly policy?: string | RetryPolicyInput;
  /** Handlers that run at once, 1 to 10,000. Default 16. */
  readonly concurrency?: number;
  /** For FIFO topics: what becomes of a message group (or queue) whose head failed. */
  readonly order?: Order;
  /** Makes `message.value` of the body; what it throws makes the message dead, without retries. */
  readonly decode?: (body: Buffer, message: ConsumedMessage<Buffer>) => T | Promise<T>;
  /** Finds out whether an attempt with an unknown outcome took effect. */
  readonly verify?: Verifier<T>;
  /** Names what the handler will call for this message; breaker and retry budget are kept for each such name. */
  readonly dependency?: (message: ConsumedMessage<T>) => string | undefined;
  /** A handler that takes longer is told by `ctx.signal`, and its attempt counts as unknown. Default 15 min. */
  readonly handlerTimeout?: DurationInput;
  /** How long a message stays away from others when this process vanishes. Default 30 s, at least 10 s. */
  readonly invisible?: DurationInput;
  /** How long `stop` waits for handlers before it aborts their signals. Default 10 s. */
  readonly stopGrace?: DurationInput;
  readonly credentials?: RocketmqCredentials;
  readonly tls?: boolean | RocketmqTls;
  /** Sent to the Escapement server with every request. */
  readonly headers?: Record<string, string>;
  /** The server's ingest topic, where the server cannot be asked. Default `ESC_INGEST`. */
  readonly ingestTopic?: string;
  /** A pino logger or anything like it. Default: warnings, as JSON lines on stdout. */
  readonly log?: Log;
};

export type RunningConsumer = {
  stats(): ConsumerStats;
  /** Lets handlers end, brings back what is unfinished. Resolves when nothing of it is left in this process. */
  stop(): Promise<void>;
};

const urlDefault = "http://127.0.0.1:7361";
const concurrencyDefault = 16;
const concurrencyMax = 10_000;
/** A poll brings 32 at most; more than eight polls bring a proxy no more. */
const messagesPerPoll = 32;
const pollsMax = 8;
const registrationMaxMs = 5_000;
const prepareTimeoutMs = 10_000;
const syncTimeoutMs = 3_000;
/** `minInvisibleTimeMillsForRecv` of a proxy is 10 s, and it allows 12 h. */
const invisibleMinMs = 10_000;
const invisibleMaxMs = 12 * 3_600_000;

// --- options ----------------------------------------------------------------------------------------------------------

const checked = <T>(options: StartConsumerOptions<T>) => {
  const { endpoint, group, topic, tag, order, url = urlDefault, concurrency = concurrencyDefault } = options;
  try {
    grpcTarget(endpoint);
  } catch {
    throw invalidOption("endpoint", "must be one host:port such as 127.0.0.1:8081");
  }
  if (typeof group !== "string" || !/^[%|a-zA-Z0-9_-]{1,117}$/.test(group)) {
    throw invalidOption("group", "must be 1 to 117 letters, digits and %|_-");
  }
  const named = typeof topic === "string" ? [topic] : topic;
  if (!Array.isArray(named) || named.length === 0) throw invalidOption("topic", "must be a topic or a list of them");
  const topics = named.map((one: string | ConsumedTopic): ConsumedTopic => {
    const each = typeof one === "string" ? { topic: one } : one;
    const ofIts = each.tag ?? tag;
    if (!topicPattern.test(each.topic)) throw invalidOption("topic", "may hold letters, digits and %|_- only");
    return { topic: each.topic, ...(ofIts === undefined ? undefined : { tag: ofIts }) };
  });
  if (!Number.isInteger(concurrency) || concurrency < 1 || concurrency > concurrencyMax) {
    throw invalidOption("concurrency", `must be a whole number from 1 to ${concurrencyMax}`);
  }
  if (order !== undefined && !orders.includes(order))
    throw invalidOption("order", `must be one of ${orders.join(", ")}`);
  return {
    url: url === null ? undefined : url,
    topics,
    concurrency,
    policy: policyOf(options.policy),
    handlerTimeoutMs: duration("handlerTimeout", options.handlerTimeout ?? "15m", 100, invisibleMaxMs),
    invisibleMs: duration("invisible", options.invisible ?? "30s", invisibleMinMs, invisibleMaxMs),
    stopGraceMs: duration("stopGrace", options.stopGrace ?? "10s", 0, invisibleMaxMs),
  };
};

const policyOf = (policy: string | RetryPolicyInput | undefined): GivenPolicy => {
  if (policy === undefined) return { kind: "bound" };
  if (typeof policy === "string") {
    const preset = presets.find(({ name }) => name === policy);
    return preset === undefined
      ? { kind: "named", name: policy }
      : { kind: "inline", policy: preset.policy, name: policy };
  }
  return { kind: "inline", policy: understood("policy", () => parsePolicy(policy)), name: "inline" };
};

const duration = (field: string, value: DurationInput, minMs: number, maxMs: number): number => {
  const ms = understood(field, () => parseDuration(value, field));
  if (ms < minMs || ms > maxMs) throw invalidOption(field, `is ${ms} ms; it must be from ${minMs} to ${maxMs} ms`);
  return ms;
};

const understood = <R>(field: string, read: () => R): R => {
  try {
    return read();
  } catch (error) {
    if (!isEscapementError(error)) throw error;
    throw new EscapementConsumerError("invalid_option", error.message, { field: error.field ?? field });
  }
};

// --- the service ------------------------------------------------------------------------------------------------------

const serviceAt = (url: string, headers: Record<string, string>): Transport => {
  try {
    return new Transport({
      url,
      timeoutMs: syncTimeoutMs,
      retry: { maxAttempts: 1, initialMs: 100, maxMs: 1_000, retryAfterMaxMs: 0 },
      headers,
      fetch: globalThis.fetch as unknown as FetchLike,
    });
  } catch (error) {
    throw new EscapementConsumerError("invalid_option", (error as Error).message, { field: "url" });
  }
};

const sync = async (transport: Transport, request: object, signal: AbortSignal): Promise<ConsumerSyncReply> => {
  const body = JSON.stringify(request);
  const { value } = await transport.call({
    method: "POST",
    path: "/v1/consumers/sync",
    body,
    repeatable: false,
    signal,
  });
  return value as ConsumerSyncReply;
};

type Names = Pick<ConsumerGroupReply, "retryTopic" | "ingestTopic">;

/** Has the service make the group ready; without it, sees at least whether somebody has. */
const readyGroup = async <T>(
  { endpoint, group, order, ingestTopic = "ESC_INGEST" }: StartConsumerOptions<T>,
  transport: Transport | undefined,
  session: Parameters<typeof createRocketmqTopicDirectory>[0],
): Promise<Names> => {
  const ordered = order !== undefined;
  let why = "no Escapement server was named to do it";
  if (transport !== undefined) {
    try {
      const { value } = await transport.call({
        method: "POST",
        path: `/v1/consumer-groups/${encodeURIComponent(group)}`,
        body: JSON.stringify({ ordered }),
        repeatable: true,
        timeoutMs: prepareTimeoutMs,
      });
      return value as ConsumerGroupReply;
    } catch (error) {
      if (error instanceof EscapementApiError && error.code === "group_not_ready") {
        throw new EscapementConsumerError("group_missing", error.message, { cause: error });
      }
      if (!(error instanceof EscapementClientError)) throw error;
      why = error.message;
    }
  }
  const retryTopic = retryTopicOf(group);
  const directory = createRocketmqTopicDirectory(session);
  const { outcome } = await directory.lookUp(retryTopic);
  await directory.close();
  if (outcome === "exists") return { retryTopic, ingestTopic };
  if (outcome === "unreachable") throw unavailable(endpoint, "it does not answer");
  throw new EscapementConsumerError(
    "group_missing",
    `The retry topic ${retryTopic} does not exist (${why}). Create it and the group: ${commandsFor(group, ordered).join(" ; ")}`,
  );
};

const notRegistered = <T>(
  { endpoint, group, order }: StartConsumerOptions<T>,
  trouble: string,
): EscapementConsumerError =>
  /group not found/i.test(trouble)
    ? new EscapementConsumerError(
        "group_missing",
        `The consumer group ${group} does not exist. Create it: ${commandsFor(group, order !== undefined).at(-1)}`,
      )
    : unavailable(endpoint, trouble);

const unavailable = (endpoint: string, detail: string): EscapementConsumerError =>
  new EscapementConsumerError("broker_unavailable", `RocketMQ at ${endpoint} cannot be used: ${detail}.`);
