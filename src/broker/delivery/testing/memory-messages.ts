import type { BrokerMessage, StoredMessage } from "../../broker-message.ts";
import { type MessageStore, type QueueEntry, tagHash } from "../../storage/message-store.port.ts";

/** A message store in memory: an array per queue. */
export class MemoryMessages implements MessageStore {
  reads = 0;
  /** While set, reading fails with it. */
  failure: Error | undefined;
  readonly #queues = new Map<string, { first: number; messages: StoredMessage[] }>();
  #listener: (topic: string, queueId: number) => void = () => {};

  async append(topic: string, queueId: number, messages: readonly BrokerMessage[]): Promise<number> {
    const queue = this.#queue(topic, queueId);
    const offset = queue.first + queue.messages.length;
    for (const message of messages) {
      queue.messages.push({ ...message, queueId, queueOffset: queue.first + queue.messages.length, storedAtMs: 0 });
    }
    this.#listener(topic, queueId);
    return offset;
  }

  range(topic: string, queueId: number) {
    const { first, messages } = this.#queue(topic, queueId);
    return { first, next: first + messages.length };
  }

  entries(topic: string, queueId: number, fromOffset: number, max: number): readonly QueueEntry[] {
    const { first, messages } = this.#queue(topic, queueId);
    const from = Math.max(0, fromOffset - first);
    return messages.slice(from, from + max).map(({ queueOffset, body, tag }) => ({
      queueOffset,
      // Of which queue it is, in place of where it is.
      position: [...this.#queues.keys()].indexOf(`${topic}/${queueId}`),
      bytes: body.length + 100,
      tagHash: tagHash(tag),
    }));
  }

  read(entry: QueueEntry): StoredMessage | undefined {
    this.reads++;
    if (this.failure !== undefined) throw this.failure;
    const { first, messages } = [...this.#queues.values()][entry.position]!;
    return messages[entry.queueOffset - first];
  }

  onAppended(listener: (topic: string, queueId: number) => void): void {
    this.#listener = listener;
  }

  /** What retention does. */
  removeBefore(topic: string, queueId: number, offset: number): void {
    const queue = this.#queue(topic, queueId);
    queue.messages.splice(0, offset - queue.first);
    queue.first = offset;
  }

  /** What a loss of power does to a store that is not synced. */
  cutTo(topic: string, queueId: number, end: number): void {
    const queue = this.#queue(topic, queueId);
    queue.messages.length = end - queue.first;
  }

  #queue(topic: string, queueId: number) {
    const name = `${topic}/${queueId}`;
    const queue = this.#queues.get(name) ?? { first: 0, messages: [] };
    this.#queues.set(name, queue);
    return queue;
  }
}
