/**
 * The records of the progress journal, as bytes. The log around them has checksums and lengths; here is only meaning.
 * Times are wall-clock milliseconds, because they must mean something after a restart.
 *
 * | kind | what happened |
 * |---|---|
 * | taken | offsets went out (or, in a snapshot, are held), others were skipped; of all others between `from` and `next` the group is done |
 * | done | offsets are done with |
 * | givenBack | offsets were taken for somebody who is gone |
 * | changed | a delivery has a new nonce and a new time |
 * | snapshotBegins, snapshotEnds | what lies between replaces all that came before |
 */
export type QueueName = { readonly group: string; readonly topic: string; readonly queueId: number };

export type TakenOffset = {
  readonly offset: number;
  readonly attempt: number;
  readonly nonce: number;
  /** 0: to be delivered at once. */
  readonly untilWallMs: number;
  readonly invisibleMs: number;
  readonly messageGroup: string | undefined;
};
export type SkippedOffset = { readonly offset: number; readonly messageGroup: string };

export type QueueRecord =
  | {
      readonly kind: "taken";
      readonly queue: QueueName;
      /** Where the record before it has ended; when that one is damaged, this shows what is missing. */
      readonly from: number;
      readonly next: number;
      readonly taken: readonly TakenOffset[];
      readonly skipped: readonly SkippedOffset[];
    }
  | { readonly kind: "done"; readonly queue: QueueName; readonly offsets: readonly number[] }
  | { readonly kind: "givenBack"; readonly queue: QueueName; readonly offsets: readonly number[] }
  | {
      readonly kind: "changed";
      readonly queue: QueueName;
      readonly offset: number;
      readonly nonce: number;
      readonly untilWallMs: number;
      readonly invisibleMs: number;
    };
export type SnapshotMark = { readonly kind: "snapshotBegins" } | { readonly kind: "snapshotEnds" };
export type ProgressRecord = QueueRecord | SnapshotMark;

// On disk: numbers may be added, never given another meaning.
const kinds = ["taken", "done", "givenBack", "changed", "snapshotBegins", "snapshotEnds"] as const;

/** It cannot be read: written by a newer version, or not by us. */
class UnknownRecord extends Error {
  override readonly name = "UnknownRecord";
}

export const writeRecord = (record: ProgressRecord): Buffer => {
  const out = new RecordWriter();
  out.uint(kinds.indexOf(record.kind) + 1, 1);
  if (!("queue" in record)) return out.copy();
  out.text(record.queue.group);
  out.text(record.queue.topic);
  out.uint(record.queue.queueId, 2);
  switch (record.kind) {
    case "taken":
      out.uint(record.from, 6);
      out.uint(record.next, 6);
      out.uint(record.taken.length, 4);
      for (const { offset, attempt, nonce, untilWallMs, invisibleMs, messageGroup } of record.taken) {
        out.uint(offset, 6);
        out.uint(attempt, 4);
        out.uint(nonce, 6);
        out.uint(Math.max(0, untilWallMs), 6);
        out.uint(invisibleMs, 6);
        out.text(messageGroup ?? "");
      }
      out.uint(record.skipped.length, 4);
      for (const { offset, messageGroup } of record.skipped) {
        out.uint(offset, 6);
        out.text(messageGroup);
      }
      break;
    case "changed":
      out.uint(record.offset, 6);
      out.uint(record.nonce, 6);
      out.uint(Math.max(0, record.untilWallMs), 6);
      out.uint(record.invisibleMs, 6);
      break;
    default:
      out.uint(record.offsets.length, 4);
      for (const offset of record.offsets) out.uint(offset, 6);
  }
  return out.copy();
};

/** @throws UnknownRecord */
export const readRecord = (bytes: Buffer): ProgressRecord => {
  const from = new RecordReader(bytes);
  const kindNumber = from.uint(1);
  const kind = kinds[kindNumber - 1];
  if (kind === undefined) throw new UnknownRecord(`kind ${kindNumber} is not known to this version`);
  if (kind === "snapshotBegins" || kind === "snapshotEnds") return from.end({ kind });
  const queue = { group: from.text(), topic: from.text(), queueId: from.uint(2) };
  switch (kind) {
    case "taken":
      return from.end({
        kind,
        queue,
        from: from.uint(6),
        next: from.uint(6),
        taken: from.list(() => ({
          offset: from.uint(6),
          attempt: from.uint(4),
          nonce: from.uint(6),
          untilWallMs: from.uint(6),
          invisibleMs: from.uint(6),
          messageGroup: from.text() || undefined,
        })),
        skipped: from.list(() => ({ offset: from.uint(6), messageGroup: from.text() })),
      });
    case "changed":
      return from.end({
        kind,
        queue,
        offset: from.uint(6),
        nonce: from.uint(6),
        untilWallMs: from.uint(6),
        invisibleMs: from.uint(6),
      });
    default:
      return from.end({ kind, queue, offsets: from.list(() => from.uint(6)) });
  }
};

// One piece of memory for all records being written: nothing is written across an await.
let scratch = Buffer.allocUnsafe(4096);

class RecordWriter {
  #at = 0;

  uint(value: number, bytes: number): void {
    this.#reserve(bytes);
    this.#at = scratch.writeUIntBE(value, this.#at, bytes);
  }

  text(text: string): void {
    const bytes = Buffer.byteLength(text);
    this.uint(bytes, 2);
    this.#reserve(bytes);
    this.#at += scratch.write(text, this.#at, "utf8");
  }

  copy(): Buffer {
    return Buffer.from(scratch.subarray(0, this.#at));
  }

  #reserve(bytes: number): void {
    if (this.#at + bytes <= scratch.length) return;
    const larger = Buffer.allocUnsafe(2 * (this.#at + bytes));
    scratch.copy(larger, 0, 0, this.#at);
    scratch = larger;
  }
}

class RecordReader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  uint(bytes: number): number {
    const at = this.#advance(bytes);
    return this.#bytes.readUIntBE(at, bytes);
  }

  text(): string {
    const bytes = this.uint(2);
    const at = this.#advance(bytes);
    return this.#bytes.toString("utf8", at, at + bytes);
  }

  list<T>(read: () => T): T[] {
    const count = this.uint(4);
    // Each takes six bytes at least; a count that cannot be is not tried.
    if (count * 6 > this.#bytes.length - this.#at) throw new UnknownRecord("it is shorter than it says");
    return Array.from({ length: count }, read);
  }

  end<T>(record: T): T {
    if (this.#at !== this.#bytes.length) throw new UnknownRecord("it is longer than it should be");
    return record;
  }

  #advance(bytes: number): number {
    const at = this.#at;
    if (at + bytes > this.#bytes.length) throw new UnknownRecord("it is shorter than it should be");
    this.#at += bytes;
    return at;
  }
}
