import { createHash } from "node:crypto";
import { admitMessage, type MessageFields, unknownField } from "../ingest/admit.ts";
import { EscapementError } from "../message/errors.ts";
import { idOfKey, timeOrderedId } from "../message/id.ts";
import { limits } from "../message/message.ts";
import { looksLikeInstant, parseDuration } from "../message/parse-time.ts";
import type { EpochMs } from "../message/time.ts";
import type { Random } from "../runtime/random.ts";
import type { OutboxHead, OutboxMessage } from "./outbox.port.ts";

/**
 * From what a caller hands over to the row that waits. Pure: time and chance are arguments. The rules are those of the
 * delay server's own doors, so that nothing is committed here which is refused there.
 */

export type TxMessage = {
  /** An existing topic. */
  readonly topic: string;
  /** Text (UTF-8) or bytes; at most 4,000,000 bytes. Give this or `json`. */
  readonly body?: string | Uint8Array;
  /** Any value that JSON.stringify takes. */
  readonly json?: unknown;
  readonly tag?: string;
  /** RocketMQ message keys, to find the message by in its tools. */
  readonly keys?: readonly string[];
  readonly properties?: Readonly<Record<string, string>>;
  /**
   * What the message is about, such as an order number; no spaces. It is among the message keys, and messages with the
   * same topic and key leave the outbox in order.
   */
  readonly key?: string;
  /** FIFO: for topics of that type. Messages of one group leave in order and are received in order. */
  readonly messageGroup?: string;
  /** A Date, epoch milliseconds or RFC 3339 text: kept by the delay server until then. */
  readonly deliverAt?: Date | number | string;
  /** Milliseconds or text (`"30m"`), counted from the commit (for `mq.in(tx)`: from the send). */
  readonly delay?: number | string;
  /**
   * Your own name for the message: the same name (within its message group, over all topics) is the same message with
   * the same id. Of a delayed message the delay server keeps the first; consumers see the same ESC_ID. It is what
   * `cancel` takes.
   */
  readonly dedupe?: string;
  /** Delayed messages only: not delivered later than this, counted from the due time. */
  readonly expireAfter?: number | string;
};

/** A delayed message as `cancel` names it: its `key` from `send`, which is its `dedupe` when it has one. */
export type TxMessageRef = { readonly key: string; readonly messageGroup?: string };

export type OutgoingContext = { readonly nowMs: EpochMs; readonly random: Random; readonly shardCount: number };

const tenant = "default";

/** The ingest message of a delayed one carries up to five properties of ours instead of three, with a key among them. */
const delayedPropertiesMax = 122;
const delayedPropertyBytesMax = limits.propertyBytesMax - 700;

export const outgoing = (message: TxMessage, context: OutgoingContext): OutboxMessage => {
  const { nowMs, random, shardCount } = context;
  const { topic, tag, key, messageGroup, dedupe } = message;
  const properties = propertiesOf(message.properties);
  const isDelayed = message.deliverAt !== undefined || message.delay !== undefined;
  if (message.expireAfter !== undefined && !isDelayed) {
    throw invalid("expireAfter", "is for delayed messages; give deliverAt or delay, or leave it out");
  }
  const body = bodyOf(message);
  const keys = key === undefined ? message.keys : [...keysOf(message.keys), keyOf(key)];
  const serverKey =
    dedupe ?? (isDelayed ? `tx-${timeOrderedId(nowMs, random.bytes(new Uint8Array(10)), 0)}` : undefined);
  const fields: MessageFields = {
    topic,
    body,
    tag,
    keys,
    properties,
    messageGroup,
    key: serverKey,
    ...timeFields(message),
    expireAfter: message.expireAfter,
  };
  const { message: admitted } = admitMessage(fields, { tenant, nowMs, random, tail: 0 });
  if (isDelayed) checkRoomForIngest(properties, admitted.keys, tag);
  const head: OutboxHead = {
    ...(tag === undefined ? undefined : { tag }),
    ...(admitted.keys.length === 0 ? undefined : { keys: admitted.keys }),
    ...(properties.size === 0 ? undefined : { properties: [...properties] }),
    ...(messageGroup === undefined ? undefined : { messageGroup }),
    ...(isDelayed ? { key: serverKey! } : undefined),
    ...(message.expireAfter === undefined ? undefined : { expireAfter: expiryText(message.expireAfter) }),
  };
  const order = messageGroup ?? key;
  // What waits at the delay server is ordered there, by its due time.
  const lane = isDelayed || order === undefined ? undefined : laneOf(topic, order);
  return {
    id: admitted.id,
    kind: "send",
    topic,
    lane,
    shard: shardFor(lane, random, shardCount),
    ...(isDelayed ? { due: dueOf(message, admitted.deliverAtMs) } : undefined),
    head,
    body,
    mayExist: dedupe !== undefined,
  };
};

/**
 * Before anybody looks into what a caller hands over. A field that nobody knows would be a wish that nobody fulfils: with
 * `dealy` the message would go at once.
 */
export const checkMessageFields = (message: unknown): void =>
  checkFields(message, messageFields, "Give send a message: an object with topic, and body or json.");

export const checkRefFields = (ref: unknown): void =>
  checkFields(
    ref,
    refFields,
    "Give cancel an object with key, as send has answered it, and messageGroup if the message had one.",
  );

const checkFields = (given: unknown, known: ReadonlySet<string>, wanted: string): void => {
  if (typeof given !== "object" || given === null || Array.isArray(given)) {
    throw new EscapementError("invalid_request", wanted);
  }
  for (const [name, value] of Object.entries(given)) {
    if (!known.has(name)) throw unknownField(name, known);
    if (value === null && name !== "json") throw invalid(name, "is null; leave it out instead");
  }
};

const namesOf = <Fields>(fields: Record<keyof Required<Fields>, true>): ReadonlySet<string> =>
  new Set(Object.keys(fields));
const messageFields = namesOf<TxMessage>({
  topic: true,
  body: true,
  json: true,
  tag: true,
  keys: true,
  properties: true,
  key: true,
  messageGroup: true,
  deliverAt: true,
  delay: true,
  dedupe: true,
  expireAfter: true,
});
const refFields = namesOf<TxMessageRef>({ key: true, messageGroup: true });

/** The row that takes a delayed message back. Its own id is fresh; what it names is in its head. */
export const outgoingCancel = (
  ref: TxMessageRef,
  context: OutgoingContext,
): { row: OutboxMessage; target: OutboxMessage["id"] } => {
  const { nowMs, random, shardCount } = context;
  const { key, messageGroup } = ref;
  // The same checks as when it was sent: a name that cannot have been sent is a mistake of the caller.
  const checked = admitMessage(
    { topic: "cancel", body: Buffer.from("-"), key, messageGroup, delay: 0 },
    { tenant, nowMs, random, tail: 0 },
  );
  return {
    target: checked.message.id,
    row: {
      id: timeOrderedId(nowMs, random.bytes(new Uint8Array(10)), 0),
      kind: "cancel",
      topic: "",
      lane: undefined,
      shard: shardFor(undefined, random, shardCount),
      head: { key, ...(messageGroup === undefined ? undefined : { messageGroup }) },
      body: Buffer.alloc(0),
      mayExist: false,
    },
  };
};

/** The id under which `dedupe` or `key` is known everywhere. */
export const idOfRef = ({ key, messageGroup }: TxMessageRef): OutboxMessage["id"] => idOfKey(tenant, key, messageGroup);

/** 48 bits, so that it is a whole number in every library. Two keys that share one by chance merely share their order. */
export const laneOf = (topic: string, order: string): number =>
  createHash("sha1").update(`${topic}\0${order}`).digest().readUIntBE(0, 6);

/** A lane lives in one shard, so that one relay at a time sends it. */
const shardFor = (lane: number | undefined, random: Random, shardCount: number): number =>
  lane === undefined ? Math.floor(random.float() * shardCount) : lane % shardCount;

const dueOf = ({ delay }: TxMessage, deliverAtMs: EpochMs): NonNullable<OutboxMessage["due"]> =>
  delay === undefined ? { atMs: deliverAtMs } : { afterMs: parseDuration(delay, "delay") };

const timeFields = ({ deliverAt, delay }: TxMessage): Pick<MessageFields, "deliverAt" | "delay"> => {
  if (deliverAt === undefined) return { delay: delay ?? 0 };
  if (!(deliverAt instanceof Date)) return { deliverAt, delay };
  if (Number.isNaN(deliverAt.getTime())) throw invalid("deliverAt", "is an invalid Date");
  return { deliverAt: deliverAt.toISOString(), delay };
};

const expiryText = (expireAfter: number | string): string => {
  if (typeof expireAfter === "number") return String(expireAfter);
  return looksLikeInstant(expireAfter) ? expireAfter : String(parseDuration(expireAfter, "expireAfter"));
};

const bodyOf = ({ body, json }: TxMessage): Buffer => {
  if (body !== undefined && json !== undefined) throw invalid("body", "cannot stand beside json; give one of them");
  if (typeof body === "string") return Buffer.from(body, "utf8");
  if (body instanceof Uint8Array) return Buffer.from(body.buffer, body.byteOffset, body.byteLength);
  if (body !== undefined)
    throw invalid("body", "must be a text or a Uint8Array; for a value to be sent as JSON use json");
  const text = json === undefined ? undefined : jsonText(json);
  if (text === undefined) throw invalid("body", "is missing: give body or json");
  return Buffer.from(text, "utf8");
};

const jsonText = (json: unknown): string | undefined => {
  try {
    return JSON.stringify(json);
  } catch (cause) {
    const why =
      "json cannot be written as JSON (a BigInt, a circle, or a toJSON that throws); convert it, or give body.";
    throw new EscapementError("invalid_field", why, { field: "json", cause });
  }
};

const propertiesOf = (given: TxMessage["properties"]): ReadonlyMap<string, string> => {
  const properties = new Map<string, string>();
  // A Map has no entries to Object.entries, and a text has its letters.
  if (given !== undefined && (typeof given !== "object" || Symbol.iterator in given)) {
    throw invalid("properties", "must be an object whose values are texts");
  }
  for (const [name, value] of Object.entries(given ?? {})) {
    if (typeof value !== "string") throw invalid(`properties.${name}`, "must be a text");
    properties.set(name, value);
  }
  return properties;
};

const keysOf = (keys: TxMessage["keys"] = []): readonly string[] => {
  if (!Array.isArray(keys)) throw invalid("keys", "must be an array of texts");
  return keys;
};

const keyOf = (key: unknown): string => {
  if (typeof key !== "string" || key.trim() === "") throw invalid("key", "must be a text that is not blank");
  if (/\s/.test(key)) throw invalid("key", "must not hold spaces: RocketMQ joins message keys by them");
  return key;
};

const checkRoomForIngest = (
  properties: ReadonlyMap<string, string>,
  keys: readonly string[],
  tag: string | undefined,
): void => {
  let bytes = Buffer.byteLength(tag ?? "");
  for (const key of keys) bytes += Buffer.byteLength(key);
  for (const [name, value] of properties) bytes += Buffer.byteLength(name) + Buffer.byteLength(value);
  if (properties.size > delayedPropertiesMax) {
    const text = `${properties.size} properties, a delayed message may have ${delayedPropertiesMax} on its way to the delay server.`;
    throw new EscapementError("too_many_properties", text, { field: "properties" });
  }
  if (bytes > delayedPropertyBytesMax) {
    const text = `Properties, tag and keys of a delayed message may have ${delayedPropertyBytesMax} bytes together on its way to the delay server.`;
    throw new EscapementError("properties_too_large", text, { field: "properties" });
  }
};

const invalid = (field: string, why: string): EscapementError =>
  new EscapementError("invalid_field", `${field} ${why}.`, { field });
