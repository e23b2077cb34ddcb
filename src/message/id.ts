import { createHash } from "node:crypto";

/**
 * Message ids. An id is a UUID and its last two bytes choose the shard, so an id alone finds its message.
 *
 * - Without a key: UUIDv7. Its tail is chosen by us, so that messages accepted together share a shard and travel in
 *   one store call.
 * - With a key: UUIDv5 of (tenant, message group, key). Cancel, reschedule, status and dedupe by the user's own key
 *   need no lookup table.
 * - In a message group, keyed or not, the tail is a hash of the group, so that a group lives in one shard and can be
 *   kept in order there. That is why the group belongs to the key's identity.
 *
 * In memory an id is its canonical lower-case text; stores keep the 16 raw bytes.
 */
export type MessageId = string & { readonly __brand: "MessageId" };

export const idBytes = 16;

const canonicalPattern = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** The id in canonical form, or undefined when the text is not a UUID. Upper case is accepted. */
export const parseMessageId = (text: string): MessageId | undefined => {
  const lower = text.toLowerCase();
  return canonicalPattern.test(lower) ? (lower as MessageId) : undefined;
};

export const idFromBytes = (bytes: Buffer, offset = 0): MessageId => {
  const hex = bytes.toString("hex", offset, offset + idBytes);
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}` as MessageId;
};

export const idIntoBytes = (id: MessageId, target: Buffer, offset = 0): void => {
  const hex = id.slice(0, 8) + id.slice(9, 13) + id.slice(14, 18) + id.slice(19, 23) + id.slice(24);
  target.write(hex, offset, idBytes, "hex");
};

export const idToBytes = (id: MessageId): Buffer => {
  const bytes = Buffer.allocUnsafe(idBytes);
  idIntoBytes(id, bytes);
  return bytes;
};

/** The shard of an id: its last two bytes modulo the fixed shard count. */
export const shardOf = (id: MessageId, shardCount: number): number => Number.parseInt(id.slice(32), 16) % shardCount;

/**
 * UUIDv7 (RFC 9562): 48 bits of time, then 74 random bits of which we set the last 16 to `tail`.
 * `random` must hold 10 random bytes.
 */
export const timeOrderedId = (nowMs: number, random: Uint8Array, tail: number): MessageId => {
  const bytes = Buffer.allocUnsafe(idBytes);
  bytes.writeUIntBE(nowMs, 0, 6);
  bytes.set(random.subarray(0, 10), 6);
  bytes[6] = (bytes[6]! & 0x0f) | 0x70;
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  bytes.writeUInt16BE(tail, 14);
  return idFromBytes(bytes);
};

/** When a time-ordered id was made, in epoch milliseconds. */
export const timeOfId = (id: MessageId): number => Number.parseInt(id.slice(0, 8) + id.slice(9, 13), 16);

// Our own namespace for name-based ids, drawn once at random; changing it would change the id of every key.
const keyNamespace = Buffer.from("6e2b6f0d5c0d4f7e9a2f1d2d0d7c4b11", "hex");

/** UUIDv5 (RFC 9562) of the parts; each part is length-prefixed so that ("a","bc") and ("ab","c") differ. */
export const nameBasedId = (parts: readonly string[], tail?: number): MessageId => {
  const hash = createHash("sha1").update(keyNamespace);
  for (const part of parts) hash.update(`${Buffer.byteLength(part)}:`).update(part);
  const bytes = hash.digest().subarray(0, idBytes) as Buffer;
  bytes[6] = (bytes[6]! & 0x0f) | 0x50;
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  if (tail !== undefined) bytes.writeUInt16BE(tail, 14);
  return idFromBytes(bytes);
};

/** The id of a user's key. The same (tenant, group, key) always gives the same id. */
export const idOfKey = (tenant: string, key: string, messageGroup?: string): MessageId =>
  messageGroup === undefined
    ? nameBasedId(["key", tenant, key])
    : nameBasedId(["group-key", tenant, messageGroup, key], groupTail(tenant, messageGroup));

/** The id tail, and so the shard, of a message group. */
export const groupTail = (tenant: string, messageGroup: string): number =>
  hash32(`${tenant}\0${messageGroup}`) & 0xffff;

/**
 * A lane is what must not hold up anything else: the messages of one tenant for one topic. Its number is a hash, so
 * that it needs no registry; two lanes that share a number by chance (1 in 4 billion a pair) merely share a queue.
 */
export const laneOf = (tenant: string, topic: string): number => hash32(`${tenant}\0${topic}`);

/** FNV-1a over UTF-16 code units with a final mix; 32 bits, unsigned. */
const hash32 = (text: string): number => {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) {
    hash ^= text.charCodeAt(i);
    hash = Math.imul(hash, 0x01000193);
  }
  hash ^= hash >>> 16;
  hash = Math.imul(hash, 0x85ebca6b);
  hash ^= hash >>> 13;
  return hash >>> 0;
};
