import { code } from "../../protocol/messaging-service.ts";
import { reach } from "../../runtime/failpoint.ts";
import { errorFields, type Log } from "../../runtime/log.ts";
import type { Timer, Timers } from "../../runtime/timers.ts";
import { BrokerError } from "../broker-error.ts";
import type { Files, OpenFile } from "../files/files.port.ts";
import { ReadHandles } from "../files/read-handles.ts";
import type { AppendLog } from "./append-log.port.ts";
import { frameHeaderBytes, frameLength, isRecordWhole, sealed, sealFrame, writeFrameHeader } from "./frame.ts";
import { findLogEnd, type LogEnd, segmentPath } from "./log-end.ts";
import { type Found, walkSegment } from "./segment-walk.ts";

/**
 * An append-only log in files of one size, `00000000000067108864.log` being the one that starts at that position.
 *
 * Appends that come while a write is under way go together into the next one: one write, one sync, however many they
 * are. An append lies in one segment whole and in one write whole.
 *
 * When a write fails, it and all that waited behind it are refused, the file is cut back to where it was, and the next
 * append tries again: so a disk that was full works when there is room. When a sync fails nobody knows what is on the
 * disk; the log then refuses everything until it is opened anew and has looked.
 */
export type Flush = "sync" | "async";

export type SegmentedLogOptions = {
  readonly files: Files;
  readonly folder: string;
  /** `sync`: durable means synced. `async`: durable means written; it is synced every half second. */
  readonly flush: Flush;
  /** Fixed for the life of the folder: a position says by it where it is. */
  readonly segmentBytes: number;
  readonly timers: Timers;
  readonly log: Log;
  /** Everything up to here was synced and whole once; recovery need not look at it. */
  readonly knownPosition?: number;
  /** Beyond this producers wait or fail instead of filling memory: the disk is not keeping up. Default: 64 MiB. */
  readonly waitingBytesMax?: number;
  /** Everything that was not durable yet is about to be refused. */
  readonly onRefused?: () => void;
};

/** As much as fits into one write; at 300 MB/s some 13 ms. */
const groupBytesMax = 4 * 1024 * 1024;
const waitingBytesMaxDefault = 64 * 1024 * 1024;
/** What the loss of power may cost in `async` mode. RocketMQ's asynchronous flush has the same. */
const asyncSyncMs = 500;

type Waiting = {
  readonly records: readonly Buffer[];
  readonly positions: readonly number[];
  readonly endPosition: number;
  readonly bytes: number;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
};

export class SegmentedLog implements AppendLog {
  readonly #options: SegmentedLogOptions;
  readonly #handles: ReadHandles;
  /** Numbers of the segments that there are, in order. */
  readonly #segments: number[];
  #endPosition: number;
  /** Up to here it is written (and, in `sync` mode, synced); reads see no further. */
  #writtenPosition: number;
  #syncedPosition: number;
  /** The segment that is written to; none before the first write into a new one. */
  #active: { readonly number: number; readonly file: OpenFile } | undefined;
  #waiting: Waiting[] = [];
  #waitingBytes = 0;
  #group = Buffer.allocUnsafeSlow(64 * 1024);
  #writer: Promise<void> | undefined;
  #syncing: Promise<void> = Promise.resolve();
  #syncTimer: Timer | undefined;
  #refusing = false;
  #stopped: BrokerError | undefined;

  static async open(options: SegmentedLogOptions): Promise<SegmentedLog> {
    return new SegmentedLog(options, await findLogEnd(options));
  }

  private constructor(options: SegmentedLogOptions, { segments, active, endPosition }: LogEnd) {
    this.#options = options;
    this.#handles = new ReadHandles(options.files);
    this.#segments = segments;
    this.#active = active;
    this.#endPosition = endPosition;
    this.#writtenPosition = endPosition;
    this.#syncedPosition = endPosition;
  }

  get firstPosition(): number {
    return (this.#segments[0] ?? 0) * this.#options.segmentBytes;
  }

  get endPosition(): number {
    return this.#endPosition;
  }

  append(records: readonly Buffer[]): { positions: readonly number[]; durable: Promise<void> } {
    if (this.#stopped !== undefined) throw this.#stopped;
    if (records.length === 0) return { positions: [], durable: Promise.resolve() };
    const { segmentBytes, waitingBytesMax = waitingBytesMaxDefault } = this.#options;
    const bytes = records.reduce((sum, record) => sum + frameHeaderBytes + record.length, 0);
    if (bytes > segmentBytes) {
      throw new BrokerError(
        code.payloadTooLarge,
        `${bytes} bytes at once, ${segmentBytes} allowed: send fewer at once`,
      );
    }
    // One that is larger than all the room may still wait alone.
    if (this.#waitingBytes > 0 && this.#waitingBytes + bytes > waitingBytesMax) {
      throw new BrokerError(
        code.tooManyRequests,
        "the disk does not keep up with what is sent: send again a little later",
      );
    }
    const left = segmentBytes - (this.#endPosition % segmentBytes);
    let position = bytes <= left ? this.#endPosition : this.#endPosition + left;
    const positions = records.map(({ length }) => {
      const here = position;
      position += frameHeaderBytes + length;
      return here;
    });
    this.#endPosition = position;
    this.#waitingBytes += bytes;
    const durable = new Promise<void>((resolve, reject) => {
      this.#waiting.push({ records, positions, endPosition: position, bytes, resolve, reject });
    });
    // Not at once: what is sent in the same turn of the event loop goes along.
    this.#writer ??= Promise.resolve().then(() => this.#writeAll());
    return { positions, durable };
  }

  read(position: number, recordBytes?: number): Buffer | undefined {
    const { segmentBytes } = this.#options;
    const room = this.#writtenPosition - position - frameHeaderBytes;
    if (room <= 0 || position < this.firstPosition) return undefined;
    const file = this.#handles.get(segmentPath(this.#options, Math.floor(position / segmentBytes)));
    const at = position % segmentBytes;
    const length = recordBytes ?? this.#lengthAt(file, at, position);
    if (file === undefined || length === undefined || length > room) return undefined;
    const frame = Buffer.allocUnsafe(frameHeaderBytes + length);
    if (file.read(frame, at) < frame.length || frameLength(frame, 0, position) !== length) return undefined;
    return isRecordWhole(frame, 0, length) ? frame.subarray(frameHeaderBytes) : undefined;
  }

  #lengthAt(file: OpenFile | undefined, at: number, position: number): number | undefined {
    const header = Buffer.allocUnsafe(frameHeaderBytes);
    if (file === undefined || file.read(header, at) < frameHeaderBytes) return undefined;
    const length = frameLength(header, 0, position);
    return length === sealed ? undefined : length;
  }

  *scan(fromPosition: number): Generator<{ position: number; record: Buffer }> {
    const { segmentBytes, folder, log } = this.#options;
    for (const number of [...this.#segments]) {
      const start = number * segmentBytes;
      if (start + segmentBytes <= fromPosition) continue;
      const file = this.#handles.get(segmentPath(this.#options, number));
      if (file === undefined) continue;
      const until = Math.min(file.sizeBytes, this.#writtenPosition - start);
      for (const found of walkSegment(file, start, Math.max(0, fromPosition - start), until)) {
        if (found.kind === "record") yield found;
        else if (found.kind === "damage") log.error({ folder, ...damage(found) }, "part of the log cannot be read");
      }
    }
  }

  async sync(): Promise<number> {
    if (this.#stopped !== undefined) throw this.#stopped;
    const written = this.#writtenPosition;
    if (this.#active !== undefined && this.#syncedPosition < written) await this.#syncFile(this.#active.file, written);
    return this.#syncedPosition;
  }

  async dropBefore(position: number): Promise<void> {
    const { files, folder, segmentBytes } = this.#options;
    // One after the other, so that no crash leaves a gap.
    while (this.#segments.length > 1 && (this.#segments[0]! + 1) * segmentBytes <= position) {
      const path = segmentPath(this.#options, this.#segments.shift()!);
      this.#handles.forget(path);
      await files.remove(path);
      await files.syncFolder(folder);
    }
  }

  async close(): Promise<void> {
    this.#syncTimer?.cancel();
    while (this.#writer !== undefined) await this.#writer;
    // When it fails the log has said so.
    await this.sync().catch(() => {});
    this.#stopped ??= new BrokerError(code.internalServerError, "the broker is closed");
    this.#active?.file.close();
    this.#handles.close();
  }

  async #writeAll(): Promise<void> {
    while (this.#waiting.length > 0) {
      const group = this.#nextGroup();
      try {
        if (this.#stopped !== undefined) throw this.#stopped;
        await this.#writeGroup(group);
      } catch (error) {
        await this.#refuse(error);
        continue;
      }
      reach("log-synced");
      this.#refusing = false;
      this.#waiting.splice(0, group.length);
      for (const { bytes, resolve } of group) {
        this.#waitingBytes -= bytes;
        resolve();
      }
    }
    this.#writer = undefined;
  }

  /** What waits at the front and lies in one segment. */
  #nextGroup(): readonly Waiting[] {
    const first = this.#waiting[0]!;
    const start = first.positions[0] ?? first.endPosition;
    const segmentEnd = (Math.floor(start / this.#options.segmentBytes) + 1) * this.#options.segmentBytes;
    let count = 1;
    while (count < this.#waiting.length) {
      const { endPosition } = this.#waiting[count]!;
      if (endPosition > segmentEnd || endPosition - start > groupBytesMax) break;
      count++;
    }
    return this.#waiting.slice(0, count);
  }

  async #writeGroup(group: readonly Waiting[]): Promise<void> {
    const { segmentBytes, flush } = this.#options;
    const start = group[0]!.positions[0]!;
    const end = group.at(-1)!.endPosition;
    const number = Math.floor(start / segmentBytes);
    if (this.#active?.number !== number) await this.#roll(number);
    if (end - start > this.#group.length) this.#group = Buffer.allocUnsafeSlow(end - start);
    for (const { records, positions } of group) {
      for (const [i, record] of records.entries()) {
        const at = positions[i]! - start;
        writeFrameHeader(this.#group, at, positions[i]!, record);
        record.copy(this.#group, at + frameHeaderBytes);
      }
    }
    await this.#active!.file.write(this.#group.subarray(0, end - start), start % segmentBytes);
    reach("log-written");
    if (this.#group.length > groupBytesMax) this.#group = Buffer.allocUnsafeSlow(groupBytesMax);
    if (flush === "sync") await this.#syncFile(this.#active!.file, end);
    else this.#syncTimer ??= this.#options.timers.after(asyncSyncMs, () => void this.#syncInTime());
    this.#writtenPosition = end;
  }

  /** Ends the segment that is written to, for good, and begins one. */
  async #roll(number: number): Promise<void> {
    const { files, folder, segmentBytes } = this.#options;
    const old = this.#active;
    if (old !== undefined) {
      const left = segmentBytes - (this.#writtenPosition - old.number * segmentBytes);
      if (left >= frameHeaderBytes) await old.file.write(sealFrame(this.#writtenPosition), segmentBytes - left);
      await this.#syncFile(old.file, this.#writtenPosition + frameHeaderBytes);
    }
    const file = files.open(segmentPath(this.#options, number), "create")!;
    await files.syncFolder(folder);
    this.#active = { number, file };
    this.#segments.push(number);
    this.#writtenPosition = number * segmentBytes;
    // A sync of the old one may still be under way.
    await this.#syncing.catch(() => {});
    this.#syncedPosition = this.#writtenPosition;
    old?.file.close();
  }

  async #syncInTime(): Promise<void> {
    this.#syncTimer = undefined;
    // When it fails the log has stopped and said so.
    await this.sync().catch(() => {});
  }

  /** One after the other; what stands before `position` is on the disk then. */
  #syncFile(file: OpenFile, position: number): Promise<void> {
    this.#syncing = this.#syncing.then(async () => {
      if (this.#stopped !== undefined) throw this.#stopped;
      if (position <= this.#syncedPosition) return;
      try {
        await file.sync();
      } catch (error) {
        this.#stop(error);
        throw error;
      }
      this.#syncedPosition = Math.max(this.#syncedPosition, position);
    });
    return this.#syncing;
  }

  /** A write has failed: nothing of what waits is stored. */
  async #refuse(error: unknown): Promise<void> {
    const { segmentBytes, folder, log, onRefused } = this.#options;
    if (this.#stopped === undefined && this.#active !== undefined) {
      const { number, file } = this.#active;
      try {
        await file.truncate(this.#writtenPosition - number * segmentBytes);
        // Or a crash could bring back what was refused.
        await file.sync();
      } catch (failure) {
        this.#stop(failure);
      }
    }
    if (!this.#refusing) log.error({ folder, err: error }, "the log cannot be written; sends are refused");
    this.#refusing = true;
    const refused = this.#waiting;
    this.#waiting = [];
    this.#waitingBytes = 0;
    this.#endPosition = this.#writtenPosition;
    this.#syncedPosition = Math.min(this.#syncedPosition, this.#writtenPosition);
    onRefused?.();
    const answer = this.#stopped ?? refusal(error);
    for (const { reject } of refused) reject(answer);
  }

  #stop(error: unknown): void {
    if (this.#stopped !== undefined) return;
    const { folder, log } = this.#options;
    log.fatal({ folder, err: errorFields(error) }, "the disk does not confirm writes; the log takes nothing any more");
    this.#stopped = new BrokerError(
      code.internalServerError,
      `the disk did not confirm a write (${codeOf(error)}): whether it was stored is unknown; check the disk, then start the broker again`,
    );
  }
}

const damage = ({ position, endPosition }: Found & { kind: "damage" }) => ({ position, bytes: endPosition - position });

const codeOf = (error: unknown): string => (error as NodeJS.ErrnoException).code ?? String(error);

const refusal = (error: unknown): BrokerError =>
  codeOf(error) === "ENOSPC" || codeOf(error) === "EDQUOT"
    ? new BrokerError(
        code.internalServerError,
        "the disk is full: nothing was stored; free some space, then send again",
      )
    : new BrokerError(code.internalServerError, `the log could not be written (${codeOf(error)}): nothing was stored`);
