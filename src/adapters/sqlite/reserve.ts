import { randomFillSync } from "node:crypto";
import { closeSync, fstatSync, fsyncSync, ftruncateSync, openSync, writeSync } from "node:fs";

/**
 * Room on the disk that is kept for the day it is full. On that day the log lies there complete and can neither grow
 * nor be carried back into a file that cannot grow either, so that not even a delivery could be recorded. Giving up
 * `escapement.db-reserve` lets what is stored go out; accepting waits until there is a reserve again.
 *
 * It grows by a step each time it is asked to, so that nobody waits for it, and is filled with chance, because a file
 * system may keep zeros for nothing.
 */
export class Reserve {
  readonly #file: number;
  readonly #wantedBytes: number;
  #bytes: number;

  constructor(path: string, wantedBytes: number) {
    this.#wantedBytes = wantedBytes;
    closeSync(openSync(path, "a"));
    this.#file = openSync(path, "r+");
    this.#bytes = fstatSync(this.#file).size;
  }

  get isWhole(): boolean {
    return this.#bytes >= this.#wantedBytes;
  }

  /** Answers whether there was something to give. */
  release(): boolean {
    if (this.#bytes === 0) return false;
    ftruncateSync(this.#file, 0);
    this.#bytes = 0;
    return true;
  }

  /** A step of it; false when the disk has no room for that. */
  grow(): boolean {
    if (this.isWhole) return true;
    try {
      writeSync(this.#file, randomFillSync(Buffer.allocUnsafe(stepBytes)), 0, stepBytes, this.#bytes);
      fsyncSync(this.#file);
      this.#bytes += stepBytes;
      return true;
    } catch {
      ftruncateSync(this.#file, this.#bytes);
      return false;
    }
  }

  close(): void {
    closeSync(this.#file);
  }
}

/** The log, and as much again by which the file may have to grow to take it in. */
export const reserveBytesDefault = 32 * 1024 * 1024;
/** One a second: whole after half a minute. */
const stepBytes = 1024 * 1024;
