import { code } from "../../protocol/messaging-service.ts";
import type { Clock } from "../../runtime/clock.ts";
import { reach } from "../../runtime/failpoint.ts";
import { errorFields, type Log } from "../../runtime/log.ts";
import type { Timer, Timers } from "../../runtime/timers.ts";
import { BrokerError } from "../broker-error.ts";
import type { BrokerMessage, StoredMessage } from "../broker-message.ts";
import type { Files } from "../files/files.port.ts";
import { ReadHandles } from "../files/read-handles.ts";
import type { AppendLog } from "./append-log.port.ts";
import { readCheckpoint, writeCheckpoint } from "./checkpoint.ts";
import { decodeMessage, encodeMessage, encodeTopicDeleted, storedAtMsOf } from "./commit-record.ts";
import { type ConsumeQueue, topicFolder } from "./consume-queue.ts";
import { frameHeaderBytes } from "./frame.ts";
import { type MessageStore, type QueueEntry, tagHash } from "./message-store.port.ts";
import { QueueTable } from "./queue-table.ts";
import { findEntries, recoverQueues } from "./recovery.ts";
import { type Flush, SegmentedLog } from "./segmented-log.ts";

/**
 * The messages of all topics in one commit log, and per topic and queue a consume queue that points into it.
 *
 * A message is written once, into the log. What the queues hold can be made from the log at any time, so they follow
 * it in memory and are written at checkpoints only: every {@link checkpointMs} while there is something new, every
 * {@link checkpointBytes}, and at the end. A start reads the checkpoint and goes through what the log has after it.
 */
export type CommitLogStoreOptions = {
  /** Of one data folder, which no other process uses. */
  readonly files: Files;
  readonly flush: Flush;
  readonly segmentBytes?: number;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: Log;
  readonly entriesPerFile?: number;
  readonly retention: Retention;
};

export type Retention = {
  readonly keepMs: number;
  /** Of the commit log; the queues come on top of it, some 7 % with messages of 300 bytes. */
  readonly keepBytes: number;
};

const logFolder = "commitlog";
const segmentBytesDefault = 64 * 1024 * 1024;
/** 6 MB to a file, as in RocketMQ. */
const entriesPerFileDefault = 300_000;
const checkpointMs = 5_000;
/** 100,000 messages of 300 bytes, which a start goes through in a tenth of a second. */
const checkpointBytes = 32 * 1024 * 1024;
/** They stand in 16 bits of a record; RocketMQ's own limit is lower. */
const queueIdMax = 0xffff;

export class CommitLogStore implements MessageStore {
  readonly #options: CommitLogStoreOptions;
  readonly #segmentBytes: number;
  readonly #commitLog: SegmentedLog;
  readonly #handles: ReadHandles;
  readonly #queues: QueueTable;
  #listener: (topic: string, queueId: number) => void = () => {};
  /** Every record before this has its entry. */
  #enteredPosition: number;
  #checkpointPosition: number;
  #checkpointTimer: Timer | undefined;
  /** Checkpoints, retention and deletions, one after the other. */
  #housekeeping: Promise<unknown> = Promise.resolve();
  #checkpointing = false;
  /** Topics whose deletion is not durable yet. */
  readonly #deleting = new Map<string, readonly ConsumeQueue[]>();
  #closed = false;

  static async open(options: CommitLogStoreOptions): Promise<CommitLogStore> {
    const { files, log, entriesPerFile = entriesPerFileDefault, segmentBytes = segmentBytesDefault } = options;
    const checkpoint = readCheckpoint(files);
    if (checkpoint === "damaged") log.warn({}, "the checkpoint is damaged; the whole commit log is read instead");
    const known = typeof checkpoint === "string" ? undefined : checkpoint;
    const handles = new ReadHandles(files);
    let takeBack = (): void => {};
    const commitLog = await SegmentedLog.open({
      ...options,
      folder: logFolder,
      segmentBytes,
      onRefused: () => takeBack(),
      ...(known === undefined ? {} : { knownPosition: known.position }),
    });
    const queues = new QueueTable({
      files,
      handles,
      entriesPerFile,
      find: (queue, gap) => {
        log.warn({ topic: queue.topic, queueId: queue.queueId, ...gap }, "mended a damaged consume queue");
        return findEntries(commitLog, queue, gap);
      },
    });
    const entered = await recoverQueues({ files, handles, log, commitLog, queues, checkpoint: known });
    const store = new CommitLogStore(options, commitLog, handles, queues, entered);
    takeBack = () => store.#takeBack();
    return store;
  }

  private constructor(
    options: CommitLogStoreOptions,
    commitLog: SegmentedLog,
    handles: ReadHandles,
    queues: QueueTable,
    checkpointPosition: number,
  ) {
    this.#options = options;
    this.#segmentBytes = options.segmentBytes ?? segmentBytesDefault;
    this.#commitLog = commitLog;
    this.#handles = handles;
    this.#queues = queues;
    this.#enteredPosition = commitLog.endPosition;
    this.#checkpointPosition = checkpointPosition;
    this.#planCheckpoint();
  }

  async append(topic: string, queueId: number, messages: readonly BrokerMessage[]): Promise<number> {
    if (!isTopicName(topic) || !(queueId >= 0 && queueId <= queueIdMax)) {
      throw new BrokerError(code.illegalTopic, `no topic can be called so, or have a queue ${queueId}`);
    }
    const queue = this.#queues.getOrCreate(topic, queueId);
    const first = queue.assigned;
    if (messages.length === 0) return first;
    const storedAtMs = this.#options.clock.nowMs();
    const records = messages.map((message, i) => encodeMessage(queue.place, message, first + i, storedAtMs));
    const { positions, durable } = this.#commitLog.append(records);
    queue.assigned += messages.length;
    await durable;
    for (const [i, { tag }] of messages.entries()) queue.push(positions[i]!, records[i]!.length, tagHash(tag));
    this.#entered(positions.at(-1)! + frameHeaderBytes + records.at(-1)!.length);
    this.#listener(topic, queueId);
    return first;
  }

  range(topic: string, queueId: number): { first: number; next: number } {
    const { first, next } = this.#queues.get(topic, queueId) ?? { first: 0, next: 0 };
    return { first, next };
  }

  entries(topic: string, queueId: number, fromOffset: number, max: number): readonly QueueEntry[] {
    return this.#queues.get(topic, queueId)?.entries(fromOffset, max) ?? [];
  }

  read({ position, bytes, queueOffset }: QueueEntry): StoredMessage | undefined {
    if (bytes === 0) return undefined;
    const record = this.#commitLog.read(position, bytes);
    const message = record === undefined ? undefined : decodeMessage(record);
    if (message?.queueOffset === queueOffset) return message;
    if (position >= this.#commitLog.firstPosition) {
      this.#options.log.error({ position, bytes, queueOffset }, "a message is damaged on the disk and is left out");
    }
    return undefined;
  }

  /** Every topic that has messages, or had some that retention removed, with its number of queues. */
  topics(): ReadonlyMap<string, number> {
    const topics = new Map<string, number>();
    for (const { topic, queueId } of this.#queues.all())
      topics.set(topic, Math.max(topics.get(topic) ?? 0, queueId + 1));
    return topics;
  }

  onAppended(listener: (topic: string, queueId: number) => void): void {
    this.#listener = listener;
  }

  /** Its messages are gone at once, and its offsets begin at 0 again. @throws BrokerError, and then they are not */
  async deleteTopic(topic: string): Promise<void> {
    const queues = this.#queues.ofTopic(topic);
    if (queues.length === 0) return;
    const record = encodeTopicDeleted(topic, this.#options.clock.nowMs());
    const { positions, durable } = this.#commitLog.append([record]);
    this.#queues.delete(topic);
    this.#deleting.set(topic, queues);
    const deleted = durable.then(() => {
      this.#deleting.delete(topic);
      this.#entered(positions[0]! + frameHeaderBytes + record.length);
    });
    // It may fail before the chain comes to it.
    deleted.catch(() => {});
    // In the chain from now on: what a later checkpoint writes for a topic of the same name must stay.
    await this.#keepHouse(async () => {
      await deleted;
      this.#handles.forget(topicFolder(topic));
      await this.#options.files.remove(topicFolder(topic));
    });
  }

  /**
   * Removes whole segments, the oldest first, until what is left is neither too much nor too old. Messages that a group
   * has not consumed go too, and the log says how many; a disk has an end.
   * @param consumedUpTo undefined: no group has ever read from that queue.
   */
  collect(nowMs: number, consumedUpTo: (topic: string, queueId: number) => number | undefined): Promise<void> {
    return this.#keepHouse(async () => {
      const { keepMs, keepBytes } = this.#options.retention;
      const position = this.#dropPosition(keepBytes, nowMs - keepMs);
      if (position === this.#commitLog.firstPosition) return;
      const unconsumed = new Map<string, number>();
      for (const queue of this.#queues.all()) {
        const first = queue.search((entry) => entry.position >= position);
        const consumed = consumedUpTo(queue.topic, queue.queueId) ?? first;
        const lost = first - Math.max(queue.first, consumed);
        if (lost > 0) unconsumed.set(queue.topic, (unconsumed.get(queue.topic) ?? 0) + lost);
        queue.first = first;
      }
      for (const [topic, messages] of unconsumed) {
        this.#options.log.warn({ topic, messages }, "retention removes messages that a group has not consumed");
      }
      // First: when all messages of a queue go, the checkpoint alone knows its next offset. A disk that has no room for
      // one gets some all the same: what lies before the last checkpoint may go.
      const failure = await this.#checkpoint().catch((error: unknown) => error ?? "unknown");
      await this.#commitLog.dropBefore(Math.min(position, this.#checkpointPosition));
      if (failure !== undefined) throw failure;
      for (const queue of this.#queues.all()) await queue.dropFiles();
    });
  }

  /** Does not fail: what could not be written is logged, and no worse than a crash. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#checkpointTimer?.cancel();
    await this.#keepHouse(async () => {
      if (this.#isDirty) await this.#checkpoint();
    }).catch((error: unknown) => this.#noCheckpoint(error));
    await this.#commitLog.close();
    this.#handles.close();
  }

  /** Where the log would begin after retention: the start of a segment, at most of the one that is written to. */
  #dropPosition(keepBytes: number, keepFromMs: number): number {
    const end = this.#enteredPosition;
    let position = this.#commitLog.firstPosition;
    for (let next = position + this.#segmentBytes; next <= end; next += this.#segmentBytes) {
      if (end - position <= keepBytes && !isOlder(this.#commitLog, next, keepFromMs)) break;
      position = next;
    }
    return position;
  }

  get #isDirty(): boolean {
    return this.#enteredPosition > this.#checkpointPosition || [...this.#queues.all()].some(({ isDirty }) => isDirty);
  }

  #entered(position: number): void {
    this.#enteredPosition = Math.max(this.#enteredPosition, position);
    this.#planCheckpoint();
  }

  /** All that was not durable is refused: offsets are given out again, and deleted topics are still there. */
  #takeBack(): void {
    for (const [topic, queues] of this.#deleting) this.#queues.putBack(topic, queues);
    this.#deleting.clear();
    for (const queue of this.#queues.all()) queue.assigned = queue.next;
  }

  #planCheckpoint(): void {
    const bytes = this.#enteredPosition - this.#checkpointPosition;
    if (bytes <= 0 || this.#closed || this.#checkpointing) return;
    if (bytes >= checkpointBytes) void this.#checkpointInTime();
    else this.#checkpointTimer ??= this.#options.timers.after(checkpointMs, () => void this.#checkpointInTime());
  }

  async #checkpointInTime(): Promise<void> {
    this.#checkpointTimer?.cancel();
    this.#checkpointTimer = undefined;
    this.#checkpointing = true;
    try {
      await this.#keepHouse(() => this.#checkpoint());
    } catch (error) {
      // The next append plans another.
      this.#noCheckpoint(error);
    } finally {
      this.#checkpointing = false;
    }
  }

  #noCheckpoint(error: unknown): void {
    this.#options.log.warn({ err: errorFields(error) }, "no checkpoint could be written; a start would take longer");
  }

  async #checkpoint(): Promise<void> {
    const position = this.#enteredPosition;
    // Those of a topic whose deletion may yet be refused too; the news of it stands behind this position.
    const all = [...this.#queues.all(), ...[...this.#deleting.values()].flat()];
    const queues = all.map(({ topic, queueId, first, next }) => ({ topic, queueId, first, next }));
    // The log first: an entry on the disk must not point to a message that is not.
    await this.#commitLog.sync();
    for (const queue of all) await queue.flush();
    reach("queues-flushed");
    await writeCheckpoint(this.#options.files, { position, queues });
    this.#checkpointPosition = position;
  }

  #keepHouse<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#housekeeping.then(work);
    this.#housekeeping = done.catch(() => {});
    return done;
  }
}

/** Whether all that stands before a position is older: what stands first after it is. */
const isOlder = (log: AppendLog, position: number, thanMs: number): boolean => {
  for (const { record } of log.scan(position)) return storedAtMsOf(record) < thanMs;
  return false;
};

/** What the proxy lets through as a name, and what is one file name everywhere. */
const isTopicName = (topic: string): boolean => /^[%|\w-]{1,240}$/.test(topic);
