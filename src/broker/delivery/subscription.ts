import type { Log } from "../../runtime/log.ts";
import type { Random } from "../../runtime/random.ts";
import type { StoredMessage } from "../broker-message.ts";
import type { MessageStore } from "../storage/message-store.port.ts";
import type { DeliveryRules, Progress, ReceiveRequest } from "./deliveries.port.ts";
import type { Instant } from "./progress-book.ts";
import type { ProgressRecord } from "./progress-record.ts";
import { type Held, QueueProgress } from "./queue-progress.ts";
import type { ReceiptHandle } from "./receipt-handle.ts";
import { type DeliveryLimits, type Taken, Turn } from "./turn.ts";

/**
 * One group's view of one topic: its progress with each queue, and whose turn it is. Waiting and writing are done
 * elsewhere.
 */
export type SubscriptionOptions = {
  readonly group: string;
  readonly topic: string;
  readonly store: MessageStore;
  readonly rules: DeliveryRules;
  readonly random: Random;
  readonly log: Log;
  readonly limits: DeliveryLimits;
  /** By queue id. */
  readonly queues: (QueueProgress | undefined)[];
  readonly note: (record: ProgressRecord) => void;
};

export class Subscription {
  readonly group: string;
  readonly topic: string;
  readonly #options: SubscriptionOptions;
  readonly #queues: (QueueProgress | undefined)[];
  #firstQueue = 0;

  constructor(options: SubscriptionOptions) {
    this.group = options.group;
    this.topic = options.topic;
    this.#options = options;
    this.#queues = options.queues;
  }

  get queues(): readonly (QueueProgress | undefined)[] {
    return this.#queues;
  }

  queue(queueId: number): QueueProgress | undefined {
    return this.#queues[queueId];
  }

  /** The present delivery that a handle stands for, if it is good. */
  find(handle: ReceiptHandle | undefined, nowMs: number): { queue: QueueProgress; held: Held } | undefined {
    const queue = handle && this.#queues[handle.queueId];
    const held = queue?.find(handle!.offset, handle!.nonce, nowMs);
    return held && { queue: queue!, held };
  }

  isDone(handle: ReceiptHandle | undefined): boolean {
    return (handle && this.#queues[handle.queueId]?.isDone(handle.offset)) ?? false;
  }

  /** When something held is to be delivered again; -Infinity for now. */
  get nextReadyMs(): number {
    // Only of queues that a look would come to: those of a topic that is being deleted would ring without end.
    const queues = this.#queues.slice(0, this.#options.rules.queueCount(this.topic));
    return queues.reduce((first, queue) => Math.min(first, queue?.nextReadyMs ?? Infinity), Infinity);
  }

  read(queueId: number, offset: number): StoredMessage | undefined {
    const entry = this.#options.store.entries(this.topic, queueId, offset, 1)[0];
    return entry?.queueOffset === offset ? this.#options.store.read(entry) : undefined;
  }

  newNonce(): number {
    return this.#options.random.bytes(nonceBytes).readUIntBE(0, 6) || 1;
  }

  take(request: ReceiveRequest, now: Instant): Taken {
    const count = this.#options.rules.queueCount(this.topic);
    const turn = new Turn(this, this.#options, request, now);
    const first = this.#firstQueue++ % count;
    for (let i = 0; i < count; i++) turn.takeReady((first + i) % count);
    for (let i = 0; i < count; i++) turn.takeNew((first + i) % count);
    return turn.end();
  }

  progress(): Progress {
    let waiting = 0;
    let out = 0;
    const queues = [];
    for (let queueId = 0; queueId < this.#options.rules.queueCount(this.topic); queueId++) {
      const { first, next } = this.#options.store.range(this.topic, queueId);
      const queue = this.#queues[queueId] ?? new QueueProgress(first);
      const { delivered, undelivered } = queue.counts;
      waiting += Math.max(0, next - Math.max(first, queue.next)) + undelivered;
      out += delivered;
      queues.push({ queueId, first, done: queue.doneUpTo, next });
    }
    return { waiting, out, queues };
  }

  queueOrNew(queueId: number): QueueProgress {
    const known = this.#queues[queueId];
    if (known !== undefined) return known;
    // A new group starts at the first message there is.
    const { first } = this.#options.store.range(this.topic, queueId);
    const queue = new QueueProgress(first);
    this.#queues[queueId] = queue;
    // Also when there is nothing yet: from now on retention knows that this group wants it.
    const name = { group: this.group, topic: this.topic, queueId };
    this.#options.note({ kind: "taken", queue: name, from: 0, next: first, taken: [], skipped: [] });
    return queue;
  }
}

// Filled anew for each delivery and read at once.
const nonceBytes = Buffer.alloc(6);
