import { hash } from "node:crypto";
import type { DeadReason, OnConflict, ScheduleItem, ScheduleResult } from "../../delay/delay-store.port.ts";
import { laneOfRecord, levelNone, type RecordForm, recordBytesMax, writeRecord } from "../../delay/record.ts";
import { idBytes, idIntoBytes } from "../../message/id.ts";
import type { DelayedMessage } from "../../message/message.ts";
import type { EpochMs } from "../../message/time.ts";
import { type LaneNameCache, LanesOfCall } from "./lane-names.ts";
import { stateOf } from "./states.ts";

/**
 * The arguments and replies of the schedule script. All records of a call travel as one argument: a hundred small ones
 * cost Redis and the client more in counting than in copying.
 */
const itemBytes = 25;
const option = { keep: 1, replace: 2, revive: 3, wake: 4, group: 8 } as const;
const outcomes = ["scheduled", "kept", "replaced", "too_late", "kept"] as const;

/** What the script does about an id that is known; only here it can also be to revive. */
type Item = Omit<ScheduleItem, "onConflict"> & { readonly onConflict?: OnConflict | "revive" };

export type ScheduleCall = { readonly lanes: LanesOfCall; readonly items: Buffer; readonly records: Buffer };

export const encodeSchedule = (
  shard: number,
  messages: readonly Item[],
  names: LaneNameCache,
  levels: LevelGuesses,
  nowMs: EpochMs,
): ScheduleCall => {
  const lanes = new LanesOfCall(names, shard);
  const items = Buffer.allocUnsafe(messages.length * itemBytes);
  const forms = messages.map(({ message }) => formOf(message, lanes.add(message), levels.guess(shard, message, nowMs)));
  let bytesMax = 0;
  for (const [i, { message }] of messages.entries()) bytesMax += recordBytesMax(message, forms[i]!);
  const records = Buffer.allocUnsafe(bytesMax);
  let end = 0;
  for (const [i, item] of messages.entries()) {
    const start = end;
    end = writeRecord(records, start, item.message, forms[i]!);
    const at = i * itemBytes;
    items[at] = optionsOf(item);
    items.writeUInt32BE(end - start, at + 1);
    items.writeUInt32BE(laneOfRecord(records, start), at + 5);
    idIntoBytes(item.message.id, items, at + 9);
  }
  return { lanes, items, records: records.subarray(0, end) };
};

/** The arguments of the bury script: records that are dead from the start. */
export const encodeBury = (
  shard: number,
  burials: readonly { message: DelayedMessage; reason: DeadReason }[],
  names: LaneNameCache,
  nowMs: EpochMs,
): ScheduleCall => {
  const lanes = new LanesOfCall(names, shard);
  const forms = burials.map(
    ({ message, reason }): RecordForm => ({
      names: lanes.add(message),
      level: levelNone,
      attempt: message.attempt,
      dead: { endedAtMs: nowMs, reason },
    }),
  );
  const items = Buffer.allocUnsafe(burials.length * (4 + idBytes));
  const records = Buffer.allocUnsafe(
    burials.reduce((sum, { message }, i) => sum + recordBytesMax(message, forms[i]!), 0),
  );
  let end = 0;
  for (const [i, { message }] of burials.entries()) {
    const start = end;
    end = writeRecord(records, start, message, forms[i]!);
    items.writeUInt32BE(end - start, i * (4 + idBytes));
    idIntoBytes(message.id, items, i * (4 + idBytes) + 4);
  }
  return { lanes, items, records: records.subarray(0, end) };
};

export const decodeSchedule = (
  shard: number,
  messages: readonly Pick<ScheduleItem, "message">[],
  codes: Buffer,
  facts: Buffer,
  levels: LevelGuesses,
  nowMs: EpochMs,
): ScheduleResult[] => {
  let factsAt = 0;
  return messages.map(({ message }, i) => {
    const code = codes[2 * i]!;
    const outcome = outcomes[code >> 4]!;
    if (codes[2 * i + 1] !== levelNone) levels.learn(shard, message, nowMs, codes[2 * i + 1]!);
    if (outcome === "scheduled") {
      return { outcome, state: "scheduled", deliverAtMs: message.deliverAtMs, attempt: 0 };
    }
    const deliverAtMs = facts.readUIntBE(factsAt, 6) as EpochMs;
    const attempt = facts.readUInt16BE(factsAt + 6);
    factsAt += 8;
    return { outcome, state: stateOf(code & 15), deliverAtMs, attempt };
  });
};

/**
 * Where in the index there was room the last time, by shard and by how far away the due was. A wrong guess costs the
 * script a few look-ups, and a right one saves it writing the level into the record.
 */
export class LevelGuesses {
  readonly #levels: Uint8Array;

  constructor(shardCount: number) {
    this.#levels = new Uint8Array(shardCount * distances).fill(levelTop);
  }

  guess(shard: number, message: DelayedMessage, nowMs: EpochMs): number {
    return this.#levels[shard * distances + distanceOf(message.deliverAtMs - nowMs)]!;
  }

  learn(shard: number, message: DelayedMessage, nowMs: EpochMs, level: number): void {
    this.#levels[shard * distances + distanceOf(message.deliverAtMs - nowMs)] = level;
  }
}

const levelTop = 12;
const distances = 48;
const distanceOf = (delayMs: number): number => (delayMs < 1 ? 0 : Math.min(distances - 1, Math.log2(delayMs) | 0));

const formOf = (message: DelayedMessage, names: "byLane" | "inline", level: number): RecordForm =>
  message.messageGroup === undefined
    ? { names, level }
    : { names, level: levelNone, group: hashOfGroup(message.tenant, message.topic, message.messageGroup) };

const hashOfGroup = (tenant: string, topic: string, group: string): Buffer =>
  hash("sha1", JSON.stringify([tenant, topic, group]), "buffer").subarray(0, idBytes);

const optionsOf = ({ message, onConflict, wakeUntilMs }: Item): number => {
  let options = 0;
  if (onConflict !== undefined) options |= option[onConflict];
  if (wakeUntilMs !== undefined && message.deliverAtMs <= wakeUntilMs) options |= option.wake;
  if (message.messageGroup !== undefined) options |= option.group;
  return options;
};
