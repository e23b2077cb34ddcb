import { EscapementError } from "../message/errors.ts";
import { limits, type RetryOptions } from "../message/message.ts";
import { parseDuration } from "../message/parse-time.ts";
import { isObjectName, isReservedProperty } from "../message/reserved-properties.ts";
import { day, durationMs } from "../message/time.ts";
import { defaultBackoff, defaultLimits } from "../retry/policy.ts";
import {
  cleanBytes,
  hasSpace,
  invalidField,
  isBlank,
  loneSurrogate,
  shownName,
  textBytes,
  wrongType,
} from "./admit-text.ts";

/**
 * The checks of the parts that travel to RocketMQ: topic, tag, keys, properties, body; and the retry policy. Each
 * throws with the field at fault, or answers what the caller needs. Values of properties never appear in a message.
 *
 * What surprised us: an empty property value is silently dropped by RocketMQ's property encoding, and an unpadded or
 * non-canonical base64 text decodes without complaint in Node, so we compare it with its own re-encoding.
 */

/** Topics of RocketMQ itself, which its proxy refuses to write to (TopicValidator's system topics). */
const systemTopics: ReadonlySet<string> = new Set([
  "TBW102",
  "SCHEDULE_TOPIC_XXXX",
  "SCHEDULE_TOPIC_XXXX_V2",
  "BenchmarkTest",
  "RMQ_SYS_TRANS_HALF_TOPIC",
  "RMQ_SYS_TRACE_TOPIC",
  "RMQ_SYS_TRANS_OP_HALF_TOPIC",
  "TRANS_CHECK_MAX_TIME_TOPIC",
  "SELF_TEST_TOPIC",
  "OFFSET_MOVED_EVENT",
]);
const systemTopicPrefix = "rmq_sys_";
const topicLengthMax = 127;

export const checkTopic = (topic: unknown): string => {
  if (typeof topic !== "string") throw wrongType("topic", "a text", topic);
  if (topic.length === 0) throw invalidTopic("topic is empty; name the topic to deliver to.");
  if (topic.length > topicLengthMax) throw invalidTopic(`topic is longer than ${topicLengthMax} characters.`);
  for (let i = 0; i < topic.length; i++) {
    if (!isTopicCharacter(topic.charCodeAt(i))) {
      throw invalidTopic(`topic may hold letters, digits and %|_- only, not "${shownName(topic[i]!)}".`);
    }
  }
  if (systemTopics.has(topic) || topic.startsWith(systemTopicPrefix)) {
    throw invalidTopic(`${topic} is a topic of RocketMQ itself; choose a topic of yours.`);
  }
  return topic;
};

/** The set of `topicPattern`, as comparisons. */
const isTopicCharacter = (code: number): boolean =>
  (code >= 0x61 && code <= 0x7a) ||
  (code >= 0x41 && code <= 0x5a) ||
  (code >= 0x30 && code <= 0x39) ||
  code === 0x5f ||
  code === 0x2d ||
  code === 0x25 ||
  code === 0x7c;

const invalidTopic = (message: string): EscapementError =>
  new EscapementError("invalid_topic", message, { field: "topic" });

/** Answers its size in bytes. */
export const checkTag = (tag: unknown): number => {
  const bytes = textBytes(tag, "tag", limits.tagBytesMax);
  if ((tag as string).includes("|"))
    throw invalidField("tag", 'must not hold "|", which separates tags in subscriptions');
  if (isBlank(tag as string)) throw invalidField("tag", "is blank");
  return bytes;
};

/** Answers their size in bytes. */
export const checkKeys = (keys: unknown): number => {
  if (!Array.isArray(keys)) throw wrongType("keys", "an array of texts", keys);
  if (keys.length > limits.keysMax)
    throw invalidField("keys", `has ${keys.length} items, ${limits.keysMax} are allowed`);
  let bytes = 0;
  for (let i = 0; i < keys.length; i++) {
    const field = `keys[${i}]`;
    bytes += textBytes(keys[i], field, limits.keyBytesMax);
    if (hasSpace(keys[i])) throw invalidField(field, "must not hold spaces: RocketMQ joins keys by them");
  }
  return bytes;
};

/** The properties of a JSON object; that they may be carried is checked by {@link checkProperties}. */
export const propertiesOf = (value: unknown): ReadonlyMap<string, string> => {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw wrongType("properties", "an object whose values are texts", value);
  }
  const names = Object.keys(value);
  if (names.length > limits.propertiesMax) throw tooManyProperties(names.length);
  const properties = new Map<string, string>();
  for (const name of names) {
    const text = (value as Record<string, unknown>)[name];
    if (typeof text !== "string") throw wrongType(`properties.${shownName(name)}`, "a text", text);
    properties.set(name, text);
  }
  return properties;
};

/** `headBytes` is what tag and keys take of the same allowance. */
export const checkProperties = (properties: ReadonlyMap<string, string>, headBytes: number): void => {
  if (properties.size > limits.propertiesMax) throw tooManyProperties(properties.size);
  let bytes = headBytes;
  if (bytes > limits.propertyBytesMax) throw propertiesTooLarge("keys");
  for (const [name, value] of properties) {
    if (name.length === 0) throw invalidField("properties", "has a property without a name");
    // Lengths come first: in UTF-8 a text has at least as many bytes as it has units here.
    if (bytes + name.length + value.length > limits.propertyBytesMax) {
      throw propertiesTooLarge(`properties.${shownName(name)}`);
    }
    const field = `properties.${shownName(name)}`;
    if (isReservedProperty(name)) {
      throw new EscapementError(
        "reserved_property",
        `The property name ${shownName(name)} is kept by RocketMQ or Escapement; choose another.`,
        { field },
      );
    }
    if (isObjectName(name))
      throw invalidField(field, "has a name that JavaScript objects give a meaning to; choose another");
    if (value.length === 0) throw invalidField(field, "is empty, and RocketMQ drops empty properties; leave it out");
    bytes += cleanBytes(name, field) + cleanBytes(value, field);
    if (bytes > limits.propertyBytesMax) throw propertiesTooLarge(field);
  }
};

const tooManyProperties = (count: number): EscapementError =>
  new EscapementError("too_many_properties", `${count} properties, ${limits.propertiesMax} are allowed.`, {
    field: "properties",
  });

const propertiesTooLarge = (field: string): EscapementError =>
  new EscapementError(
    "properties_too_large",
    `Properties, tag and keys together may have ${limits.propertyBytesMax} bytes; this is where they exceed them.`,
    { field },
  );

/** The body's bytes, or undefined when neither field is there. */
export const bodyOf = (body: unknown, bodyBase64: unknown): Buffer | undefined => {
  if (body !== undefined) {
    if (bodyBase64 !== undefined) throw invalidField("bodyBase64", "cannot stand beside body; give one of them");
    if (typeof body !== "string") throw wrongType("body", "a text (bytes go into bodyBase64)", body);
    if (body.length > limits.bodyBytesMax) throw bodyTooLarge("body");
    if (!body.isWellFormed()) throw loneSurrogate("body");
    const bytes = Buffer.from(body, "utf8");
    checkBody(bytes, "body");
    return bytes;
  }
  if (bodyBase64 === undefined) return undefined;
  if (typeof bodyBase64 !== "string") throw wrongType("bodyBase64", "a base64 text", bodyBase64);
  if (bodyBase64.length > base64LengthMax) throw bodyTooLarge("bodyBase64");
  const bytes = Buffer.from(bodyBase64, "base64");
  if (bytes.toString("base64") !== bodyBase64) {
    throw invalidField("bodyBase64", "is not canonical base64 (A-Z a-z 0-9 + /, padded with =, no line breaks)");
  }
  checkBody(bytes, "bodyBase64");
  return bytes;
};

const base64LengthMax = Math.ceil(limits.bodyBytesMax / 3) * 4;

export const checkBody = (body: Buffer, field: string): void => {
  if (body.length === 0) {
    throw new EscapementError("empty_body", `${field} is empty, and RocketMQ refuses messages without a body.`, {
      field,
    });
  }
  if (body.length > limits.bodyBytesMax) throw bodyTooLarge(field);
};

const bodyTooLarge = (field: string): EscapementError =>
  new EscapementError("body_too_large", `${field} is larger than ${limits.bodyBytesMax} bytes.`, { field });

// --- retry ----------------------------------------------------------------------------------------------------

const retryFields: ReadonlySet<string> = new Set(["maxAttempts", "initial", "max", "multiplier"]);
const attemptsMax = 1_000;
const multiplierMax = 10;
/** Longer than any outage; a larger number is a mistake in units. */
const retryWaitMax = durationMs(7 * day);

/** What is left out is as in the default policy. */
export const retryOf = (retry: unknown): RetryOptions => {
  if (typeof retry !== "object" || retry === null || Array.isArray(retry)) throw wrongType("retry", "an object", retry);
  for (const name of Object.keys(retry)) {
    if (!retryFields.has(name)) {
      const field = `retry.${shownName(name)}`;
      throw new EscapementError(
        "unknown_field",
        `There is no field ${field}: retry has ${[...retryFields].join(", ")}.`,
        {
          field,
        },
      );
    }
  }
  const { maxAttempts, initial, max, multiplier } = retry as Record<string, unknown>;
  if (maxAttempts !== undefined) {
    if (typeof maxAttempts !== "number") throw wrongType("retry.maxAttempts", "a whole number", maxAttempts);
    if (!Number.isInteger(maxAttempts) || maxAttempts < 1 || maxAttempts > attemptsMax) {
      throw invalidField("retry.maxAttempts", `must be a whole number from 1 to ${attemptsMax}`);
    }
  }
  if (multiplier !== undefined) {
    if (typeof multiplier !== "number") throw wrongType("retry.multiplier", "a number", multiplier);
    // Written so that NaN fails it too.
    if (!(multiplier >= 1 && multiplier <= multiplierMax)) {
      throw invalidField("retry.multiplier", `must be a number from 1 to ${multiplierMax}`);
    }
  }
  const initialMs = initial === undefined ? defaultBackoff.baseMs : retryWait(initial, "retry.initial");
  const maxMs = max === undefined ? durationMs(Math.max(defaultBackoff.capMs, initialMs)) : retryWait(max, "retry.max");
  if (maxMs < initialMs) throw invalidField("retry.max", "is shorter than the first wait");
  return {
    maxAttempts: (maxAttempts as number | undefined) ?? defaultLimits.maxAttempts,
    initialMs,
    maxMs,
    multiplier: (multiplier as number | undefined) ?? defaultBackoff.factor,
  };
};

const retryWait = (value: unknown, field: string) => {
  const wait = parseDuration(value, field);
  if (wait < 1) throw invalidField(field, "must be at least 1 ms");
  if (wait > retryWaitMax) throw invalidField(field, "must be at most 7 days");
  return wait;
};
