import { EscapementError } from "../message/errors.ts";
import { groupTail, idOfKey, type MessageId, parseMessageId, timeOrderedId } from "../message/id.ts";
import { type DelayedMessage, limits } from "../message/message.ts";
import { day, type EpochMs, epochMs, epochMsMax } from "../message/time.ts";
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
import type { MessageRef } from "./intake.port.ts";
import { looksLikeInstant, parseDuration, parseInstant } from "./parse-time.ts";

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
  return admitMessage(
    {
      topic: given.topic,
      body: bodyOf(given.body, given.bodyBase64) ?? missing("body", "give the text as body or the bytes as bodyBase64"),
      tag: given.tag,
      keys: given.keys,
      properties: given.properties === undefined ? undefined : propertiesOf(given.properties),
      messageGroup: given.messageGroup,
      deliverAt: given.deliverAt,
      delay: given.delay,
      key: given.key,
      onConflict: given.onConflict,
      expireAfter: given.expireAfter,
      retry: given.retry,
      waitForTopic: given.waitForTopic,
    },
    context,
  );
};

/** The rules themselves, for any door. */
export const admitMessage = (fields: MessageFields, context: AdmitContext): Admitted => {
  const { tenant, nowMs, random, options } = context;
  const topic =
    fields.topic === undefined ? missing("topic", "name the topic to deliver to") : checkTopic(fields.topic);
  if (options?.ownTopics?.has(topic)) {
    throw new EscapementError("invalid_topic", `${topic} is read by this service itself; choose a topic of yours.`, {
      field: "topic",
    });
  }
  const deliverAtMs = dueOf(fields.deliverAt, fields.delay, nowMs, options);
  const expireAtMs =
    fields.expireAfter === undefined ? undefined : expiryOf(fields.expireAfter, deliverAtMs, nowMs, options);

  let headBytes = 0;
  if (fields.tag !== undefined) headBytes += checkTag(fields.tag);
  if (fields.keys !== undefined) headBytes += checkKeys(fields.keys);
  const properties = fields.properties ?? noProperties;
  checkProperties(properties, headBytes);

  const messageGroup = fields.messageGroup === undefined ? undefined : groupOf(fields.messageGroup);
  const key = fields.key === undefined ? undefined : keyOf(fields.key);
  const onConflict = conflictOf(fields.onConflict, key);
  if (fields.waitForTopic !== undefined && typeof fields.waitForTopic !== "boolean") {
    throw wrongType("waitForTopic", "true or false", fields.waitForTopic);
  }
  const retry = fields.retry === undefined ? undefined : retryOf(fields.retry);
  checkBody(fields.body, "body");

  const id =
    key === undefined
      ? timeOrderedId(
          nowMs,
          random.bytes(idRandomness),
          messageGroup === undefined ? context.tail : groupTail(tenant, messageGroup),
        )
      : idOfKey(tenant, key, messageGroup);
  return {
    message: {
      id,
      tenant,
      ...(key === undefined ? undefined : { key }),
      topic,
      ...(fields.tag === undefined ? undefined : { tag: fields.tag as string }),
      keys: (fields.keys as readonly string[] | undefined) ?? noKeys,
      properties,
      ...(messageGroup === undefined ? undefined : { messageGroup }),
      body: fields.body,
      deliverAtMs,
      ...(expireAtMs === undefined ? undefined : { expireAtMs }),
      acceptedAtMs: nowMs,
      ...(retry === undefined ? undefined : { retry }),
      attempt: 0,
    },
    onConflict,
    waitForTopic: fields.waitForTopic === true,
  };
};

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
  const deliverAtMs = dueOf(given.deliverAt, given.delay, nowMs, options);
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
      : { expireAtMs: expireAfter === null ? null : expiryOf(expireAfter, deliverAtMs, nowMs, options) }),
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

const dueOf = (deliverAt: unknown, delay: unknown, nowMs: EpochMs, options: AdmitOptions | undefined): EpochMs => {
  if (deliverAt === undefined && delay === undefined) {
    throw new EscapementError(
      "time_missing",
      "Say when to deliver: give deliverAt (an instant) or delay (a duration).",
      {
        field: "deliverAt",
      },
    );
  }
  if (deliverAt !== undefined && delay !== undefined) {
    throw new EscapementError("time_ambiguous", "Give deliverAt or delay, not both.", { field: "delay" });
  }
  const field = deliverAt === undefined ? "delay" : "deliverAt";
  const dueMs =
    deliverAt === undefined
      ? nowMs + parseDuration(numberFromText(delay, options), field)
      : parseInstant(numberFromText(deliverAt, options), field);
  if (dueMs - nowMs > limits.delayDaysMax * day) {
    const days = Math.ceil((dueMs - nowMs) / day);
    throw new EscapementError("delay_too_long", `${field} is ${days} days away, ${limits.delayDaysMax} are allowed.`, {
      field,
    });
  }
  return epochMs(dueMs);
};

/** Counted from the due time when a duration. A message that could never be delivered in time is a mistake. */
const expiryOf = (
  expireAfter: unknown,
  deliverAtMs: EpochMs,
  nowMs: EpochMs,
  options: AdmitOptions | undefined,
): EpochMs => {
  const field = "expireAfter";
  const value = numberFromText(expireAfter, options);
  const expireAtMs =
    typeof value === "string" && looksLikeInstant(value)
      ? parseInstant(value, field)
      : epochMs(Math.min(deliverAtMs + parseDuration(value, field), epochMsMax));
  if (expireAtMs <= deliverAtMs || expireAtMs <= nowMs) {
    throw new EscapementError(
      "expires_before_due",
      "expireAfter ends before the message could be delivered; make it longer or leave it out.",
      { field },
    );
  }
  return expireAtMs;
};

const numberFromText = (value: unknown, options: AdmitOptions | undefined): unknown =>
  options?.textNumbers === true && typeof value === "string" && isPlainNumber(value) ? Number(value) : value;

const isPlainNumber = (text: string): boolean => {
  if (text.length === 0 || text.length > 15) return false;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code < 0x30 || code > 0x39) return false;
  }
  return true;
};

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

const unknownField = (name: string, known: ReadonlySet<string>): EscapementError => {
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
