import type { DatabaseSync, StatementSync } from "node:sqlite";
import { crc32 } from "node:zlib";
import { levelNone, recordBytesMax, writeRecord } from "../../delay/record.ts";
import type { DelayedMessage } from "../../message/message.ts";

/**
 * Messages as bytes, each with a checksum over its id and its bytes: a flipped bit on the disk, or a record under
 * another's number, is found before anything of it is believed. SQLite itself does not check the contents of a page.
 */
export class RecordTable {
  readonly #insert: StatementSync;
  readonly #update: StatementSync;
  readonly #select: StatementSync;
  readonly #delete: StatementSync;
  #next: number;

  constructor(db: DatabaseSync) {
    this.#insert = db.prepare("INSERT INTO record (seq, checksum, bytes) VALUES (?, ?, ?)");
    this.#update = db.prepare("UPDATE record SET checksum = ?, bytes = ? WHERE seq = ?");
    this.#select = db.prepare("SELECT checksum, bytes FROM record WHERE seq = ?");
    this.#delete = db.prepare("DELETE FROM record WHERE seq = ?");
    this.#next = (db.prepare("SELECT max(seq) AS last FROM record").get()!.last as number | null) ?? 0;
  }

  /** Answers its number of acceptance, larger than that of any record there is. */
  add(id: Uint8Array, bytes: Uint8Array): number {
    const seq = ++this.#next;
    this.#insert.run(seq, checksumOf(id, bytes), bytes);
    return seq;
  }

  put(seq: number, id: Uint8Array, bytes: Uint8Array): void {
    this.#update.run(checksumOf(id, bytes), bytes, seq);
  }

  /** Undefined when the record is damaged or gone. The bytes are nobody else's. */
  read(seq: number, id: Uint8Array): Buffer | undefined {
    const row = this.#select.get(seq) as { checksum: number; bytes: Uint8Array } | undefined;
    if (row === undefined || row.checksum !== checksumOf(id, row.bytes)) return undefined;
    return asBuffer(row.bytes);
  }

  remove(seq: number): void {
    this.#delete.run(seq);
  }
}

/** The record of a message that waits; what changes with its tries is in its entry. */
export const encodeRecord = (message: DelayedMessage): Buffer => {
  const form = { level: levelNone, names: "inline" } as const;
  const target = Buffer.allocUnsafe(recordBytesMax(message, form));
  return target.subarray(0, writeRecord(target, 0, message, form));
};

/** A view of the same bytes. */
export const asBuffer = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);

const checksumOf = (id: Uint8Array, bytes: Uint8Array): number => crc32(bytes, crc32(id));
