import { crc32 } from "node:zlib";

/**
 * How a record lies in a segment: twelve bytes before it.
 *
 *     0  check of this header and of the place it stands at
 *     4  CRC32 of the record
 *     8  length of the record
 *
 * The header has a check of its own so that its length can be trusted when the record is damaged: what comes after it
 * is then found at once. That the check knows the place means that bytes of another time or place, left in a segment
 * or written inside a message, are never taken for a record. A length of `sealed` says that the rest of the segment is
 * empty and the next one goes on.
 */
export const frameHeaderBytes = 12;
export const sealed = 0xffff_ffff;

export const writeFrameHeader = (target: Buffer, at: number, position: number, record: Buffer): void => {
  writeHeader(target, at, position, record.length, crc32(record));
};

export const sealFrame = (position: number): Buffer => {
  const frame = Buffer.allocUnsafe(frameHeaderBytes);
  writeHeader(frame, 0, position, sealed, 0);
  return frame;
};

const writeHeader = (target: Buffer, at: number, position: number, length: number, crc: number): void => {
  target.writeInt32LE(headerCheck(position, length, crc), at);
  target.writeUInt32LE(crc, at + 4);
  target.writeUInt32LE(length, at + 8);
};

/** The length in the header at `at`, or undefined when none was written for this position. */
export const frameLength = (source: Buffer, at: number, position: number): number | undefined => {
  const length = source.readUInt32LE(at + 8);
  // First what costs least: the search for the next whole record asks this at every byte.
  if (length === 0) return undefined;
  const crc = source.readUInt32LE(at + 4);
  return source.readInt32LE(at) === headerCheck(position, length, crc) ? length : undefined;
};

/** Whether the record behind the header at `at` is as it was written. */
export const isRecordWhole = (source: Buffer, at: number, length: number): boolean =>
  crc32(source.subarray(at + frameHeaderBytes, at + frameHeaderBytes + length)) === source.readUInt32LE(at + 4);

/** MurmurHash3's mixing over four numbers: a call of crc32 for twelve bytes would cost ten times as much. */
const headerCheck = (position: number, length: number, crc: number): number => {
  let hash = mix(0x45_53_43_31, position | 0);
  hash = mix(hash, (position / 2 ** 32) | 0);
  hash = mix(hash, length | 0);
  hash = mix(hash, crc | 0);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return hash ^ (hash >>> 16);
};

export const mix = (hash: number, value: number): number => {
  let stirred = Math.imul(value, 0xcc9e2d51);
  stirred = Math.imul((stirred << 15) | (stirred >>> 17), 0x1b873593) ^ hash;
  return (Math.imul((stirred << 13) | (stirred >>> 19), 5) + 0xe6546b64) | 0;
};
