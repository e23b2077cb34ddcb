import type { MessageId } from "../../message/id.ts";
import { limits, property, topicPattern } from "../../message/message.ts";
import { isObjectName, isReservedProperty } from "../../message/reserved-properties.ts";
import type { HalfMessage } from "./half-broker.port.ts";
import { HalfError, type HalfErrorCode } from "./half-error.ts";

/**
 * From what a user sends in a transaction to the half message that goes out for it. Pure; refuses here what the broker
 * would refuse only after the COMMIT, and what it takes and then treats badly.
 *
 * A broker loses a half message with a delivery time: it says OK twice and never delivers it. So a delayed one is a half
 * on the ingest topic of the delay server, to whom it says in properties where and when; no timer ever touches the half.
 */
export type TxMessage = {
  readonly topic: string;
  readonly body: Buffer;
  readonly tag?: string;
  readonly keys?: readonly string[];
  readonly properties?: ReadonlyMap<string, string>;
  readonly messageGroup?: string;
  /** When: an instant, or so long after it has become visible to the delay server. */
  readonly deliverAtMs?: number;
  readonly delayMs?: number;
  /** The user's own name for a delayed message, by which it can be canceled. */
  readonly key?: string;
};

export type HalfIdentity = { readonly id: MessageId; readonly txId: string; readonly databaseId: string };

/** Travels with each half: `database.transaction`. Checks are answered by it and by ESC_ID, never by a message id. */
export const txProperty = "ESC_TX";
/** What the ingest topic is told; the same names as in the ingest room. */
const toIngest = { topic: "ESC_TOPIC", deliverAt: "ESC_DELIVER_AT", delay: "ESC_DELAY", key: "ESC_KEY" } as const;

const refused = (code: HalfErrorCode, message: string) => new HalfError(code, message);

export const halfOf = (message: TxMessage, identity: HalfIdentity, ingestTopic: string | undefined): HalfMessage => {
  check(message);
  const { id, txId, databaseId } = identity;
  const properties = new Map(message.properties);
  properties.set(property.id, id);
  properties.set(txProperty, `${databaseId}.${txId}`);
  const { topic, tag, keys = [], body, deliverAtMs, delayMs, key } = message;
  const rest = { ...(tag === undefined ? {} : { tag }), keys, properties, body };
  if (deliverAtMs === undefined && delayMs === undefined) return { topic, ...rest };
  if (ingestTopic === undefined) {
    throw refused(
      "half_with_delay",
      "RocketMQ loses transactional messages that have a delivery time; name the delay server's transactional ingest topic, or send this topic in outbox mode",
    );
  }
  properties.set(toIngest.topic, topic);
  if (deliverAtMs !== undefined) properties.set(toIngest.deliverAt, String(deliverAtMs));
  else properties.set(toIngest.delay, String(delayMs));
  // Two copies of one half are one message there, whether the user has named it or not.
  properties.set(toIngest.key, key ?? id);
  return { topic: ingestTopic, ...rest };
};

/** Of a half or a received message; undefined when it is not one of ours. */
export const identityOf = (properties: ReadonlyMap<string, string>): HalfIdentity | undefined => {
  const id = properties.get(property.id);
  const [databaseId, txId, ...more] = (properties.get(txProperty) ?? "").split(".");
  if (id === undefined || !databaseId || !txId || more.length > 0 || !uuidPattern.test(id)) return undefined;
  return { id: id as MessageId, txId, databaseId };
};

const uuidPattern = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
/** ESC_ID, ESC_TX and what the ingest topic is told, names and values: taken from the 16 KiB of all properties. */
const ourPropertyBytes = 700;
const ourProperties = 5;
const propertiesMax = 128;
const controlCharacters = /[\u0000-\u001f\u007f]/;

const check = (message: TxMessage): void => {
  const { topic, body, tag, keys = [], properties = new Map<string, string>(), messageGroup } = message;
  if (!topicPattern.test(topic) || topic.startsWith("rmq_sys_")) {
    throw refused("half_invalid_topic", `"${topic.slice(0, 140)}" is not a topic name that RocketMQ allows`);
  }
  if (messageGroup !== undefined) {
    throw refused("half_with_group", "half messages have no order; send this topic in outbox mode, or without a group");
  }
  if (message.deliverAtMs !== undefined && message.delayMs !== undefined) {
    throw refused("half_with_delay", "give deliverAt or delay, not both");
  }
  if (body.length === 0) throw refused("half_empty_body", "RocketMQ refuses messages without a body");
  if (body.length > limits.bodyBytesMax) {
    throw refused(
      "half_body_too_large",
      `the body takes ${body.length} bytes, ${limits.bodyBytesMax} are allowed: a larger half breaks the stream on which the broker asks about it`,
    );
  }
  if (tag !== undefined && (tag.trim() === "" || tag.includes("|") || controlCharacters.test(tag))) {
    throw refused("half_invalid_tag", "a tag is not blank and has no | or control characters in it");
  }
  if (
    keys.length > limits.keysMax ||
    keys.some((key) => key.trim() === "" || /\s/.test(key) || controlCharacters.test(key))
  ) {
    throw refused("half_invalid_key", `at most ${limits.keysMax} keys, without blanks or control characters`);
  }
  if (properties.size > propertiesMax - ourProperties) {
    throw refused(
      "half_properties",
      `at most ${propertiesMax - ourProperties} properties, ${properties.size} were given`,
    );
  }
  let bytes = Buffer.byteLength(tag ?? "") + Buffer.byteLength(keys.join(" "));
  for (const [name, value] of properties) {
    if (isReservedProperty(name) || isObjectName(name)) {
      throw refused(
        "half_reserved_property",
        `property ${name} means something to RocketMQ or to Escapement; rename it`,
      );
    }
    if (name === "" || controlCharacters.test(name) || controlCharacters.test(value)) {
      throw refused(
        "half_properties",
        "property names are not empty, and neither names nor values have control characters",
      );
    }
    bytes += Buffer.byteLength(name) + Buffer.byteLength(value);
  }
  const bytesMax = limits.propertyBytesMax - ourPropertyBytes;
  if (bytes > bytesMax) {
    throw refused("half_properties", `properties, tag and keys take ${bytes} bytes, ${bytesMax} are allowed`);
  }
};
