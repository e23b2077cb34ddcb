/**
 * Cuts a stream of bytes into lines, for NDJSON. Pure. Holds at most one unfinished line; a line that grows beyond
 * `lineBytesMax` is thrown away as it arrives and reported once, so that the lines after it still count. Blank lines
 * are skipped. A line is a view into the chunk it came in, so it must be used before it is kept.
 */
export class LineCutter {
  readonly #lineBytesMax: number;
  #parts: Buffer[] = [];
  #length = 0;
  #tooLong = false;

  constructor(lineBytesMax: number) {
    this.#lineBytesMax = lineBytesMax;
  }

  /** The lines that this chunk completes. */
  push(chunk: Buffer): Line[] {
    const lines: Line[] = [];
    let from = 0;
    for (let at = chunk.indexOf(newline); at >= 0; at = chunk.indexOf(newline, from)) {
      this.#add(chunk.subarray(from, at));
      this.#finish(lines);
      from = at + 1;
    }
    if (from < chunk.length) this.#add(chunk.subarray(from));
    return lines;
  }

  /** The last line, when the stream ended without a line break. */
  end(): Line[] {
    const lines: Line[] = [];
    this.#finish(lines);
    return lines;
  }

  #add(part: Buffer): void {
    this.#length += part.length;
    if (this.#tooLong || this.#length > this.#lineBytesMax) {
      this.#tooLong = true;
      this.#parts = [];
    } else {
      this.#parts.push(part);
    }
  }

  #finish(lines: Line[]): void {
    if (this.#tooLong) lines.push("too_long");
    else {
      const bytes = this.#parts.length === 1 ? this.#parts[0]! : Buffer.concat(this.#parts, this.#length);
      if (!isBlank(bytes)) lines.push(bytes);
    }
    this.#parts = [];
    this.#length = 0;
    this.#tooLong = false;
  }
}

export type Line = Buffer | "too_long";

const newline = 0x0a;

const isBlank = (bytes: Buffer): boolean => {
  for (const byte of bytes) if (byte !== 0x20 && byte !== 0x09 && byte !== 0x0d) return false;
  return true;
};
