import type { StoredMessage } from "../broker-message.ts";
import { type QueueEntry, tagHash } from "../storage/message-store.port.ts";
import type { Delivery, ReceiveRequest, TagFilter } from "./deliveries.port.ts";
import { type Instant, takenOf } from "./progress-book.ts";
import type { SkippedOffset, TakenOffset } from "./progress-record.ts";
import type { Held, QueueProgress } from "./queue-progress.ts";
import { writeHandle } from "./receipt-handle.ts";
import type { Subscription, SubscriptionOptions } from "./subscription.ts";

/**
 * One look for messages on behalf of one poll: first what is to be delivered again, then new ones. It changes the
 * progress and notes it, one record for each queue.
 *
 * What the filter does not want is done with for the whole group, as in RocketMQ: all consumers of a group are
 * expected to want the same. Most of it is told apart by the hash in the queue, without reading the message.
 */
export type Taken = {
  readonly deliveries: readonly Delivery[];
  /** Their attempts are used up; each is held until it is buried. */
  readonly exhausted: readonly Exhausted[];
  /** There may be more; the look was only getting long for one turn of the event loop. */
  readonly more: boolean;
};
export type Exhausted = { readonly queueId: number; readonly held: Held; readonly message: StoredMessage };

/** In entries looked at, 0.2 µs each; reading a message is some 5 µs. So a look takes a few milliseconds at most. */
const effortMax = 8_192;
const readingEffort = 32;
/** What one answer may hold; a single message that is larger goes alone. Clients in Node take 4 MiB at a time. */
const answerBytesMax = 4 * 1024 * 1024;
/** Bounds of what is remembered for one group and queue. */
export type DeliveryLimits = {
  /**
   * Offsets behind a busy message group, 8 bytes each, remembered so that what lies behind them can go on. Beyond it new
   * messages of that queue wait until some of these are done.
   */
  readonly skippedMax: number;
  /** 160 bytes each. Who takes so many and acknowledges none gets no new ones from that queue until he does. */
  readonly heldMax: number;
};
export const deliveryLimits: DeliveryLimits = { skippedMax: 10_000, heldMax: 100_000 };

export class Turn {
  readonly #subscription: Subscription;
  readonly #options: SubscriptionOptions;
  readonly #request: ReceiveRequest;
  readonly #hashes: ReadonlySet<number> | undefined;
  readonly #now: Instant;
  readonly #untilMs: number;
  readonly #deliveries: Delivery[] = [];
  readonly #exhausted: Exhausted[] = [];
  #bytes = 0;
  #isFull = false;
  #effort = 0;

  constructor(subscription: Subscription, options: SubscriptionOptions, request: ReceiveRequest, now: Instant) {
    this.#subscription = subscription;
    this.#options = options;
    this.#request = request;
    this.#hashes = hashesOf(request.filter);
    this.#now = now;
    this.#untilMs = now.monotonicMs + request.invisibleMs;
  }

  takeReady(queueId: number): void {
    const queue = this.#subscription.queueOrNew(queueId);
    const attemptsMax = this.#options.rules.attemptsMax(this.#subscription.group);
    const taken: TakenOffset[] = [];
    const done: number[] = [];
    while (this.#canGoOn) {
      const held = queue.nextReady(this.#now.monotonicMs);
      if (held === undefined) break;
      this.#effort += readingEffort;
      const message = this.#subscription.read(queueId, held.offset);
      if (message === undefined || !matches(this.#request.filter, message)) {
        queue.done(held.offset);
        done.push(held.offset);
      } else if (held.attempt >= attemptsMax) {
        queue.change(held, 0, Infinity, 0);
        this.#exhausted.push({ queueId, held, message });
      } else if (this.#makeRoom(message.body.length)) {
        taken.push(this.#deliver(queue, message, held.messageGroup, held.attempt + 1));
      }
    }
    const { group, topic } = this.#subscription;
    const name = { group, topic, queueId };
    if (done.length > 0) this.#options.note({ kind: "done", queue: name, offsets: done });
    if (taken.length > 0) {
      this.#options.note({ kind: "taken", queue: name, from: queue.next, next: queue.next, taken, skipped: [] });
    }
  }

  takeNew(queueId: number): void {
    const queue = this.#subscription.queueOrNew(queueId);
    const from = queue.next;
    const taken: TakenOffset[] = [];
    const skipped: SkippedOffset[] = [];
    let goOn = true;
    try {
      while (goOn && this.#canGoOn) {
        const entries = this.#newEntries(queue, queueId);
        goOn = entries.length > 0;
        for (const entry of entries) {
          goOn = this.#canGoOn && this.#takeEntry(queue, entry, taken, skipped);
          if (!goOn) break;
        }
      }
    } finally {
      // Also when the disk cannot be read on the way: what was changed is to be noted.
      const { group, topic } = this.#subscription;
      const name = { group, topic, queueId };
      if (queue.next > from) {
        this.#options.note({ kind: "taken", queue: name, from, next: queue.next, taken, skipped });
      }
    }
  }

  end(): Taken {
    const more = !this.#isFull && this.#deliveries.length === 0 && this.#effort >= effortMax;
    return { deliveries: this.#deliveries, exhausted: this.#exhausted, more };
  }

  get #canGoOn(): boolean {
    return !this.#isFull && this.#deliveries.length < this.#request.max && this.#effort < effortMax;
  }

  #newEntries(queue: QueueProgress, queueId: number): readonly QueueEntry[] {
    const { store, log, limits } = this.#options;
    const room = Math.min(this.#request.max - this.#deliveries.length, limits.heldMax - queue.heldCount);
    if (room <= 0) return [];
    const { group, topic } = this.#subscription;
    const count = this.#hashes === undefined ? room : Math.max(room, 64);
    const entries = store.entries(topic, queueId, queue.next, count);
    const first = entries[0]?.queueOffset ?? store.range(topic, queueId).first;
    if (first > queue.next) {
      const lost = first - queue.next;
      log.warn(
        { group, topic, queueId, from: queue.next, to: first, lost },
        "retention took messages before the group",
      );
      queue.pass(first);
    }
    return entries;
  }

  /** @returns false when the queue has to stop here for now. */
  #takeEntry(queue: QueueProgress, entry: QueueEntry, taken: TakenOffset[], skipped: SkippedOffset[]): boolean {
    const { queueOffset } = entry;
    this.#effort++;
    if (this.#hashes !== undefined && !this.#hashes.has(entry.tagHash)) {
      queue.pass(queueOffset + 1);
      return true;
    }
    if (!this.#makeRoom(entry.bytes)) return false;
    const message = this.#options.store.read(entry);
    if (message === undefined || !matches(this.#request.filter, message)) {
      this.#effort += readingEffort;
      this.#bytes -= entry.bytes;
      queue.pass(queueOffset + 1);
      return true;
    }
    const { messageGroup } = message;
    if (messageGroup !== undefined && queue.isBlocked(messageGroup)) {
      this.#effort += readingEffort;
      this.#bytes -= entry.bytes;
      if (queue.skippedCount >= this.#options.limits.skippedMax) return false;
      queue.skip(queueOffset, messageGroup);
      skipped.push({ offset: queueOffset, messageGroup });
      return true;
    }
    taken.push(this.#deliver(queue, message, messageGroup, 1));
    return true;
  }

  #deliver(
    queue: QueueProgress,
    message: StoredMessage,
    messageGroup: string | undefined,
    attempt: number,
  ): TakenOffset {
    const { queueId, queueOffset: offset } = message;
    const nonce = this.#subscription.newNonce();
    const { invisibleMs } = this.#request;
    const held = queue.take({ offset, messageGroup, attempt, nonce, untilMs: this.#untilMs, invisibleMs });
    this.#deliveries.push({ message, handle: writeHandle({ queueId, offset, nonce }), attempt });
    return takenOf(held, this.#now);
  }

  /** Counts the bytes in, unless the answer is full with others. */
  #makeRoom(bytes: number): boolean {
    if (this.#deliveries.length > 0 && this.#bytes + bytes > answerBytesMax) {
      this.#isFull = true;
      return false;
    }
    this.#bytes += bytes;
    return true;
  }
}

const hashesOf = ({ tags }: TagFilter): ReadonlySet<number> | undefined =>
  tags.size === 0 ? undefined : new Set(Array.from(tags, tagHash));

const matches = ({ tags }: TagFilter, { tag }: StoredMessage): boolean =>
  tags.size === 0 || (tag !== undefined && tags.has(tag));
