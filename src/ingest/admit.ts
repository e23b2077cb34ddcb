import { EscapementError } from "../message/errors.ts";
import { groupTail, idOfKey, type MessageId, parseMessageId, timeOrderedId } from "../message/id.ts";
import { type DelayedMessage, limits, type RetryOptions } from "../message/message.ts";
import type { EpochMs } from "../message/time.ts";
import type { Random } from "../runtime/random.ts";
import type { RescheduleRequest, ScheduleRequest } from "../wire/http.ts";
import {
  bodyOf,
  checkBody,
  checkKeys,
  checkProperties,
  checkTag,
  checkTopic,
  propertiesOf,
  retryOf,
} from "./admit-fields.ts";
import { invalidField, isBlank, kindOf, shownName, textBytes, wrongType } from "./admit-text.ts";
import { dueOf, expiryOf } from "./admit-times.ts";
import type { MessageRef } from "./intake.port.ts";

/**
 * Decides whether a message may come in. Pure: the request, the time and chance are arguments. Nothing is stored
 * before this has said yes, and what it admits must not be refused by RocketMQ at the due time, so the rules are the
 * proxy's own, made a little stricter where it is careless.
 *
 * Two doors, one set of rules: `admitSchedule` takes parsed JSON, `admitMessage` takes fields whose body is bytes
 * already (the ingest topic). Written as straight code, because it runs once per message at tens of thousands a second.
 *
 * What surprised us: JSON can hold the number 1e400, which is Infinity once parsed.
 */

export type AdmitOptions = {
  /** Numbers arrive as text (properties of a RocketMQ message): "1500" is 1,500 ms. JSON refuses that as ambiguous. */
  readonly textNumbers?: boolean;
  /** Topics that this service reads itself; a message scheduled onto one would go in a circle. */
  readonly ownTopics?: ReadonlySet<string>;
};

export type AdmitContext = {
  /** From the credential. */
  readonly tenant: string;
  readonly nowMs: EpochMs;
  readonly random: Random;
  /** Last 16 bits of a fresh id, which choose its shard; not used for keys and message groups. */
  readonly tail: number;
  readonly options?: AdmitOptions;
};

export type Admitted = {
  readonly message: DelayedMessage;
  /** Undefined for a fresh id, which cannot meet an earlier message. */
  readonly onConflict: "keep" | "replace" | undefined;
  readonly waitForTopic: boolean;
};

/** A message's fields with its body as bytes. Fields are `unknown` because checking them is done here; undefined is absent. */
export type MessageFields = {
  readonly topic: unknown;
  readonly body: Buffer;
  readonly tag?: unknown;
  readonly keys?: unknown;
  readonly properties?: ReadonlyMap<string, string> | undefined;
  readonly messageGroup?: unknown;
  readonly deliverAt?: unknown;
  readonly delay?: unknown;
  readonly key?: unknown;
  readonly onConflict?: unknown;
  readonly expireAfter?: unknown;
  readonly retry?: unknown;
  readonly waitForTopic?: unknown;
};

/** A parsed `ScheduleRequest`, or whatever was sent in its place. */
export const admitSchedule = (request: unknown, context: AdmitContext): Admitted => {
  const given = objectOf(request);
  for (const name of Object.keys(given)) {
    if (!scheduleFields.has(name)) throw unknownField(name, scheduleFields);
  }
  const head = checkHead(
    given,
    given.properties === undefined ? noProperties : propertiesOf(given.properties),
    context,
  );
  // The body comes last, because it is what costs.
  const body = bodyOf(given.body, given.bodyBase64);
  return assemble(head, body ?? missing("body", "give the text as body or the bytes as bodyBase64"), context);
};

/** The rules themselves, for doors whose bodies are bytes. */
export const admitMessage = (fields: MessageFields, context: AdmitContext): Admitted => {
  const head = checkHead(fields, fields.properties ?? noProperties, context);
  checkBody(fields.body, "body");
  return assemble(head, fields.body, context);
};

type Head = {
  readonly topic: string;
  readonly tag: string | undefined;
  readonly keys: readonly string[];
  readonly properties: ReadonlyMap<string, string>;
  readonly messageGroup: string | undefined;
  readonly key: string | undefined;
  readonly onConflict: "keep" | "replace" | undefined;
  readonly deliverAtMs: EpochMs;
  readonly expireAtMs: EpochMs | undefined;
  readonly retry: RetryOptions | undefined;
  readonly waitForTopic: boolean;
};

const checkHead = (
  fields: Omit<MessageFields, "topic" | "body" | "properties"> & { readonly topic?: unknown },
  properties: ReadonlyMap<string, string>,
  { nowMs, options }: AdmitContext,
): Head => {
  const topic =
    fields.topic === undefined ? missing("topic", "name the topic to deliver to") : checkTopic(fields.topic);
  if (options?.ownTopics?.has(topic)) {
    throw new EscapementError("invalid_topic", `${topic} is read by this service itself; choose a topic of yours.`, {
      field: "topic",
    });
  }
  const deliverAtMs = dueOf(fields.deliverAt, fields.delay, nowMs, options?.textNumbers);
  const expireAtMs =
    fields.expireAfter === undefined
      ? undefined
      : expiryOf(fields.expireAfter, deliverAtMs, nowMs, options?.textNumbers);

  let headBytes = 0;
  if (fields.tag !== undefined) headBytes += checkTag(fields.tag);
  if (fields.keys !== undefined) headBytes += checkKeys(fields.keys);
  checkProperties(properties, headBytes);

  const messageGroup = fields.messageGroup === undefined ? undefined : groupOf(fields.messageGroup);
  const key = fields.key === undefined ? undefined : keyOf(fields.key);
  const onConflict = conflictOf(fields.onConflict, key);
  if (fields.waitForTopic !== undefined && typeof fields.waitForTopic !== "boolean") {
    throw wrongType("waitForTopic", "true or false", fields.waitForTopic);
  }
  return {
    topic,
    tag: fields.tag as string | undefined,
    keys: (fields.keys as readonly string[] | undefined) ?? noKeys,
    properties,
    messageGroup,
    key,
    onConflict,
    deliverAtMs,
    expireAtMs,
    retry: fields.retry === undefined ? undefined : retryOf(fields.retry),
    waitForTopic: fields.waitForTopic === true,
  };
};

const assemble = (head: Head, body: Buffer, { tenant, nowMs, random, tail }: AdmitContext): Admitted => {
  const { topic, tag, keys, properties, messageGroup, key, deliverAtMs, expireAtMs, retry } = head;
  const id =
    key === undefined
      ? timeOrderedId(
          nowMs,
          random.bytes(idRandomness),
          messageGroup === undefined ? tail : groupTail(tenant, messageGroup),
        )
      : idOfKey(tenant, key, messageGroup);
  const message: Mutable<DelayedMessage> = {
    id,
    tenant,
    topic,
    keys,
    properties,
    body,
    deliverAtMs,
    acceptedAtMs: nowMs,
    attempt: 0,
  };
  if (key !== undefined) message.key = key;
  if (tag !== undefined) message.tag = tag;
  if (messageGroup !== undefined) message.messageGroup = messageGroup;
  if (expireAtMs !== undefined) message.expireAtMs = expireAtMs;
  if (retry !== undefined) message.retry = retry;
  return {
    message,
    onConflict: head.onConflict,
    waitForTopic: head.waitForTopic,
  };
};

/** While it is put together. */
type Mutable<T> = { -readonly [Name in keyof T]: T[Name] };

export type AdmittedReschedule = {
  readonly deliverAtMs: EpochMs;
  /** Absent: keeps what it had. `null`: never expires. */
  readonly expireAtMs?: EpochMs | null;
  readonly body?: Buffer;
  readonly properties?: ReadonlyMap<string, string>;
};

/** A parsed `RescheduleRequest`, or whatever was sent in its place. */
export const admitReschedule = (
  request: unknown,
  context: { readonly nowMs: EpochMs; readonly options?: AdmitOptions },
): AdmittedReschedule => {
  const given = objectOf(request);
  for (const name of Object.keys(given)) {
    if (!rescheduleFields.has(name)) throw unknownField(name, rescheduleFields);
  }
  const { nowMs, options } = context;
  const deliverAtMs = dueOf(given.deliverAt, given.delay, nowMs, options?.textNumbers);
  const expireAfter = given.expireAfter;
  const body = bodyOf(given.body, given.bodyBase64);
  const properties = given.properties === undefined ? undefined : propertiesOf(given.properties);
  // Tag and keys stay as they are and are not known here; the broker has the last word on their sum.
  if (properties !== undefined) checkProperties(properties, 0);
  if (body !== undefined) checkBody(body, "body");
  return {
    deliverAtMs,
    ...(expireAfter === undefined
      ? undefined
      : { expireAtMs: expireAfter === null ? null : expiryOf(expireAfter, deliverAtMs, nowMs, options?.textNumbers) }),
    ...(body === undefined ? undefined : { body }),
    ...(properties === undefined ? undefined : { properties }),
  };
};

/** The id that a reference means; `invalid_id` or `invalid_field` when it can mean none. */
export const admitRef = (ref: MessageRef, tenant: string): MessageId => {
  if ("id" in ref) {
    const id = ref.id.length === 36 ? parseMessageId(ref.id) : undefined;
    if (id === undefined) {
      throw new EscapementError("invalid_id", "The id must be the UUID that schedule answered.", { field: "id" });
    }
    return id;
  }
  const messageGroup = ref.messageGroup === undefined ? undefined : groupOf(ref.messageGroup);
  return idOfKey(tenant, keyOf(ref.key), messageGroup);
};

// --- the single fields ----------------------------------------------------------------------------------------

const keyOf = (key: unknown): string => {
  textBytes(key, "key", limits.keyBytesMax);
  if (isBlank(key as string)) throw invalidField("key", "is blank");
  return key as string;
};

const groupOf = (messageGroup: unknown): string => {
  textBytes(messageGroup, "messageGroup", limits.messageGroupBytesMax);
  if (isBlank(messageGroup as string)) throw invalidField("messageGroup", "is blank");
  return messageGroup as string;
};

const conflictOf = (onConflict: unknown, key: string | undefined): "keep" | "replace" | undefined => {
  if (onConflict === undefined) return key === undefined ? undefined : "keep";
  if (onConflict !== "keep" && onConflict !== "replace")
    throw wrongChoice("onConflict", '"keep" or "replace"', onConflict);
  if (key === undefined) {
    throw invalidField("onConflict", "needs a key: without one, every message is new");
  }
  return onConflict;
};

const wrongChoice = (field: string, choices: string, value: unknown): EscapementError =>
  typeof value === "string"
    ? invalidField(field, `must be ${choices}, not "${shownName(value)}"`)
    : wrongType(field, choices, value);

const objectOf = (request: unknown): Given => {
  if (typeof request !== "object" || request === null || Array.isArray(request)) {
    throw new EscapementError("invalid_request", `The request must be a JSON object, not ${kindOf(request)}.`);
  }
  return request as Given;
};

/** What JSON may hold where a field should be. */
type Given = { readonly [Field in keyof ScheduleRequest | keyof RescheduleRequest]?: unknown };

const scheduleFields: ReadonlySet<string> = new Set<keyof ScheduleRequest>([
  "topic",
  "body",
  "bodyBase64",
  "tag",
  "keys",
  "properties",
  "messageGroup",
  "deliverAt",
  "delay",
  "key",
  "onConflict",
  "expireAfter",
  "retry",
  "waitForTopic",
]);

const rescheduleFields: ReadonlySet<string> = new Set<keyof RescheduleRequest>([
  "deliverAt",
  "delay",
  "expireAfter",
  "body",
  "bodyBase64",
  "properties",
]);

/** For every door whose messages have named fields. */
export const unknownField = (name: string, known: ReadonlySet<string>): EscapementError => {
  const shown = shownName(name);
  const hint =
    known === rescheduleFields && scheduleFields.has(name)
      ? "it cannot be changed; cancel the message and schedule another"
      : `the fields are ${[...known].join(", ")}`;
  return new EscapementError("unknown_field", `There is no field ${shown} here: ${hint}.`, { field: shown });
};

const missing = (field: string, hint: string): never => {
  throw new EscapementError("missing_field", `${field} is missing: ${hint}.`, { field });
};

const noProperties: ReadonlyMap<string, string> = new Map();
const noKeys: readonly string[] = [];
/** Filled anew for every id and copied out at once; kept to spare an allocation per message. */
const idRandomness = new Uint8Array(10);
