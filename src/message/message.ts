import type { MessageId } from "./id.ts";
import type { DurationMs, EpochMs } from "./time.ts";

/**
 * The thing itself: a message on its way to a RocketMQ topic, with the time it is due. The words are RocketMQ's
 * (topic, tag, keys, properties, message group); `key` is ours and is the user's own name for the message.
 */

/** How a failed dispatch to the broker is tried again: exponential, with equal jitter. */
export type RetryOptions = {
  /** Sends in all, the first one included. 1 to 1000. */
  readonly maxAttempts: number;
  /** Wait after the first failure. */
  readonly initialMs: DurationMs;
  /** Longest wait between two sends. */
  readonly maxMs: DurationMs;
  /** Growth per failure, 1 to 10; fractions are fine. */
  readonly multiplier: number;
};

export type DelayedMessage = {
  readonly id: MessageId;
  /** From the credential, never from the body. */
  readonly tenant: string;
  /** The user's own name for the message, unique within (tenant, message group). */
  readonly key?: string;
  readonly topic: string;
  readonly tag?: string;
  readonly keys: readonly string[];
  readonly properties: ReadonlyMap<string, string>;
  /** FIFO: messages of one group are sent in the order of (deliverAtMs, acceptance), one after the other. */
  readonly messageGroup?: string;
  readonly body: Buffer;
  readonly deliverAtMs: EpochMs;
  /** Not delivered after this instant; it ends as `expired`. */
  readonly expireAtMs?: EpochMs;
  readonly acceptedAtMs: EpochMs;
  readonly retry?: RetryOptions;
  /** Attempts taken so far; the first send is attempt 1. */
  readonly attempt: number;
};

/**
 * Limits checked before anything is stored. They are what a RocketMQ 5.5 proxy enforces with its defaults, so that a
 * message which was accepted is not refused at its due time.
 */
export const limits = {
  /** The proxy allows 4 MiB; the Node client cannot receive a full 4 MiB body (channel limit), so we stay below. */
  bodyBytesMax: 4_000_000,
  /** `userPropertyMaxNum` is 128 and we add three of our own (ESC_ID, ESC_ATTEMPT, ESC_DELIVER_AT). */
  propertiesMax: 125,
  /** `maxUserPropertySize` is 16 KiB over names, values, tag and keys; our own properties take up to 128 bytes. */
  propertyBytesMax: 16 * 1024 - 128,
  /** `maxMessageGroupSize` is 64 and the proxy wants strictly less. */
  messageGroupBytesMax: 63,
  keyBytesMax: 256,
  keysMax: 32,
  tagBytesMax: 127,
  /** A delay above this is taken for a mistake in units. */
  delayDaysMax: 365,
} as const;

/** RocketMQ's own rule for topic names (TopicValidator), and what the proxy accepts over gRPC. */
export const topicPattern = /^[%|a-zA-Z0-9_-]{1,127}$/;

/** Left on a message without an envelope by the redrive that brought it back: `token replays`. Taken off before it is sent. */
export const redriveProperty = "ESC_REDRIVE";

/** Properties that every delivered copy carries. */
export const property = {
  id: "ESC_ID",
  attempt: "ESC_ATTEMPT",
  deliverAt: "ESC_DELIVER_AT",
} as const;
