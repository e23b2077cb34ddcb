import { code } from "../../protocol/messaging-service.ts";
import type { Clock } from "../../runtime/clock.ts";
import { reach } from "../../runtime/failpoint.ts";
import type { Log } from "../../runtime/log.ts";
import type { Timer, Timers } from "../../runtime/timers.ts";
import { BrokerError } from "../broker-error.ts";
import type { AppendLog } from "../storage/append-log.port.ts";
import { type Instant, ProgressBook } from "./progress-book.ts";
import { type ProgressRecord, readRecord, writeRecord } from "./progress-record.ts";

/**
 * The progress of all groups, on disk: what happened is appended, and now and then a snapshot of everything, behind
 * which the older records can go.
 *
 * Two ways to write. Acknowledgements wait for `durable`, and all of one turn of the event loop go in one append. What
 * was taken is only `note`d: it is handed to the log before its receiver can see it, but nobody waits for the disk.
 * A loss of power may therefore forget a delivery (the message comes again with the same attempt number and its old
 * handle is worth nothing); so may kill -9, for what the log had in hand behind the sync that was under way.
 *
 * When an append fails, what is in memory is ahead of the disk. Then nothing is delivered or acknowledged until a
 * snapshot could be written, which is tried every second: it says everything that was refused, too.
 */
export type JournalOptions = {
  readonly log: AppendLog;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly eventLog: Log;
};

/** About 27,000 messages, 38 bytes each; reading them back takes 50 ms. A snapshot of little is little. */
const snapshotEveryBytes = 1024 * 1024;
/** A large state (100,000 messages out: 3 MB, 50 ms) is written less often. */
const snapshotGrowth = 4;
/** An append must fit into a segment whole. */
const appendBytesMax = 256 * 1024;
const repairEveryMs = 1_000;

export class ProgressJournal {
  readonly book: ProgressBook;
  readonly #options: JournalOptions;
  /** Called when work can go on after a failure. */
  onRepaired: () => void = () => {};
  #pending: Buffer[] = [];
  #pendingFlush: Promise<void> | undefined;
  #noteScheduled = false;
  #flushTimer: Timer | undefined;
  #repairTimer: Timer | undefined;
  /** Durable in the order of appending: one that comes after a failed one is not. */
  #tail: Promise<void> = Promise.resolve();
  #settle: { resolve: () => void; reject: (error: unknown) => void } | undefined;
  #bytesSinceSnapshot = 0;
  #snapshotBytes = 0;
  #problem: BrokerError | undefined;
  #isProblemLogged = false;
  #closed = false;

  /** @throws Error when the journal holds something that this version cannot read. */
  constructor(options: JournalOptions) {
    this.#options = options;
    this.book = recover(options);
    // What was read is told anew, so that the next start reads little, and a damage once.
    if (options.log.endPosition > options.log.firstPosition) this.snapshot();
  }

  /** Why nothing can be written at the moment. */
  get problem(): BrokerError | undefined {
    return this.#problem;
  }

  /** Written before the microtasks of this turn are over, nobody waits. */
  note(record: ProgressRecord): void {
    if (this.#problem !== undefined) return;
    this.#pending.push(writeRecord(record));
    if (this.#noteScheduled) return;
    this.#noteScheduled = true;
    queueMicrotask(() => {
      this.#noteScheduled = false;
      this.#flush();
    });
  }

  /** Resolves once it is on the disk, with all that came before. */
  durable(records: readonly ProgressRecord[]): Promise<void> {
    if (this.#problem !== undefined) return Promise.reject(this.#problem);
    for (const record of records) this.#pending.push(writeRecord(record));
    this.#flushTimer ??= this.#options.timers.after(0, () => this.#flush());
    this.#pendingFlush ??= new Promise((resolve, reject) => {
      this.#settle = { resolve, reject };
    });
    return this.#pendingFlush;
  }

  /** Everything anew; older records may go. */
  snapshot(): void {
    this.#flushPending();
    if (this.#problem !== undefined) return;
    const { log, eventLog } = this.#options;
    const appends = inPieces(tellAll(this.book, this.now()));
    this.#snapshotBytes = 0;
    let first: number | undefined;
    for (const records of appends) {
      this.#snapshotBytes += records.reduce((sum, { length }) => sum + length, 0);
      const [position] = this.#append(records);
      if (this.#problem !== undefined) return;
      first ??= position;
    }
    this.#bytesSinceSnapshot = 0;
    void this.#tail
      .then(() => {
        reach("snapshot-told");
        return log.dropBefore(first!);
      })
      .catch((error) => eventLog.warn({ err: error }, "older progress records were not removed"));
  }

  now(): Instant {
    const { clock } = this.#options;
    return { monotonicMs: clock.monotonicMs(), wallMs: clock.nowMs() };
  }

  /** What was noted is on the disk then. The log stays open; it belongs to who opened it. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#flush();
    this.#repairTimer?.cancel();
    // A failure was told to who waited for it, and logged.
    await this.#tail.catch(() => {});
  }

  #flush(): void {
    this.#flushPending();
    if (this.#bytesSinceSnapshot > Math.max(snapshotEveryBytes, snapshotGrowth * this.#snapshotBytes)) this.snapshot();
  }

  #flushPending(): void {
    this.#flushTimer?.cancel();
    this.#flushTimer = undefined;
    const settle = this.#settle;
    this.#settle = undefined;
    this.#pendingFlush = undefined;
    if (this.#pending.length > 0) {
      const records = this.#pending;
      this.#pending = [];
      this.#append(records);
    }
    if (settle !== undefined) this.#tail.then(settle.resolve, settle.reject);
  }

  #append(records: readonly Buffer[]): readonly number[] {
    const before = this.#tail;
    try {
      const { positions, durable } = this.#options.log.append(records);
      for (const { length } of records) this.#bytesSinceSnapshot += length;
      this.#follow(Promise.all([before, durable]).then(() => {}));
      return positions;
    } catch (error) {
      this.#follow(Promise.reject(error));
      // At once, so that nothing more is written before the promise says so.
      this.#fail(error);
      return [];
    }
  }

  #follow(durable: Promise<void>): void {
    this.#tail = durable.catch((error) => {
      throw this.#fail(error);
    });
    // Who waits for it hears; that nobody does is no fault.
    this.#tail.catch(() => {});
  }

  #fail(error: unknown): BrokerError {
    const { eventLog, timers } = this.#options;
    if (this.#problem !== undefined && error === this.#problem) return this.#problem;
    const reason = error instanceof Error ? error.message : String(error);
    if (!this.#isProblemLogged) eventLog.error({ err: error }, "progress of consumers cannot be written");
    this.#isProblemLogged = true;
    const problem = new BrokerError(
      code.internalServerError,
      `the progress of consumers cannot be written, so nothing is delivered or acknowledged until it can: ${reason}`,
    );
    this.#problem = problem;
    this.#pending = [];
    if (!this.#closed) this.#repairTimer ??= timers.after(repairEveryMs, () => this.#repair());
    return problem;
  }

  #repair(): void {
    const { eventLog } = this.#options;
    this.#repairTimer = undefined;
    this.#problem = undefined;
    this.#tail = Promise.resolve();
    this.snapshot();
    this.#tail.then(
      () => {
        this.#isProblemLogged = false;
        eventLog.info({}, "progress of consumers can be written again");
        this.onRepaired();
      },
      () => {},
    );
  }
}

function* tellAll(book: ProgressBook, now: Instant): Iterable<Buffer> {
  yield writeRecord({ kind: "snapshotBegins" });
  for (const record of book.tell(now)) yield writeRecord(record);
  yield writeRecord({ kind: "snapshotEnds" });
}

const inPieces = (records: Iterable<Buffer>): Buffer[][] => {
  const pieces: Buffer[][] = [];
  let piece: Buffer[] = [];
  let bytes = 0;
  for (const record of records) {
    if (piece.length > 0 && bytes + record.length > appendBytesMax) {
      pieces.push(piece);
      piece = [];
      bytes = 0;
    }
    piece.push(record);
    bytes += record.length;
  }
  pieces.push(piece);
  return pieces;
};

const recover = ({ log, clock, eventLog }: JournalOptions): ProgressBook => {
  const now = { monotonicMs: clock.monotonicMs(), wallMs: clock.nowMs() };
  let book = new ProgressBook();
  // A snapshot that was not written to its end says nothing; until its end is seen both go on.
  let snapshot: ProgressBook | undefined;
  for (const { position, record: bytes } of log.scan(log.firstPosition)) {
    const record = readOrExplain(bytes, position);
    if (record.kind === "snapshotBegins") {
      snapshot = new ProgressBook();
    } else if (record.kind === "snapshotEnds") {
      book = snapshot ?? book;
      snapshot = undefined;
    } else {
      book.apply(record, now);
      snapshot?.apply(record, now);
    }
  }
  if (book.gaps.length > 0) {
    eventLog.error(
      { gaps: book.gaps.slice(0, gapsLoggedMax), count: book.gaps.length },
      "part of the consumers' progress could not be read: messages of these offsets come again, also acknowledged ones",
    );
  }
  return book;
};

const gapsLoggedMax = 20;

const readOrExplain = (bytes: Buffer, position: number): ProgressRecord => {
  try {
    return readRecord(bytes);
  } catch (error) {
    throw new Error(
      `the consumers' progress cannot be read at position ${position}: ${(error as Error).message}. ` +
        "A newer version may have written it: start that one, or remove the progress folder, and every group begins anew",
      { cause: error },
    );
  }
};
