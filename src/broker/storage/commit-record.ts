import type { BrokerMessage, MessageType, StoredMessage } from "../broker-message.ts";

/**
 * A record of the commit log: a message, or the news that a topic was deleted, so that who reads the log from its
 * beginning does not bring back what was in it. Thirty-eight bytes of numbers, then texts, properties and body as they
 * are; reading makes views and parses nothing. Fields:
 *
 *     0  u8   0 message, 1 topic deleted          20  u16  length of the tag, noText for none
 *     1  u8   message type                        22  u16  length of the message group, noText for none
 *     2  u16  queue                               24  u32  length of the user properties
 *     4  u48  offset in the queue                 28  u32  length of the system properties
 *    10  u48  stored at, ms                       32  u48  deliver at, ms; zero for none
 *    16  u16  length of the topic                 38  topic, message id, tag, group, user properties,
 *    18  u16  length of the message id                system properties, body
 */
const fixedBytes = 38;
const noText = 0xffff;
const types: readonly MessageType[] = ["NORMAL", "FIFO", "DELAY", "TRANSACTION"];
const topicDeleted = 1;

/** Where it goes, which is the same for many messages: the topic's bytes are made once. */
export type Place = { readonly topicBytes: Buffer; readonly queueId: number };

export const encodeMessage = (
  { topicBytes, queueId }: Place,
  message: BrokerMessage,
  queueOffset: number,
  storedAtMs: number,
): Buffer => {
  const { messageId, type, tag, messageGroup, deliverAtMs, userProperties, systemProperties, body } = message;
  const idBytes = Buffer.byteLength(messageId);
  const tagBytes = tag === undefined ? 0 : Buffer.byteLength(tag);
  const groupBytes = messageGroup === undefined ? 0 : Buffer.byteLength(messageGroup);
  const texts = topicBytes.length + idBytes + tagBytes + groupBytes;
  const record = Buffer.allocUnsafe(fixedBytes + texts + userProperties.length + systemProperties.length + body.length);
  record[0] = 0;
  record[1] = types.indexOf(type);
  record.writeUInt16LE(queueId, 2);
  record.writeUIntLE(queueOffset, 4, 6);
  record.writeUIntLE(storedAtMs, 10, 6);
  record.writeUInt16LE(topicBytes.length, 16);
  record.writeUInt16LE(idBytes, 18);
  record.writeUInt16LE(tag === undefined ? noText : tagBytes, 20);
  record.writeUInt16LE(messageGroup === undefined ? noText : groupBytes, 22);
  record.writeUInt32LE(userProperties.length, 24);
  record.writeUInt32LE(systemProperties.length, 28);
  record.writeUIntLE(deliverAtMs ?? 0, 32, 6);
  let at = fixedBytes + topicBytes.copy(record, fixedBytes);
  at += record.write(messageId, at);
  if (tag !== undefined) at += record.write(tag, at);
  if (messageGroup !== undefined) at += record.write(messageGroup, at);
  at += userProperties.copy(record, at);
  at += systemProperties.copy(record, at);
  body.copy(record, at);
  return record;
};

export const decodeMessage = (record: Buffer): StoredMessage => {
  let at = fixedBytes;
  const view = (length: number): Buffer => {
    at += length;
    return record.subarray(at - length, at);
  };
  const text = (length: number): string => {
    at += length;
    return record.toString("utf8", at - length, at);
  };
  const optional = (length: number): string | undefined => (length === noText ? undefined : text(length));
  const deliverAtMs = record.readUIntLE(32, 6);
  return {
    topic: text(record.readUInt16LE(16)),
    messageId: text(record.readUInt16LE(18)),
    tag: optional(record.readUInt16LE(20)),
    messageGroup: optional(record.readUInt16LE(22)),
    userProperties: view(record.readUInt32LE(24)),
    systemProperties: view(record.readUInt32LE(28)),
    body: record.subarray(at),
    type: types[record[1]!]!,
    deliverAtMs: deliverAtMs === 0 ? undefined : deliverAtMs,
    queueId: record.readUInt16LE(2),
    queueOffset: record.readUIntLE(4, 6),
    storedAtMs: storedAtMsOf(record),
  };
};

export const encodeTopicDeleted = (topic: string, storedAtMs: number): Buffer => {
  const record = Buffer.alloc(fixedBytes + Buffer.byteLength(topic));
  record[0] = topicDeleted;
  record.writeUIntLE(storedAtMs, 10, 6);
  record.writeUInt16LE(Buffer.byteLength(topic), 16);
  record.write(topic, fixedBytes);
  return record;
};

export const isTopicDeleted = (record: Buffer): boolean => record[0] === topicDeleted;

/** The few fields that recovery wants of a million records. */
export const queueIdOf = (record: Buffer): number => record.readUInt16LE(2);
export const queueOffsetOf = (record: Buffer): number => record.readUIntLE(4, 6);
export const storedAtMsOf = (record: Buffer): number => record.readUIntLE(10, 6);
export const topicOf = (record: Buffer): string =>
  record.toString("utf8", fixedBytes, fixedBytes + record.readUInt16LE(16));
export const tagOf = (record: Buffer): string | undefined => {
  const length = record.readUInt16LE(20);
  const at = fixedBytes + record.readUInt16LE(16) + record.readUInt16LE(18);
  return length === noText ? undefined : record.toString("utf8", at, at + length);
};
