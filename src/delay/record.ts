import type { MessageId } from "../message/id.ts";
import { laneOf } from "../message/id.ts";
import type { DelayedMessage, RetryOptions } from "../message/message.ts";
import type { DurationMs, EpochMs } from "../message/time.ts";
import type { DeadReason } from "./delay-store.port.ts";

/**
 * How a store keeps a message: one string of bytes, written once and carried along unread. It is not the index (who is
 * due when) and does not hold the id, which is its name in every store.
 *
 * ```
 *  0  flags        u8   1 dead · 2 attempt · 4 deliverAt · 8 expireAt · 16 group · 32 envelope · 64 properties
 *  1  level        u4   where the store's index has it; 15 is nowhere · version u4, now 1
 *  2  due          u48  ms
 *  8  lane         u32  hash of tenant and topic
 * 12  acceptedAt   u48
 * 18  then only what the flags announce, in this order:
 *     attempt u16 · deliverAt u48, where it is not the due · expireAt u48 · group: 16 bytes of hash, u48 number of
 *     acceptance · dead: endedAt u48, u16 length, reason · u16 length, envelope · u16 length, properties
 *     and the body to the end
 * ```
 *
 * What surprised us: a store's allocator decides. With Redis a value of up to 220 bytes takes 224 and one of 221 takes
 * 256, so a plain message with a body of 200 bytes may spend 20 on everything else. That is why tenant and topic are
 * not in here (a store keeps the names of each lane once; `names: "inline"` is for those that do not) and why what is
 * seldom there takes no place when it is not.
 */
export const recordVersion = 1;
export const levelNone = 15;

const flag = { dead: 1, attempt: 2, deliverAt: 4, expireAt: 8, group: 16, envelope: 32, properties: 64 } as const;
const inEnvelope = { names: 1, tag: 2, keys: 4, group: 8, key: 16, retry: 32 } as const;
const fixedBytes = 18;
const sectionBytesMax = 65_535;
/** A reason is for people: what is longer is cut. */
const reasonDetailBytesMax = 4_096;

export type RecordForm = {
  /** The first guess where the index has room; the store corrects it. */
  readonly level: number;
  /** `byLane`: the store knows tenant and topic by the lane's number. */
  readonly names: "byLane" | "inline";
  readonly attempt?: number;
  /** 16 bytes that stand for the message group; set only where the store keeps the group in order. */
  readonly group?: Buffer;
  readonly dead?: { readonly endedAtMs: EpochMs; readonly reason: DeadReason };
};

export type LaneNames = { readonly tenant: string; readonly topic: string };

export type RecordContents = {
  readonly isDead: boolean;
  readonly dueMs: EpochMs;
  readonly message: DelayedMessage;
  readonly endedAtMs?: EpochMs;
  readonly reason?: DeadReason;
};

/** An upper limit for the bytes that `writeRecord` will take. UTF-8 needs at most three bytes per UTF-16 unit. */
export const recordBytesMax = (message: DelayedMessage, form: RecordForm): number => {
  let texts = length(message.tag) + length(message.messageGroup) + length(message.key);
  if (form.names === "inline") texts += message.tenant.length + message.topic.length;
  for (const key of message.keys) texts += key.length;
  let counted = 0;
  for (const [name, value] of message.properties) {
    texts += name.length + value.length;
    counted += 4;
  }
  const reason = form.dead === undefined ? 0 : 3 * form.dead.reason.code.length + reasonDetailBytesMax + 16;
  return 128 + 2 * message.keys.length + counted + 3 * texts + reason + message.body.length;
};

/** Writes the record of `message` as waiting (or dead) with `deliverAtMs` as its due; answers where it ends. */
export const writeRecord = (target: Buffer, start: number, message: DelayedMessage, form: RecordForm): number => {
  let flags = 0;
  target[start + 1] = (form.level << 4) | recordVersion;
  writeTime(target, start + 2, message.deliverAtMs);
  target.writeUInt32BE(laneOf(message.tenant, message.topic), start + 8);
  writeTime(target, start + 12, message.acceptedAtMs);
  let at = start + fixedBytes;
  if (form.attempt !== undefined && form.attempt > 0) {
    flags |= flag.attempt;
    at = target.writeUInt16BE(form.attempt, at);
  }
  if (message.expireAtMs !== undefined) {
    flags |= flag.expireAt;
    at = writeTime(target, at, message.expireAtMs);
  }
  if (form.group !== undefined) {
    flags |= flag.group;
    target.set(form.group, at);
    target.fill(0, at + 16, at + 22);
    at += 22;
  }
  if (form.dead !== undefined) {
    flags |= flag.dead;
    at = writeTime(target, at, form.dead.endedAtMs);
    const reason = encodeReason(form.dead.reason);
    at = target.writeUInt16BE(reason.length, at);
    target.set(reason, at);
    at += reason.length;
  }
  const afterEnvelope = writeSection(target, at, writeEnvelope(target, at + 2, message, form.names === "inline"));
  if (afterEnvelope !== at) flags |= flag.envelope;
  at = afterEnvelope;
  if (message.properties.size > 0) {
    flags |= flag.properties;
    at = writeSection(target, at, writeProperties(target, at + 2, message.properties));
  }
  target[start] = flags;
  target.set(message.body, at);
  return at + message.body.length;
};

/** Properties as they lie in a record, for a store that puts others in their place. */
export const encodeProperties = (properties: ReadonlyMap<string, string>): Buffer => {
  let bytes = 0;
  for (const [name, value] of properties) bytes += 4 + 3 * (name.length + value.length);
  const target = Buffer.allocUnsafe(bytes);
  const end = writeProperties(target, 0, properties);
  if (end > sectionBytesMax) throw tooLong("properties", end);
  return target.subarray(0, end);
};

/** A reason as it lies in a record: length and code, then the detail to the end. */
export const encodeReason = ({ code, detail }: DeadReason): Buffer => {
  const codeBytes = Buffer.from(code).subarray(0, 255);
  let detailBytes = Buffer.from(detail);
  if (detailBytes.length > reasonDetailBytesMax) {
    let end = reasonDetailBytesMax;
    while ((detailBytes[end]! & 0xc0) === 0x80) end--; // not in the middle of a character
    detailBytes = detailBytes.subarray(0, end);
  }
  return Buffer.concat([Buffer.from([codeBytes.length]), codeBytes, detailBytes]);
};

/** The number of the lane a record belongs to. */
export const laneOfRecord = (source: Buffer, start: number): number => source.readUInt32BE(start + 8);

/** Due and length of the body of a record, without reading the rest. */
export const outlineOf = (source: Buffer): { readonly dueMs: EpochMs; readonly bodyBytes: number } => {
  const flags = source[0]!;
  let at = fixedBytes;
  if ((flags & flag.attempt) !== 0) at += 2;
  if ((flags & flag.deliverAt) !== 0) at += 6;
  if ((flags & flag.expireAt) !== 0) at += 6;
  if ((flags & flag.group) !== 0) at += 22;
  if ((flags & flag.dead) !== 0) at += 8 + source.readUInt16BE(at + 6);
  if ((flags & flag.envelope) !== 0) at += 2 + source.readUInt16BE(at);
  if ((flags & flag.properties) !== 0) at += 2 + source.readUInt16BE(at);
  return { dueMs: readTime(source, 2), bodyBytes: source.length - at };
};

/**
 * Reads a record. The body is a view into `source`. `namesOf` is asked for tenant and topic where they are not
 * inline.
 */
export const readRecord = (
  source: Buffer,
  start: number,
  end: number,
  id: MessageId,
  namesOf: (lane: number) => LaneNames,
): RecordContents => {
  const flags = source[start]!;
  const version = source[start + 1]! & 15;
  if (version !== recordVersion) throw new Error(`a record of version ${version}; this program reads ${recordVersion}`);
  const dueMs = readTime(source, start + 2);
  const message = emptyMessage(id);
  message.acceptedAtMs = readTime(source, start + 12);
  message.deliverAtMs = dueMs;
  let at = start + fixedBytes;
  if ((flags & flag.attempt) !== 0) {
    message.attempt = source.readUInt16BE(at);
    at += 2;
  }
  if ((flags & flag.deliverAt) !== 0) {
    message.deliverAtMs = readTime(source, at);
    at += 6;
  }
  if ((flags & flag.expireAt) !== 0) {
    message.expireAtMs = readTime(source, at);
    at += 6;
  }
  if ((flags & flag.group) !== 0) at += 22;
  let ended: { endedAtMs: EpochMs; reason: DeadReason } | undefined;
  if ((flags & flag.dead) !== 0) {
    const reasonAt = at + 8;
    const reasonEnd = reasonAt + source.readUInt16BE(at + 6);
    ended = { endedAtMs: readTime(source, at), reason: readReason(source, reasonAt, reasonEnd) };
    at = reasonEnd;
  }
  let mask = 0;
  if ((flags & flag.envelope) !== 0) {
    const envelopeEnd = at + 2 + source.readUInt16BE(at);
    mask = source[at + 2]!;
    readEnvelope(source, at + 2, message);
    at = envelopeEnd;
  }
  if ((mask & inEnvelope.names) === 0) {
    const { tenant, topic } = namesOf(laneOfRecord(source, start));
    message.tenant = tenant;
    message.topic = topic;
  }
  if ((flags & flag.properties) !== 0) {
    const propertiesEnd = at + 2 + source.readUInt16BE(at);
    message.properties = readProperties(source, at + 2, propertiesEnd);
    at = propertiesEnd;
  }
  message.body = source.subarray(at, end);
  return { isDead: (flags & flag.dead) !== 0, dueMs, message, ...ended };
};

// --- the sections -------------------------------------------------------------------------------------------------

const writeEnvelope = (target: Buffer, start: number, message: DelayedMessage, withNames: boolean): number => {
  const { tag, keys, messageGroup, key, retry } = message;
  let mask = 0;
  let at = start + 1;
  if (withNames) {
    mask |= inEnvelope.names;
    at = writeText(target, at, message.tenant);
    at = writeText(target, at, message.topic);
  }
  if (tag !== undefined) {
    mask |= inEnvelope.tag;
    at = writeText(target, at, tag);
  }
  if (keys.length > 0) {
    mask |= inEnvelope.keys;
    at = target.writeUInt8(keys.length, at);
    for (const one of keys) at = writeText(target, at, one);
  }
  if (messageGroup !== undefined) {
    mask |= inEnvelope.group;
    at = writeText(target, at, messageGroup);
  }
  if (key !== undefined) {
    mask |= inEnvelope.key;
    at = writeText(target, at, key);
  }
  if (retry !== undefined) {
    mask |= inEnvelope.retry;
    at = writeRetry(target, at, retry);
  }
  target[start] = mask;
  return mask === 0 ? start : at;
};

const readEnvelope = (source: Buffer, start: number, message: Draft): void => {
  const mask = source[start]!;
  let at = start + 1;
  const text = (): string => {
    const end = at + 2 + source.readUInt16BE(at);
    const read = source.toString("utf8", at + 2, end);
    at = end;
    return read;
  };
  if ((mask & inEnvelope.names) !== 0) {
    message.tenant = text();
    message.topic = text();
  }
  if ((mask & inEnvelope.tag) !== 0) message.tag = text();
  if ((mask & inEnvelope.keys) !== 0) {
    const count = source[at++]!;
    message.keys = Array.from({ length: count }, text);
  }
  if ((mask & inEnvelope.group) !== 0) message.messageGroup = text();
  if ((mask & inEnvelope.key) !== 0) message.key = text();
  if ((mask & inEnvelope.retry) !== 0) message.retry = readRetry(source, at);
};

const writeRetry = (
  target: Buffer,
  at: number,
  { maxAttempts, initialMs, maxMs, multiplier }: RetryOptions,
): number => {
  target.writeUInt16BE(maxAttempts, at);
  target.writeUIntBE(initialMs, at + 2, 6);
  target.writeUIntBE(maxMs, at + 8, 6);
  return target.writeDoubleBE(multiplier, at + 14);
};

const readRetry = (source: Buffer, at: number): RetryOptions => ({
  maxAttempts: source.readUInt16BE(at),
  initialMs: source.readUIntBE(at + 2, 6) as DurationMs,
  maxMs: source.readUIntBE(at + 8, 6) as DurationMs,
  multiplier: source.readDoubleBE(at + 14),
});

const writeProperties = (target: Buffer, start: number, properties: ReadonlyMap<string, string>): number => {
  let at = start;
  for (const [name, value] of properties) at = writeText(target, writeText(target, at, name), value);
  return at;
};

const readProperties = (source: Buffer, start: number, end: number): Map<string, string> => {
  const properties = new Map<string, string>();
  for (let at = start; at < end; ) {
    const nameEnd = at + 2 + source.readUInt16BE(at);
    const valueEnd = nameEnd + 2 + source.readUInt16BE(nameEnd);
    properties.set(source.toString("utf8", at + 2, nameEnd), source.toString("utf8", nameEnd + 2, valueEnd));
    at = valueEnd;
  }
  return properties;
};

const readReason = (source: Buffer, start: number, end: number): DeadReason => {
  const codeEnd = start + 1 + source[start]!;
  return { code: source.toString("utf8", start + 1, codeEnd), detail: source.toString("utf8", codeEnd, end) };
};

/** Puts the length in front of what was written from `at + 2` to `end`; nothing written takes no place. */
const writeSection = (target: Buffer, at: number, end: number): number => {
  const bytes = end - at - 2;
  if (bytes > sectionBytesMax) throw tooLong("a section", bytes);
  if (bytes === 0) return at;
  target.writeUInt16BE(bytes, at);
  return end;
};

const writeText = (target: Buffer, at: number, text: string): number => {
  const bytes = target.write(text, at + 2);
  if (bytes > sectionBytesMax) throw tooLong("a text", bytes);
  target.writeUInt16BE(bytes, at);
  return at + 2 + bytes;
};

const writeTime = (target: Buffer, at: number, timeMs: number): number => target.writeUIntBE(timeMs, at, 6);

const readTime = (source: Buffer, at: number): EpochMs => source.readUIntBE(at, 6) as EpochMs;

const tooLong = (what: string, bytes: number): RangeError =>
  new RangeError(`${what} of ${bytes} bytes; a record holds ${sectionBytesMax}`);

const length = (text: string | undefined): number => (text === undefined ? 0 : text.length);

type Draft = { -readonly [K in keyof DelayedMessage]: DelayedMessage[K] };

const noBody = Buffer.alloc(0);
const noProperties: ReadonlyMap<string, string> = new Map();
const noKeys: readonly string[] = [];

const emptyMessage = (id: MessageId): Draft => ({
  id,
  tenant: "",
  topic: "",
  keys: noKeys,
  properties: noProperties,
  body: noBody,
  deliverAtMs: 0 as EpochMs,
  acceptedAtMs: 0 as EpochMs,
  attempt: 0,
});
