import { closeSync, fstatSync, openSync, readSync } from "node:fs";

/**
 * Looks at the write-ahead log before SQLite does. SQLite takes the log up to the first frame whose checksum is wrong
 * and forgets the rest without a word: right for a tail that a power cut tore, but one flipped bit in the middle would
 * silently take back everything acknowledged after it.
 *
 * The two can be told apart, because every commit was on disk before the next one began: behind a torn frame there can
 * be the end of at most one commit. Two or more ends of commits of the same generation (the same salts) are damage. A
 * log cut off at its end, or damage in its very last commit, looks like a torn tail; that is for commit-mark.ts to find.
 *
 * The file's format is SQLite's ("WAL-mode file format"): a header of 32 bytes, then frames of 24 bytes and a page; the
 * checksum runs on from frame to frame.
 */
export const isLogDamaged = (path: string): boolean => {
  const file = openIfThere(path);
  if (file === undefined) return false;
  try {
    return isDamaged(file, fstatSync(file).size);
  } finally {
    closeSync(file);
  }
};

const headerBytes = 32;
const frameHeaderBytes = 24;
const magic = 0x377f0682;

const isDamaged = (file: number, size: number): boolean => {
  if (size < headerBytes) return false;
  const header = Buffer.alloc(headerBytes);
  readSync(file, header, 0, headerBytes, 0);
  if (header.every((byte) => byte === 0)) return false; // made, but never written
  const sum = new Checksum((header.readUInt32BE(0) & 1) === 1);
  sum.add(header, 0, 24);
  // It is written in one piece and synced before the first frame.
  if ((header.readUInt32BE(0) & ~1) >>> 0 !== magic || !sum.is(header, 24)) return size > headerBytes;

  const salts = header.subarray(16, 24);
  const pageBytes = header.readUInt32BE(8);
  const frame = Buffer.alloc(frameHeaderBytes + pageBytes);
  let isWhole = true;
  let commitsBehind = 0;
  for (let at = headerBytes; at + frame.length <= size; at += frame.length) {
    readSync(file, frame, 0, isWhole ? frame.length : frameHeaderBytes, at);
    const isOfGeneration = frame.compare(salts, 0, 8, 8, 16) === 0;
    if (isWhole) {
      sum.add(frame, 0, 8);
      sum.add(frame, frameHeaderBytes, frame.length);
      isWhole = isOfGeneration && sum.is(frame, 16);
    }
    const endsCommit = frame.readUInt32BE(4) !== 0;
    if (!isWhole && isOfGeneration && endsCommit && ++commitsBehind === 2) return true;
  }
  return false;
};

/** SQLite's own: two sums over 32-bit words, each fed with the other. */
class Checksum {
  #first = 0;
  #second = 0;
  readonly #isBigEndian: boolean;

  constructor(isBigEndian: boolean) {
    this.#isBigEndian = isBigEndian;
  }

  /** `end - start` is a multiple of 8. */
  add(bytes: Buffer, start: number, end: number): void {
    for (let at = start; at < end; at += 8) {
      this.#first = (this.#first + this.#word(bytes, at) + this.#second) | 0;
      this.#second = (this.#second + this.#word(bytes, at + 4) + this.#first) | 0;
    }
  }

  is(bytes: Buffer, at: number): boolean {
    return bytes.readInt32BE(at) === this.#first && bytes.readInt32BE(at + 4) === this.#second;
  }

  #word(bytes: Buffer, at: number): number {
    return this.#isBigEndian ? bytes.readInt32BE(at) : bytes.readInt32LE(at);
  }
}

const openIfThere = (path: string): number | undefined => {
  try {
    return openSync(path, "r");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  }
};
