/**
 * Bytes on their way between two threads. Whatever is there by the hundred (messages, outcomes, wakes) is written into
 * one buffer per post, which is handed over instead of copied; the objects beside it say where their bytes begin.
 *
 * What surprised us: to copy a small view between threads copies all of the buffer that it looks into, and Node cuts
 * small buffers out of a common one. So a parcel's buffer is always its own.
 */
export class Parcel {
  #bytes: Buffer<ArrayBuffer> = Buffer.from(new ArrayBuffer(0));
  readonly #firstBytes: number;
  /** Where the next thing is written. */
  length = 0;

  /** Takes no room before something is put in, and then `firstBytes` at least. */
  constructor(firstBytes: number) {
    this.#firstBytes = firstBytes;
  }

  /** Room for so many more bytes; until the next call this is where to write. */
  room(bytes: number): Buffer {
    if (this.length + bytes > this.#bytes.length) {
      const larger = Buffer.allocUnsafeSlow(Math.max(this.#firstBytes, 2 * this.#bytes.length, this.length + bytes));
      this.#bytes.copy(larger, 0, 0, this.length);
      this.#bytes = larger;
    }
    return this.#bytes;
  }

  /** All of it, for handing over; what lies behind `length` means nothing. */
  get buffer(): ArrayBuffer {
    return this.#bytes.buffer;
  }
}
