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
      const taken = Buffer.from(buffer.subarray(0, at));
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
  number(): number;
  /** A repeated number, packed into one field or not. */
  numbers(take: (value: number) => void): void;
  text(): string;
  /** A view into the input, not a copy. */
  bytes(): Buffer;
  message(): ProtobufReader;
};

export const readProtobuf = (input: Buffer): ProtobufReader => {
  let at = 0;
  let field = 0;
  let wire = wireVarint;
  let pending = false; // the value of `field` has not been read yet

  const varint = (): number => {
    let value = 0;
    let factor = 1;
    for (let i = 0; i < 10; i++) {
      const byte = input[at++];
      if (byte === undefined) throw new RangeError("protobuf input ends within a number");
      // Above 2^53 only negative numbers appear (as ten bytes); RocketMQ's status codes and sizes are never negative.
      value += (byte & 0x7f) * factor;
      if (byte < 0x80) return value;
      factor *= 128;
    }
    throw new RangeError("protobuf number is longer than ten bytes");
  };

  const slice = (): Buffer => {
    const length = varint();
    if (at + length > input.length) throw new RangeError("protobuf input ends within a field");
    const from = at;
    at += length;
    return input.subarray(from, at);
  };

  const expectWire = (expected: number): void => {
    if (wire !== expected) throw new RangeError(`protobuf field ${field} has wire type ${wire}, expected ${expected}`);
    pending = false;
  };

  const skip = (): void => {
    pending = false;
    if (wire === wireVarint) varint();
    else if (wire === wireBytes) slice();
    else if (wire === wireFixed64) at += 8;
    else if (wire === wireFixed32) at += 4;
    else throw new RangeError(`protobuf wire type ${wire} is not supported`);
    if (at > input.length) throw new RangeError("protobuf input ends within a field");
  };

  return {
    get field() {
      return field;
    },
    next() {
      if (pending) skip();
      if (at >= input.length) return false;
      const tag = varint();
      field = Math.floor(tag / 8);
      wire = tag % 8;
      pending = true;
      return true;
    },
    number() {
      expectWire(wireVarint);
      return varint();
    },
    numbers(take) {
      if (wire === wireVarint) return take(this.number());
      expectWire(wireBytes);
      const end = varint() + at;
      if (end > input.length) throw new RangeError("protobuf input ends within a field");
      while (at < end) take(varint());
    },
    text() {
      expectWire(wireBytes);
      return slice().toString("utf8");
    },
    bytes() {
      expectWire(wireBytes);
      return slice();
    },
    message() {
      expectWire(wireBytes);
      return readProtobuf(slice());
    },
  };
};
