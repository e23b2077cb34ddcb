import type { DeadReason, Outcome, ScheduleItem } from "../../delay/delay-store.port.ts";
import { levelNone, readRecord, recordBytesMax, writeRecord } from "../../delay/record.ts";
import { idBytes, idFromBytes, idIntoBytes } from "../../message/id.ts";
import type { DelayedMessage } from "../../message/message.ts";
import type { EpochMs } from "../../message/time.ts";
import type { Accepted } from "./accepting.ts";
import type { Wake } from "./ledger.ts";
import type { Parcel } from "./parcel.ts";
import { groupOf } from "./waiting-room.ts";

/**
 * How messages, outcomes and wakes lie in a parcel. Numbers are little-endian, instants are doubles, and an instant
 * that is not given is NaN. The record is written on the thread that was asked and read on the thread that asked for
 * it; the thread of the file never looks into one.
 *
 * ```
 * message  id 16 · lane u32 · record's bytes u32 · due · expires · wake until · attempt u32 · flags u8 · group 16 · record
 * claimed  id 16 · attempt u32 · record's bytes u32 · record
 * outcome  id 16 · kind u8 · due, or the number of its reason
 * wake     id 16 · lane u32 · due
 * ```
 */

const messageBytes = 69;
const claimedBytes = 24;
const outcomeBytes = 25;
const wakeBytes = 28;
const flag = { keep: 1, replace: 2, group: 4 } as const;
const inlineNames = { level: levelNone, names: "inline" } as const;

export const putMessage = (parcel: Parcel, { message, onConflict, wakeUntilMs }: ScheduleItem, lane: number): void => {
  const at = parcel.length;
  const target = parcel.room(messageBytes + recordBytesMax(message, inlineNames));
  const group = groupOf(message);
  const end = writeRecord(target, at + messageBytes, message, inlineNames);
  idIntoBytes(message.id, target, at);
  target.writeUInt32LE(lane, at + 16);
  target.writeUInt32LE(end - at - messageBytes, at + 20);
  target.writeDoubleLE(message.deliverAtMs, at + 24);
  target.writeDoubleLE(message.expireAtMs ?? Number.NaN, at + 32);
  target.writeDoubleLE(wakeUntilMs ?? Number.NaN, at + 40);
  target.writeUInt32LE(message.attempt, at + 48);
  target[at + 52] = (onConflict === undefined ? 0 : flag[onConflict]) | (group === undefined ? 0 : flag.group);
  if (group !== undefined) target.set(group, at + 53);
  parcel.length = end;
};

/** Views into `bytes`: good for as long as the call. */
export const takeMessages = (bytes: Buffer, start: number, count: number): Accepted[] => {
  const taken = new Array<Accepted>(count);
  let at = start;
  for (let i = 0; i < count; i++) {
    const recordAt = at + messageBytes;
    const recordEnd = recordAt + bytes.readUInt32LE(at + 20);
    const flags = bytes[at + 52]!;
    taken[i] = {
      id: bytes.subarray(at, at + idBytes),
      record: bytes.subarray(recordAt, recordEnd),
      lane: bytes.readUInt32LE(at + 16),
      deliverAtMs: bytes.readDoubleLE(at + 24) as EpochMs,
      expireAtMs: instantAt(bytes, at + 32),
      wakeUntilMs: instantAt(bytes, at + 40),
      attempt: bytes.readUInt32LE(at + 48),
      onConflict: (flags & flag.keep) !== 0 ? "keep" : (flags & flag.replace) !== 0 ? "replace" : undefined,
      // A copy: it is compared with others after the call.
      group: (flags & flag.group) === 0 ? undefined : Uint8Array.from(bytes.subarray(at + 53, recordAt)),
    };
    at = recordEnd;
  }
  return taken;
};

export const putClaimed = (parcel: Parcel, id: Uint8Array, attempt: number, record: Uint8Array): void => {
  const at = parcel.length;
  const target = parcel.room(claimedBytes + record.length);
  target.set(id, at);
  target.writeUInt32LE(attempt, at + 16);
  target.writeUInt32LE(record.length, at + 20);
  target.set(record, at + claimedBytes);
  parcel.length = at + claimedBytes + record.length;
};

/** The bodies are views into `bytes`. */
export const takeClaimed = (bytes: Buffer, start: number, count: number): DelayedMessage[] => {
  const taken = new Array<DelayedMessage>(count);
  let at = start;
  for (let i = 0; i < count; i++) {
    const recordAt = at + claimedBytes;
    const end = recordAt + bytes.readUInt32LE(at + 20);
    taken[i] = readMessage(bytes, recordAt, end, bytes, at, bytes.readUInt32LE(at + 16));
    at = end;
  }
  return taken;
};

export const readMessage = (
  record: Buffer,
  start: number,
  end: number,
  id: Buffer,
  idAt: number,
  attempt: number,
): DelayedMessage => {
  const { message } = readRecord(record, start, end, idFromBytes(id, idAt), neverByLane);
  // Just made, and nobody else's yet.
  (message as { attempt: number }).attempt = attempt;
  return message;
};

const kinds = ["delivered", "retry", "give_back", "bury"] as const;

/** Answers the reasons of those that die, which travel beside the parcel. */
export const putOutcomes = (parcel: Parcel, outcomes: readonly Outcome[]): DeadReason[] => {
  const reasons: DeadReason[] = [];
  const target = parcel.room(outcomeBytes * outcomes.length);
  let at = parcel.length;
  for (const outcome of outcomes) {
    idIntoBytes(outcome.id, target, at);
    target[at + 16] = kinds.indexOf(outcome.kind);
    const number =
      outcome.kind === "retry" ? outcome.dueMs : outcome.kind === "bury" ? reasons.push(outcome.reason) - 1 : 0;
    target.writeDoubleLE(number, at + 17);
    at += outcomeBytes;
  }
  parcel.length = at;
  return reasons;
};

export type PackedOutcome = {
  readonly id: Buffer;
  readonly kind: Outcome["kind"];
  readonly dueMs: EpochMs;
  readonly reason: DeadReason | undefined;
};

export const takeOutcomes = (
  bytes: Buffer,
  start: number,
  count: number,
  reasons: readonly DeadReason[],
): PackedOutcome[] =>
  Array.from({ length: count }, (_, i) => {
    const at = start + i * outcomeBytes;
    const kind = kinds[bytes[at + 16]!]!;
    const number = bytes.readDoubleLE(at + 17);
    return {
      id: bytes.subarray(at, at + idBytes),
      kind,
      dueMs: number as EpochMs,
      reason: kind === "bury" ? reasons[number] : undefined,
    };
  });

export const putWakes = (parcel: Parcel, wakes: readonly Wake[]): void => {
  const target = parcel.room(wakeBytes * wakes.length);
  for (const { id, lane, dueMs } of wakes) {
    target.set(id, parcel.length);
    target.writeUInt32LE(lane, parcel.length + 16);
    target.writeDoubleLE(dueMs, parcel.length + 20);
    parcel.length += wakeBytes;
  }
};

export const takeWakes = (
  bytes: Buffer,
  start: number,
  count: number,
  hear: (id: Buffer, idAt: number, lane: number, dueMs: EpochMs) => void,
): void => {
  for (let at = start; at < start + count * wakeBytes; at += wakeBytes) {
    hear(bytes, at, bytes.readUInt32LE(at + 16), bytes.readDoubleLE(at + 20) as EpochMs);
  }
};

const instantAt = (bytes: Buffer, at: number): EpochMs | undefined => {
  const value = bytes.readDoubleLE(at);
  return Number.isNaN(value) ? undefined : (value as EpochMs);
};

const neverByLane = (): never => {
  throw new Error("a record without its names");
};
