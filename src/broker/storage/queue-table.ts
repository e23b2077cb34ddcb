import { ConsumeQueue, type ConsumeQueueOptions } from "./consume-queue.ts";

/** All consume queues, by topic and number. */
export class QueueTable {
  readonly #options: ConsumeQueueOptions;
  readonly #topics = new Map<string, (ConsumeQueue | undefined)[]>();

  constructor(options: ConsumeQueueOptions) {
    this.#options = options;
  }

  get(topic: string, queueId: number): ConsumeQueue | undefined {
    return this.#topics.get(topic)?.[queueId];
  }

  getOrCreate(topic: string, queueId: number): ConsumeQueue {
    return this.get(topic, queueId) ?? this.create(topic, queueId, { first: 0, next: 0 });
  }

  create(topic: string, queueId: number, range: { first: number; next: number }): ConsumeQueue {
    const queue = new ConsumeQueue(this.#options, topic, queueId, range);
    const queues = this.#topics.get(topic) ?? [];
    queues[queueId] = queue;
    this.#topics.set(topic, queues);
    return queue;
  }

  ofTopic(topic: string): readonly ConsumeQueue[] {
    return (this.#topics.get(topic) ?? []).filter((queue) => queue !== undefined);
  }

  *all(): Iterable<ConsumeQueue> {
    for (const topic of this.#topics.keys()) yield* this.ofTopic(topic);
  }

  topics(): Iterable<string> {
    return this.#topics.keys();
  }

  delete(topic: string): void {
    this.#topics.delete(topic);
  }

  putBack(topic: string, queues: readonly ConsumeQueue[]): void {
    this.#topics.delete(topic);
    const places: (ConsumeQueue | undefined)[] = [];
    for (const queue of queues) places[queue.queueId] = queue;
    this.#topics.set(topic, places);
  }

  clear(): void {
    this.#topics.clear();
  }
}
