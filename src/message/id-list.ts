import { idBytes, idFromBytes, idIntoBytes, type MessageId } from "./id.ts";

/**
 * A list of ids as packed raw bytes. Between the near set and the store ids travel by the hundred and are never
 * looked at, so they stay the 16 bytes that both sides keep; turning each into text and back cost more than the
 * claim itself.
 */
export class IdList {
  readonly bytes: Buffer;
  readonly length: number;

  /** `bytes` holds `length` ids of 16 bytes from its start; it is not copied. */
  constructor(bytes: Buffer, length: number = bytes.length / idBytes) {
    this.bytes = bytes.length === length * idBytes ? bytes : bytes.subarray(0, length * idBytes);
    this.length = length;
  }

  static of(ids: readonly MessageId[]): IdList {
    const bytes = Buffer.allocUnsafe(ids.length * idBytes);
    ids.forEach((id, i) => {
      idIntoBytes(id, bytes, i * idBytes);
    });
    return new IdList(bytes);
  }

  at(index: number): MessageId {
    return idFromBytes(this.bytes, index * idBytes);
  }

  toArray(): MessageId[] {
    return Array.from({ length: this.length }, (_, i) => this.at(i));
  }
}
