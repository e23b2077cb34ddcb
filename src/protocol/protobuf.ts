/**
 * The protobuf wire format, as far as RocketMQ's messages need it: a writer and a reader, nothing generated.
 *
 * The generated JavaScript classes build an object tree, then a list of byte arrays, then one array, then a Buffer:
 * most of what a send costs. Here every field is written once, into one growing buffer. The trick is the length of a
 * nested message, which stands before it but is known after it: four bytes are kept free and filled in later as a
 * padded varint (5 becomes 85 80 80 00), which every protobuf reader takes. The unit tests read what this writes
 * with the generated classes, and the other way round.
 */

const wireVarint = 0;
const wireFixed64 = 1;
const wireBytes = 2;
const wireFixed32 = 5;

/** A length in four 7-bit groups: up to 256 MiB, far above the 8 MiB that a channel carries. */
const paddedLengthBytes = 4;
/** Strings of up to this many UTF-16 units take at most 127 bytes, so that their length fits one byte. */
const shortStringUnits = 42;
/** A scratch buffer that has grown above this is given back, so that one big message does not stay in memory. */
const scratchKeptBytesMax = 1 << 20;

export type ProtobufWriter = {
  /** Plain integers up to 2^53; zero is the default of proto3 and is left out. */
  number(field: number, value: number): void;
  /** Empty text is the default of proto3 and is left out. */
  text(field: number, value: string): void;
  bytes(field: number, value: Uint8Array): void;
  /** Like `number`, but written when it is zero, too: for fields that tell "zero" from "absent". */
  explicit(field: number, value: number): void;
  float(field: number, value: number): void;
  /** Whole fields that have been written elsewhere, tags included. */
  raw(fields: Uint8Array): void;
  /** Opens a nested message; hand the result to `end`. */
  begin(field: number): number;
  end(position: number): void;
  /** Forgets what was written, should an earlier message have been left half-done. */
  reset(): void;
  /** A copy of what was written; the writer is empty afterwards. */
  take(): Buffer;
};

export const createProtobufWriter = (initialBytes = 16_384): ProtobufWriter => {
  let buffer = Buffer.allocUnsafeSlow(initialBytes);
  let at = 0;

  const ensure = (bytes: number): void => {
    if (at + bytes <= buffer.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(buffer.length * 2, at + bytes));
    buffer.copy(larger, 0, 0, at);
    buffer = larger;
  };

  const varint = (value: number): void => {
    let rest = value;
    while (rest > 0x7fff_ffff) {
      buffer[at++] = (rest % 128) | 0x80;
      rest = Math.floor(rest / 128);
    }
    while (rest > 0x7f) {
      buffer[at++] = (rest & 0x7f) | 0x80;
      rest >>>= 7;
    }
    buffer[at++] = rest;
  };

  const paddedLength = (position: number, length: number): void => {
    buffer[position] = (length & 0x7f) | 0x80;
    buffer[position + 1] = ((length >>> 7) & 0x7f) | 0x80;
    buffer[position + 2] = ((length >>> 14) & 0x7f) | 0x80;
    buffer[position + 3] = (length >>> 21) & 0x7f;
  };

  return {
    number(field, value) {
      if (value === 0) return;
      ensure(16);
      varint(field * 8 + wireVarint);
      varint(value);
    },
    text(field, value) {
      if (value === "") return;
      ensure(value.length * 3 + 16);
      varint(field * 8 + wireBytes);
      if (value.length <= shortStringUnits) {
        const written = buffer.write(value, at + 1);
        buffer[at] = written;
        at += 1 + written;
      } else {
        const written = buffer.write(value, at + paddedLengthBytes);
        paddedLength(at, written);
        at += paddedLengthBytes + written;
      }
    },
    bytes(field, value) {
      ensure(value.length + 16);
      varint(field * 8 + wireBytes);
      varint(value.length);
      buffer.set(value, at);
      at += value.length;
    },
    explicit(field, value) {
      ensure(16);
      varint(field * 8 + wireVarint);
      varint(value);
    },
    float(field, value) {
      ensure(16);
      varint(field * 8 + wireFixed32);
      at = buffer.writeFloatLE(value, at);
    },
    raw(fields) {
      ensure(fields.length);
      buffer.set(fields, at);
      at += fields.length;
    },
    begin(field) {
      ensure(16);
      varint(field * 8 + wireBytes);
      at += paddedLengthBytes;
      return at;
    },
    end(position) {
      paddedLength(position - paddedLengthBytes, at - position);
    },
    reset() {
      at = 0;
    },
    take() {
      const taken = Buffer.allocUnsafe(at);
      buffer.copy(taken, 0, 0, at);
      at = 0;
      if (buffer.length > scratchKeptBytesMax) buffer = Buffer.allocUnsafeSlow(initialBytes);
      return taken;
    },
  };
};

/**
 * Walks over the fields of one message: `while (reader.next()) switch (reader.field)`. A field that is not read is
 * skipped, so newer servers may add some. Anything that does not parse throws a RangeError.
 */
export type ProtobufReader = {
  next(): boolean;
  readonly field: number;
  /** Where the field begins in the input, its tag included; `at` is where it ends once it has been read. */
  readonly fieldFrom: number;
  readonly at: number;
  number(): number;
  /** A repeated number, packed into one field or not. */
  numbers(take: (value: number) => void): void;
  text(): string;
  /** A view into the input, not a copy. */
  bytes(): Buffer;
  message(): ProtobufReader;
};

export const readProtobuf = (input: Buffer): ProtobufReader => new Reader(input, 0, input.length);

/** A class and not a closure: a broker makes several of these for every message. A nested one shares the input. */
class Reader implements ProtobufReader {
  readonly #input: Buffer;
  readonly #end: number;
  #wire = wireVarint;
  #pending = false; // the value of `field` has not been read yet
  at: number;
  field = 0;
  fieldFrom = 0;

  constructor(input: Buffer, from: number, end: number) {
    this.#input = input;
    this.at = from;
    this.#end = end;
  }

  next(): boolean {
    if (this.#pending) this.#skip();
    if (this.at >= this.#end) return false;
    this.fieldFrom = this.at;
    const tag = this.#varint();
    this.field = Math.floor(tag / 8);
    this.#wire = tag % 8;
    this.#pending = true;
    return true;
  }

  number(): number {
    this.#expectWire(wireVarint);
    return this.#varint();
  }

  numbers(take: (value: number) => void): void {
    if (this.#wire === wireVarint) {
      take(this.number());
      return;
    }
    this.#expectWire(wireBytes);
    const end = this.#fieldEnd();
    while (this.at < end) take(this.#varint());
  }

  text(): string {
    this.#expectWire(wireBytes);
    const end = this.#fieldEnd();
    const text = this.#input.toString("utf8", this.at, end);
    this.at = end;
    return text;
  }

  bytes(): Buffer {
    this.#expectWire(wireBytes);
    const end = this.#fieldEnd();
    const bytes = this.#input.subarray(this.at, end);
    this.at = end;
    return bytes;
  }

  message(): ProtobufReader {
    this.#expectWire(wireBytes);
    const end = this.#fieldEnd();
    const nested = new Reader(this.#input, this.at, end);
    this.at = end;
    return nested;
  }

  #varint(): number {
    let value = 0;
    let factor = 1;
    for (let i = 0; i < 10; i++) {
      if (this.at >= this.#end) throw new RangeError("protobuf input ends within a number");
      const byte = this.#input[this.at++]!;
      // Above 2^53 only negative numbers appear (as ten bytes), which come out as something near 2^64.
      value += (byte & 0x7f) * factor;
      if (byte < 0x80) return value;
      factor *= 128;
    }
    throw new RangeError("protobuf number is longer than ten bytes");
  }

  #fieldEnd(): number {
    const length = this.#varint();
    const end = this.at + length;
    if (end > this.#end) throw new RangeError("protobuf input ends within a field");
    return end;
  }

  #expectWire(expected: number): void {
    if (this.#wire !== expected) {
      throw new RangeError(`protobuf field ${this.field} has wire type ${this.#wire}, expected ${expected}`);
    }
    this.#pending = false;
  }

  #skip(): void {
    this.#pending = false;
    if (this.#wire === wireVarint) this.#varint();
    else if (this.#wire === wireBytes) this.at = this.#fieldEnd();
    else if (this.#wire === wireFixed64) this.at += 8;
    else if (this.#wire === wireFixed32) this.at += 4;
    else throw new RangeError(`protobuf wire type ${this.#wire} is not supported`);
    if (this.at > this.#end) throw new RangeError("protobuf input ends within a field");
  }
}
