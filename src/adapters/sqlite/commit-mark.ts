import { closeSync, fstatSync, fsyncSync, openSync, readSync, writeSync } from "node:fs";
import { crc32 } from "node:zlib";

/**
 * The number of the last commit that was on disk before anybody heard of it, in a file of its own, `escapement.db-mark`.
 * The database keeps the same number in itself, so that one that knows fewer commits than the mark has lost what was
 * acknowledged: its log was cut off or taken away, the end of it is damaged, or an older file was put in its place. To
 * SQLite all of these look like a tail that a power cut tore.
 *
 * The mark is written after each commit and handed to the disk only now and then (an fsync each would double the price
 * of a commit). So after a killed process it is exact, and after a power cut it may be some seconds behind: then it
 * cannot see the loss of what was committed since. It is never ahead.
 *
 * Two places of 16 bytes are written in turn, each with a checksum, so that a torn one leaves the other.
 */
export class CommitMark {
  readonly #file: number;
  #isUnsynced = false;
  #bytes = Buffer.alloc(placeBytes);

  constructor(path: string) {
    this.#file = openSync(path, "a+");
    closeSync(this.#file);
    this.#file = openSync(path, "r+");
  }

  /** 0 when there is none. */
  read(): number {
    const bytes = Buffer.alloc(2 * placeBytes);
    const length = Math.min(fstatSync(this.#file).size, bytes.length);
    readSync(this.#file, bytes, 0, length, 0);
    return Math.max(numberIn(bytes.subarray(0, placeBytes)), numberIn(bytes.subarray(placeBytes)));
  }

  write(commit: number): void {
    this.#bytes.writeDoubleLE(commit, 0);
    this.#bytes.writeUInt32LE(crc32(this.#bytes.subarray(0, 8), seed), 8);
    writeSync(this.#file, this.#bytes, 0, placeBytes, (commit % 2) * placeBytes);
    this.#isUnsynced = true;
  }

  sync(): void {
    if (!this.#isUnsynced) return;
    this.#isUnsynced = false;
    fsyncSync(this.#file);
  }

  close(): void {
    closeSync(this.#file);
  }
}

const placeBytes = 16;
/** Zeros are no mark. */
const seed = 0x65736370;

const numberIn = (place: Buffer): number =>
  crc32(place.subarray(0, 8), seed) === place.readUInt32LE(8) ? place.readDoubleLE(0) : 0;
