import type { Log } from "../../runtime/log.ts";
import type { Files } from "../files/files.port.ts";
import type { ReadHandles } from "../files/read-handles.ts";
import type { AppendLog } from "./append-log.port.ts";
import type { Checkpoint } from "./checkpoint.ts";
import { isTopicDeleted, queueIdOf, queueOffsetOf, tagOf, topicOf } from "./commit-record.ts";
import { type ConsumeQueue, type Gap, queuesFolder, topicFolder } from "./consume-queue.ts";
import { type QueueEntry, tagHash } from "./message-store.port.ts";
import type { QueueTable } from "./queue-table.ts";

/**
 * Brings the consume queues to where the commit log is. With a checkpoint and the files it speaks of, only what the log
 * has after it is read; otherwise the whole log, and the queue files are made anew.
 */
export type Recovery = {
  readonly files: Files;
  readonly handles: ReadHandles;
  readonly log: Log;
  readonly commitLog: AppendLog;
  readonly queues: QueueTable;
  readonly checkpoint: Checkpoint | undefined;
};

/** So many entries wait in memory at most while the whole log is read: 10 MB. */
const entriesWaitingMax = 500_000;

/** @returns the position up to which the queues are on the disk. */
export const recoverQueues = async (recovery: Recovery): Promise<number> => {
  const { log, commitLog, queues, checkpoint } = recovery;
  let from = commitLog.firstPosition;
  let floors: Checkpoint["queues"] = [];
  if (checkpoint !== undefined && restoreQueues(recovery, checkpoint)) {
    from = checkpoint.position;
  } else {
    floors = checkpoint?.queues ?? [];
    if (commitLog.endPosition > from) log.warn({}, "the consume queues are made anew from the whole commit log");
    queues.clear();
    recovery.handles.forget(queuesFolder);
    await recovery.files.remove(queuesFolder);
  }
  const deleted = await enterRecords(recovery, from);
  for (const { topic, queueId, next } of floors) {
    // Consumers remember offsets: they do not begin at 0 again because the messages are gone.
    if (!deleted.has(topic)) queues.getOrCreate(topic, queueId).skipTo(next, commitLog.endPosition);
  }
  for (const queue of queues.all()) queue.first = queue.search(({ position }) => position >= commitLog.firstPosition);
  await removeStrangers(recovery);
  return from;
};

/** False when something that the checkpoint speaks of is not there. */
const restoreQueues = ({ log, commitLog, queues }: Recovery, checkpoint: Checkpoint): boolean => {
  if (checkpoint.position > commitLog.endPosition) {
    const lostBytes = checkpoint.position - commitLog.endPosition;
    log.error({ lostBytes }, "the commit log is shorter than it was: messages at its end are lost");
    return false;
  }
  for (const { topic, queueId, ...range } of checkpoint.queues) {
    if (!queues.create(topic, queueId, range).hasFiles()) {
      log.warn({ topic, queueId }, "a consume queue lacks files");
      return false;
    }
  }
  return true;
};

/** @returns the topics that were deleted in this part of the log. */
const enterRecords = async ({ log, commitLog, queues }: Recovery, from: number): Promise<ReadonlySet<string>> => {
  const deleted = new Set<string>();
  let entries = 0;
  for (const { position, record } of commitLog.scan(from)) {
    const topic = topicOf(record);
    if (isTopicDeleted(record)) {
      queues.delete(topic);
      deleted.add(topic);
      continue;
    }
    const queueId = queueIdOf(record);
    const offset = queueOffsetOf(record);
    let queue = queues.getOrCreate(topic, queueId);
    if (offset < queue.next) {
      // Offsets go back only when the topic is deleted, and the record of that must have been damaged.
      log.error({ topic, queueId, offset, position }, "an offset stands twice in the log: the later one counts");
      queue = queues.create(topic, queueId, { first: offset, next: offset });
    }
    queue.skipTo(offset, position);
    queue.push(position, record.length, tagHash(tagOf(record)));
    if (++entries % entriesWaitingMax === 0) for (const each of queues.all()) await each.flush();
  }
  return deleted;
};

/** Folders of topics that were deleted just before a crash. */
const removeStrangers = async ({ files, handles, queues }: Recovery): Promise<void> => {
  const known = new Set([...queues.topics()].map(topicFolder));
  for (const name of files.list(queuesFolder)) {
    const folder = `${queuesFolder}/${name}`;
    if (known.has(folder)) continue;
    handles.forget(folder);
    await files.remove(folder);
  }
};

/** The entries of a gap, from the records that lie around it. */
export const findEntries = (commitLog: AppendLog, queue: ConsumeQueue, gap: Gap): ReadonlyMap<number, QueueEntry> => {
  const found = new Map<number, QueueEntry>();
  for (const { position, record } of commitLog.scan(gap.fromPosition ?? commitLog.firstPosition)) {
    if (position > (gap.toPosition ?? Number.POSITIVE_INFINITY)) break;
    if (topicOf(record) !== queue.topic) continue;
    if (isTopicDeleted(record)) {
      found.clear();
      continue;
    }
    const queueOffset = queueOffsetOf(record);
    if (queueIdOf(record) !== queue.queueId || queueOffset < gap.fromOffset || queueOffset >= gap.toOffset) continue;
    found.set(queueOffset, { queueOffset, position, bytes: record.length, tagHash: tagHash(tagOf(record)) });
  }
  return found;
};
