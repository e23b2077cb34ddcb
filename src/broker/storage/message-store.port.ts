import type { BrokerMessage, StoredMessage } from "../broker-message.ts";
import { javaHash } from "../java-hash.ts";

/**
 * The messages of all topics: one commit log, and per topic and queue a list of 20-byte entries that point into it.
 * It knows no consumers; who has read what is the business of `delivery`.
 */
export interface MessageStore {
  /**
   * Appends to one queue, in the order given, next to each other.
   * @returns the offset of the first, once all are as durable as the store was told to be; they can be read from then on.
   * @throws BrokerError internalServerError when nothing was stored, with what is wrong (disk full, for example).
   */
  append(topic: string, queueId: number, messages: readonly BrokerMessage[]): Promise<number>;
  /** `next` is the first offset that cannot be read yet; both 0 for a queue that never had a message. */
  range(topic: string, queueId: number): { readonly first: number; readonly next: number };
  /** Up to `max` entries from `fromOffset` (or the first there is) on, without touching a message. */
  entries(topic: string, queueId: number, fromOffset: number, max: number): readonly QueueEntry[];
  /** Undefined when retention removed it, or when it is damaged (which is logged); others stay readable. */
  read(entry: QueueEntry): StoredMessage | undefined;
  /** Called once messages can be read. One listener: the deliveries. */
  onAppended(listener: (topic: string, queueId: number) => void): void;
}

export type QueueEntry = {
  readonly queueOffset: number;
  /** Of the record in the commit log. */
  readonly position: number;
  readonly bytes: number;
  readonly tagHash: number;
};

/**
 * The hash of a tag as RocketMQ's consume queues hold it; 0 for no tag. Two tags may share one, so that a filter looks
 * at the tag itself at the end.
 */
export const tagHash = (tag: string | undefined): number => (tag === undefined ? 0 : javaHash(tag));
