import type { NearPage } from "../../delay/delay-store.port.ts";
import { idBytes } from "../../message/id.ts";
import { IdList } from "../../message/id-list.ts";
import { laneAndIdBytes } from "./lane-names.ts";

/**
 * Replies and cursors of the near script. The index keeps, in each bucket, milliseconds since the bucket's start as
 * decimals; they are added up here, where it is cheaper than in Redis.
 */
export type NearPosition = {
  readonly start: string;
  readonly bucket: Buffer;
  readonly score: string;
  readonly member: Buffer;
};

const nothing = Buffer.alloc(0);
export const firstPosition: NearPosition = { start: "0", bucket: nothing, score: "0", member: nothing };

export const parseCursor = (cursor: string | undefined): NearPosition => {
  if (cursor === undefined) return firstPosition;
  const [start, bucket, score, member] = cursor.split(".");
  const isWhole = [start, score].every((text) => text !== undefined && /^\d{1,16}$/.test(text));
  if (!isWhole || bucket === undefined || member === undefined) throw new RangeError("not a cursor of this store");
  return {
    start: start!,
    bucket: Buffer.from(bucket, "base64url"),
    score: score!,
    member: Buffer.from(member, "base64url"),
  };
};

export const decodeNear = (reply: readonly Buffer[]): NearPage => {
  const [buckets, scores, members, start, bucket, score, member] = reply;
  const count = members!.length / laneAndIdBytes;
  const ids = Buffer.allocUnsafe(count * idBytes);
  const lanes = new Uint32Array(count);
  const dueMs = new Float64Array(count);
  let inBucket = 0;
  let bucketAt = 0;
  let bucketStartMs = 0;
  let scoreAt = 0;
  for (let i = 0; i < count; i++) {
    if (inBucket === 0) {
      bucketStartMs = buckets!.readUIntBE(bucketAt, 6);
      inBucket = buckets!.readUInt16BE(bucketAt + 6);
      bucketAt += 8;
    }
    inBucket--;
    let offsetMs = 0;
    for (let digit = scores![scoreAt++]; digit !== undefined && digit !== blank; digit = scores![scoreAt++]) {
      offsetMs = offsetMs * 10 + digit - zero;
    }
    dueMs[i] = bucketStartMs + offsetMs;
    lanes[i] = members!.readUInt32BE(i * laneAndIdBytes);
    members!.copy(ids, i * idBytes, i * laneAndIdBytes + 4, (i + 1) * laneAndIdBytes);
  }
  const cursor =
    start === undefined
      ? undefined
      : `${start}.${bucket!.toString("base64url")}.${score}.${member!.toString("base64url")}`;
  return { ids: new IdList(ids, count), lanes, dueMs, cursor };
};

const blank = 0x20;
const zero = 0x30;
