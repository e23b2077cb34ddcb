import type { Files } from "../files/files.port.ts";
import type { ReadHandles } from "../files/read-handles.ts";
import type { Place } from "./commit-record.ts";
import type { QueueEntry } from "./message-store.port.ts";
import { entryBytes, holeBytes, queueSeed, readEntry, writeEntry } from "./queue-entry.ts";

/**
 * Where the messages of one queue of one topic lie: twenty bytes for each, in files of a fixed number of entries. The
 * commit log is the truth and this a list of places in it, so it is written late: new entries wait in memory until
 * `flush`, and after a crash the store appends again what is missing. An entry in a file that does not pass its check
 * is made anew from the log at the moment it is wanted.
 */
export type ConsumeQueueOptions = {
  readonly files: Files;
  readonly handles: ReadHandles;
  readonly entriesPerFile: number;
  /** The entries from `fromOffset` to before `toOffset`, whose records lie between these positions of the log. */
  readonly find: (queue: ConsumeQueue, wanted: Gap) => ReadonlyMap<number, QueueEntry>;
};

export type Gap = {
  readonly fromOffset: number;
  readonly toOffset: number;
  /** Undefined: as far back, or forth, as the log goes. */
  readonly fromPosition: number | undefined;
  readonly toPosition: number | undefined;
};

export class ConsumeQueue {
  readonly topic: string;
  readonly queueId: number;
  readonly place: Place;
  /** Offsets below are gone with their segments. */
  first: number;
  /** The offset that the next message to be appended gets; those from `next` on are on their way to the disk. */
  assigned: number;
  /** The first offset that cannot be read yet. */
  next: number;
  readonly #options: ConsumeQueueOptions;
  readonly #seed: number;
  /** Entries below this are in the files. */
  #flushed: number;
  /** Those from `#flushed` to `next`, at the front of a buffer that may be larger. */
  #tail = Buffer.alloc(0);
  /** Made anew and not in the files yet. */
  readonly #mended = new Map<number, QueueEntry>();

  constructor(options: ConsumeQueueOptions, topic: string, queueId: number, range: { first: number; next: number }) {
    this.#options = options;
    this.topic = topic;
    this.queueId = queueId;
    this.place = { topicBytes: Buffer.from(topic), queueId };
    this.#seed = queueSeed(topic, queueId);
    this.first = range.first;
    this.next = range.next;
    this.assigned = range.next;
    this.#flushed = range.next;
  }

  get folder(): string {
    return `${topicFolder(this.topic)}/${this.queueId}`;
  }

  get isDirty(): boolean {
    return this.#flushed < this.next || this.#mended.size > 0;
  }

  push(position: number, bytes: number, tagHash: number): void {
    const at = (this.next - this.#flushed) * entryBytes;
    if (at === this.#tail.length) {
      const larger = Buffer.allocUnsafeSlow(Math.max(32 * entryBytes, this.#tail.length * 2));
      this.#tail.copy(larger);
      this.#tail = larger;
    }
    writeEntry(this.#tail, at, this.#seed, { queueOffset: this.next, position, bytes, tagHash });
    this.next++;
    this.assigned = Math.max(this.assigned, this.next);
  }

  /** The offsets up to here have no message that can be read; those after it come from `position` on. */
  skipTo(offset: number, position: number): void {
    if (this.first === this.next && this.next < offset) {
      this.first = this.next = this.#flushed = offset;
      this.assigned = Math.max(this.assigned, offset);
    }
    while (this.next < offset) this.push(position, holeBytes, 0);
  }

  entries(fromOffset: number, max: number): readonly QueueEntry[] {
    const from = Math.max(fromOffset, this.first);
    const to = Math.min(this.next, from + max);
    if (to <= from) return [];
    const raw = this.#raw(from, to);
    const found: QueueEntry[] = [];
    for (let offset = from; offset < to; offset++) {
      const entry = readEntry(raw, (offset - from) * entryBytes, this.#seed, offset);
      found.push(entry ?? this.#mended.get(offset) ?? this.#mend(offset));
    }
    return found;
  }

  /** The first offset whose entry passes, where all after one that passes do too; `next` when none does. */
  search(passes: (entry: QueueEntry) => boolean): number {
    let from = this.first;
    let to = this.next;
    while (from < to) {
      const middle = Math.floor((from + to) / 2);
      if (passes(this.entries(middle, 1)[0]!)) to = middle;
      else from = middle + 1;
    }
    return from;
  }

  /** Whether there is a file for each entry that was flushed; what is in it is checked when it is read. */
  hasFiles(): boolean {
    const { handles, entriesPerFile } = this.#options;
    for (let offset = this.first; offset < this.#flushed; ) {
      const fileEnd = (Math.floor(offset / entriesPerFile) + 1) * entriesPerFile;
      const end = Math.min(fileEnd, this.#flushed);
      const file = handles.get(this.#path(offset));
      if (file === undefined || file.sizeBytes < (end - (fileEnd - entriesPerFile)) * entryBytes) return false;
      offset = end;
    }
    return true;
  }

  /** Writes what waits; it is on the disk when this resolves. When it rejects, it still waits. */
  async flush(): Promise<void> {
    if (!this.isDirty) return;
    const { files, entriesPerFile } = this.#options;
    const from = this.#flushed;
    const to = this.next;
    const tail = this.#tail;
    const mended = [...this.#mended.values()];
    await files.makeFolder(this.folder);
    const numbers = new Set(mended.map(({ queueOffset }) => Math.floor(queueOffset / entriesPerFile)));
    for (let number = Math.floor(from / entriesPerFile); number * entriesPerFile < to; number++) numbers.add(number);
    for (const number of numbers) {
      const fileFirst = number * entriesPerFile;
      const file = files.open(this.#path(fileFirst), "create")!;
      try {
        for (const entry of mended) {
          if (Math.floor(entry.queueOffset / entriesPerFile) !== number) continue;
          const bytes = Buffer.alloc(entryBytes);
          writeEntry(bytes, 0, this.#seed, entry);
          await file.write(bytes, (entry.queueOffset - fileFirst) * entryBytes);
        }
        const start = Math.max(from, fileFirst);
        const end = Math.min(to, fileFirst + entriesPerFile);
        if (start < end) {
          const bytes = tail.subarray((start - from) * entryBytes, (end - from) * entryBytes);
          await file.write(bytes, (start - fileFirst) * entryBytes);
        }
        await file.sync();
      } finally {
        file.close();
      }
    }
    await files.syncFolder(this.folder);
    for (const { queueOffset } of mended) this.#mended.delete(queueOffset);
    // Those that came meanwhile move to the front of a buffer of their own: a long tail is not kept for a short one.
    this.#tail = Buffer.from(this.#tail.subarray((to - from) * entryBytes, (this.next - from) * entryBytes));
    this.#flushed = to;
  }

  /** Removes the files that hold only entries before `first`. */
  async dropFiles(): Promise<void> {
    const { files, handles, entriesPerFile } = this.#options;
    for (const name of files.list(this.folder)) {
      if (Number(name) + entriesPerFile > this.first) return;
      handles.forget(`${this.folder}/${name}`);
      await files.remove(`${this.folder}/${name}`);
    }
  }

  /** The bytes of some entries; zeros where the files do not have them. */
  #raw(from: number, to: number): Buffer {
    const { handles, entriesPerFile } = this.#options;
    const inTail = (from - this.#flushed) * entryBytes;
    if (inTail >= 0) return this.#tail.subarray(inTail, inTail + (to - from) * entryBytes);
    const raw = Buffer.alloc((to - from) * entryBytes);
    for (let offset = from; offset < to; ) {
      const fileFirst = Math.floor(offset / entriesPerFile) * entriesPerFile;
      const end = offset >= this.#flushed ? to : Math.min(to, this.#flushed, fileFirst + entriesPerFile);
      const target = raw.subarray((offset - from) * entryBytes, (end - from) * entryBytes);
      if (offset >= this.#flushed) this.#tail.copy(target, 0, (offset - this.#flushed) * entryBytes);
      else handles.get(this.#path(offset))?.read(target, (offset - fileFirst) * entryBytes);
      offset = end;
    }
    return raw;
  }

  #path(offset: number): string {
    const { entriesPerFile } = this.#options;
    const fileFirst = Math.floor(offset / entriesPerFile) * entriesPerFile;
    return `${this.folder}/${String(fileFirst).padStart(20, "0")}`;
  }

  /** Makes a damaged entry anew, with all the damaged ones around it. */
  #mend(offset: number): QueueEntry {
    const good = (at: number): QueueEntry | undefined =>
      readEntry(this.#raw(at, at + 1), 0, this.#seed, at) ?? this.#mended.get(at);
    let from = offset;
    while (from > this.first && good(from - 1) === undefined) from--;
    let to = offset + 1;
    while (to < this.next && good(to) === undefined) to++;
    const before = from > this.first ? good(from - 1) : undefined;
    const after = to < this.next ? good(to) : undefined;
    const gap = { fromOffset: from, toOffset: to, fromPosition: before?.position, toPosition: after?.position };
    const found = this.#options.find(this, gap);
    let position = before?.position ?? 0;
    for (let at = from; at < to; at++) {
      const entry = found.get(at) ?? { queueOffset: at, position, bytes: holeBytes, tagHash: 0 };
      position = entry.position;
      this.#mended.set(at, entry);
    }
    return this.#mended.get(offset)!;
  }
}

export const queuesFolder = "queues";

/** Topics that differ in their case only must not meet on a disk that does not tell them apart. */
export const topicFolder = (topic: string): string =>
  `${queuesFolder}/${topic.replaceAll("|", "!")}~${(queueSeed(topic, 0) >>> 0).toString(16)}`;
