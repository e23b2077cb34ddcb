import type { BrokerMessage, MessageType } from "./broker-message.ts";

/**
 * A whole message as bytes, for when it must wait somewhere as the body of another: half messages wait in the log,
 * delayed ones in the delay store. Version, a JSON head with what is short, and three lengths of bytes.
 */
const version = 1;
const prefixBytes = 13;

type Head = {
  readonly topic: string;
  readonly messageId: string;
  readonly type: MessageType;
  readonly tag?: string;
  readonly messageGroup?: string;
  readonly deliverAtMs?: number;
};

export const wrap = (message: BrokerMessage): Buffer => {
  const { userProperties, systemProperties, body, ...head } = message;
  const headBytes = Buffer.from(JSON.stringify(head));
  const prefix = Buffer.allocUnsafe(prefixBytes);
  prefix.writeUInt8(version, 0);
  prefix.writeUInt32LE(headBytes.length, 1);
  prefix.writeUInt32LE(userProperties.length, 5);
  prefix.writeUInt32LE(systemProperties.length, 9);
  return Buffer.concat([prefix, headBytes, userProperties, systemProperties, body]);
};

/** Throws on what `wrap` did not make. */
export const unwrap = (bytes: Buffer): BrokerMessage => {
  if (bytes.length < prefixBytes || bytes[0] !== version) throw new Error("not a wrapped message of this version");
  const userAt = prefixBytes + bytes.readUInt32LE(1);
  const systemAt = userAt + bytes.readUInt32LE(5);
  const bodyAt = systemAt + bytes.readUInt32LE(9);
  if (bodyAt > bytes.length) throw new Error("a wrapped message that ends too early");
  const { topic, messageId, type, tag, messageGroup, deliverAtMs } = JSON.parse(
    bytes.toString("utf8", prefixBytes, userAt),
  ) as Head;
  return {
    topic,
    messageId,
    type,
    tag,
    messageGroup,
    deliverAtMs,
    userProperties: bytes.subarray(userAt, systemAt),
    systemProperties: bytes.subarray(systemAt, bodyAt),
    body: bytes.subarray(bodyAt),
  };
};
