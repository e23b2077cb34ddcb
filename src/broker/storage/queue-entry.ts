import { mix } from "./frame.ts";
import type { QueueEntry } from "./message-store.port.ts";

/**
 * A consume queue's entry on disk, RocketMQ's twenty bytes: 8 position in the commit log, 4 size of the record, 8 tag
 * hash. Java's hash code needs four of the last eight; the other four hold a check over the entry, its topic, queue
 * and offset. So an entry that was never written, was torn, flipped or belongs elsewhere is known without a look at
 * the message.
 */
export const entryBytes = 20;

/** A size of 0: the message of this offset cannot be read any more. Its position is that of a neighbour. */
export const holeBytes = 0;

/** What the checks of one queue's entries start from. */
export const queueSeed = (topic: string, queueId: number): number => {
  let seed = mix(0x51_45_4e_54, queueId);
  for (let i = 0; i < topic.length; i++) seed = mix(seed, topic.charCodeAt(i));
  return seed;
};

export const writeEntry = (target: Buffer, at: number, seed: number, entry: QueueEntry): void => {
  const { position, bytes, tagHash } = entry;
  target.writeUInt32LE(position >>> 0, at);
  target.writeUInt32LE((position / 2 ** 32) | 0, at + 4);
  target.writeUInt32LE(bytes, at + 8);
  target.writeInt32LE(tagHash, at + 12);
  target.writeInt32LE(check(target, at, seed, entry.queueOffset), at + 16);
};

export const readEntry = (source: Buffer, at: number, seed: number, queueOffset: number): QueueEntry | undefined => {
  if (source.readInt32LE(at + 16) !== check(source, at, seed, queueOffset)) return undefined;
  return {
    queueOffset,
    position: source.readUInt32LE(at) + source.readUInt32LE(at + 4) * 2 ** 32,
    bytes: source.readUInt32LE(at + 8),
    tagHash: source.readInt32LE(at + 12),
  };
};

const check = (entry: Buffer, at: number, seed: number, queueOffset: number): number => {
  let hash = mix(mix(seed, queueOffset | 0), (queueOffset / 2 ** 32) | 0);
  for (let i = 0; i < 16; i += 4) hash = mix(hash, entry.readInt32LE(at + i));
  return hash ^ (hash >>> 15);
};
