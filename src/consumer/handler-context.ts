import type { IncomingMessage } from "../ingest/topic-source.port.ts";
import { isEscapementError } from "../message/errors.ts";
import { property } from "../message/message.ts";
import { parseDuration, parseInstant } from "../message/parse-time.ts";
import { retryProperty } from "../message/retry-properties.ts";
import { type DurationMs, type EpochMs, epochMs } from "../message/time.ts";
import type { RetryEnvelope } from "../retry/envelope.ts";
import { boundedText, envelopeLimits } from "../retry/envelope-codec.ts";
import type { RetryPolicy } from "../retry/policy.ts";
import type { Clock } from "../runtime/clock.ts";
import { EscapementConsumerError, invalidOption } from "./consumer-error.ts";

/** What a handler is given beside the message, and what it may say instead of returning or throwing. */
export type HandlerContext<T = unknown> = {
  readonly message: ConsumedMessage<T>;
  /** The first one is 1. */
  readonly attempt: number;
  /** Undefined while it has not failed. */
  readonly firstFailedAt: Date | undefined;
  /** Until when it makes sense to go on, by the limits of the policy. */
  readonly deadline: Deadline;
  /** Aborted when the handler's time is over, or when the consumer stops and cannot wait any longer. */
  readonly signal: AbortSignal;
  /** Try again then: an instant, a Date or a duration from now. It was an attempt, and the policy's limits hold. */
  retryAt(when: string | number | Date, reason?: string): Verdict;
  /** Come again after this duration; it was no attempt. */
  snooze(duration: string | number): Verdict;
  /** Wait until whoever watches this key opens it again; it was no attempt. */
  park(key: string): Verdict;
  /** Keep it among the dead. */
  dead(reason: string): Verdict;
};

/**
 * What the handler has said. It holds from the moment it was said: whether it is returned, forgotten or followed by a
 * throw, nothing that a handler wanted kept is acknowledged.
 */
export type Verdict =
  | { readonly kind: "retry"; readonly atMs: EpochMs; readonly reason: string }
  | { readonly kind: "snooze"; readonly atMs: EpochMs }
  | { readonly kind: "park"; readonly key: string }
  | { readonly kind: "dead"; readonly reason: string };

export type ConsumedMessage<T = unknown> = {
  /**
   * The same for every delivery of one message, also after retries: fit for an idempotency key. Its first `ESC_ID`
   * where it has one, which also all copies of it share; otherwise made of the sender's id, host and time.
   */
  readonly id: string;
  /** Where it was sent to, also when it comes again. */
  readonly topic: string;
  readonly tag?: string;
  readonly keys: readonly string[];
  readonly properties: ReadonlyMap<string, string>;
  readonly messageGroup?: string;
  readonly bornAt: Date;
  readonly body: Buffer;
  /** What `decode` made of the body; without one, the body. */
  readonly value: T;
};

export type Deadline = {
  /** Undefined when there is none. */
  readonly at: Date | undefined;
  leftMs(): number;
  /** Is there so much time left? */
  has(duration: string | number): boolean;
};

export const consumedMessage = <T>(message: IncomingMessage, envelope: RetryEnvelope, value: T): ConsumedMessage<T> => {
  const { tag, keys, body } = message;
  const properties = new Map(message.properties);
  properties.delete(retryProperty.envelope);
  // What comes by the retry topic was stamped anew there; its own id is that of its first delivery.
  properties.delete(property.id);
  if (envelope.originEscId !== undefined) properties.set(property.id, envelope.originEscId);
  const messageGroup = message.messageGroup ?? envelope.originMessageGroup;
  return {
    id: envelope.originEscId ?? envelope.originId,
    topic: envelope.originTopic,
    ...(tag === undefined ? undefined : { tag }),
    keys,
    properties,
    ...(messageGroup === undefined ? undefined : { messageGroup }),
    bornAt: new Date(envelope.originBornAtMs),
    body,
    value,
  };
};

export type SpokenContext<T> = { readonly context: HandlerContext<T>; readonly said: () => Verdict | undefined };

export const createContext = <T>(
  message: ConsumedMessage<T>,
  envelope: RetryEnvelope,
  { limits }: RetryPolicy,
  signal: AbortSignal,
  clock: Clock,
): SpokenContext<T> => {
  let verdict: Verdict | undefined;
  const say = (said: Verdict): Verdict => {
    verdict = said;
    return said;
  };
  const { firstFailedAtMs } = envelope;
  const endMs = Math.min(
    limits.deadlineMs ?? Number.POSITIVE_INFINITY,
    firstFailedAtMs === undefined || limits.maxAgeMs === undefined
      ? Number.POSITIVE_INFINITY
      : firstFailedAtMs + limits.maxAgeMs + envelope.parkedMs,
  );
  const leftMs = () => endMs - clock.nowMs();
  const context: HandlerContext<T> = {
    message,
    attempt: envelope.attempt + 1,
    firstFailedAt: firstFailedAtMs === undefined ? undefined : new Date(firstFailedAtMs),
    deadline: {
      at: endMs === Number.POSITIVE_INFINITY ? undefined : new Date(endMs),
      leftMs,
      has: (duration) => leftMs() >= durationOf(duration),
    },
    signal,
    retryAt: (when, reason = "the handler asked for it") =>
      say({ kind: "retry", atMs: instantOf(when, clock), reason: boundedText(String(reason), reasonMax) }),
    snooze: (duration) => say({ kind: "snooze", atMs: epochMs(clock.nowMs() + durationOf(duration)) }),
    park: (key) => say({ kind: "park", key: checkedKey(key) }),
    dead: (reason) => say({ kind: "dead", reason: boundedText(String(reason), reasonMax) }),
  };
  return { context, said: () => verdict };
};

const reasonMax = envelopeLimits.errorTextMax;

/** Numbers of this size are instants; anything smaller is a duration in milliseconds. */
const instantMin = 100_000_000_000;

const instantOf = (when: string | number | Date, clock: Clock): EpochMs => {
  if (when instanceof Date) return asked("when", () => parseInstant(when.getTime(), "when"));
  const isInstant = typeof when === "number" ? when >= instantMin : /^\d{4}-/.test(when);
  return isInstant
    ? asked("when", () => parseInstant(when, "when"))
    : epochMs(clock.nowMs() + durationOf(when, "when"));
};

const durationOf = (duration: string | number, field = "duration"): DurationMs =>
  asked(field, () => parseDuration(duration, field));

/** A slip in the handler's program is mended by a new program, so it must not look like a message that is refused. */
const asked = <T>(field: string, parse: () => T): T => {
  try {
    return parse();
  } catch (error) {
    if (!isEscapementError(error)) throw error;
    throw new EscapementConsumerError("invalid_option", error.message, { field });
  }
};

/** As a policy's park key: visible ASCII, so that it can be a name everywhere. */
export const checkedKey = (key: unknown): string => {
  if (typeof key !== "string" || !/^[\x21-\x7e]{1,128}$/.test(key)) {
    throw invalidOption("key", "is the name of a dependency: 1 to 128 visible ASCII characters");
  }
  return key;
};
