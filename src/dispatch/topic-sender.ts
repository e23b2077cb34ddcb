import { type DelayedMessage, redriveProperty } from "../message/message.ts";
import { reach } from "../runtime/failpoint.ts";
import type { Timer, Timers } from "../runtime/timers.ts";
import { type SendResult, type Sink, sendBytesMax, sendMessagesMax } from "./sink.port.ts";

/**
 * Sends the claimed messages of one topic, merged from all shards into as few calls as possible: on the real broker a
 * call of 64 costs about 9 times as much as a call of 1. Messages of a message group go alone, in the order in which
 * they come; the store hands out only the head of each group, so groups do not wait for each other.
 */

/** Long enough to merge what several shards claim in one tick, short enough not to be seen in the lateness. */
const lingerMs = 2;
/** Calls under way per topic. Four keep a broker busy; more only lengthen its queue. */
const callsMax = 4;
const groupCallsMax = 64;
/** Full enough not to wait for more. */
const fullMessages = 64;
/** What properties, tag and keys may add to a body in the encoded batch, at most (limits.propertyBytesMax and ours). */
const envelopeBytes = (message: DelayedMessage): number => {
  let bytes = 256 + message.topic.length;
  for (const [name, value] of message.properties) bytes += (name.length + value.length) * 3 + 8;
  for (const key of message.keys) bytes += key.length * 3 + 4;
  return bytes;
};

const asSent = (message: DelayedMessage): DelayedMessage => {
  if (!message.properties.has(redriveProperty)) return message;
  const properties = new Map(message.properties);
  properties.delete(redriveProperty);
  return { ...message, properties };
};

/** A claimed message with what its dispatcher needs back. */
export type Outgoing = {
  readonly message: DelayedMessage;
  readonly handle: number;
  readonly lane: number;
  readonly shard: number;
  readonly epoch: number;
};

export type TopicSenderOptions = {
  readonly topic: string;
  readonly sink: Sink;
  readonly timers: Timers;
  /** The last look before the wire: true sends it, false has dealt with it otherwise. */
  readonly mayGo: (item: Outgoing) => boolean;
  readonly onResults: (items: readonly Outgoing[], results: readonly SendResult[]) => void;
};

export class TopicSender {
  readonly #options: TopicSenderOptions;
  #queue: Outgoing[] = [];
  #groupQueue: Outgoing[] = [];
  #calls = 0;
  #groupCalls = 0;
  #timer: Timer | undefined;

  constructor(options: TopicSenderOptions) {
    this.#options = options;
  }

  get idle(): boolean {
    return this.#queue.length === 0 && this.#groupQueue.length === 0 && this.#calls === 0 && this.#groupCalls === 0;
  }

  add(item: Outgoing): void {
    if (item.message.messageGroup !== undefined) {
      this.#groupQueue.push(item);
      this.#sendGroups();
      return;
    }
    this.#queue.push(item);
    if (this.#queue.length >= fullMessages) this.#send();
    else this.#linger();
  }

  /** Takes back what has not gone out yet and matches. */
  withdraw(matches: (item: Outgoing) => boolean): Outgoing[] {
    const withdrawn = [...this.#queue, ...this.#groupQueue].filter(matches);
    this.#queue = this.#queue.filter((item) => !matches(item));
    this.#groupQueue = this.#groupQueue.filter((item) => !matches(item));
    return withdrawn;
  }

  #linger(): void {
    this.#timer ??= this.#options.timers.after(lingerMs, () => {
      this.#timer = undefined;
      this.#send();
    });
  }

  #send(): void {
    while (this.#queue.length > 0 && this.#calls < callsMax) {
      const batch = this.#nextBatch();
      if (batch.length === 0) continue;
      this.#calls++;
      void this.#call(batch).then(() => {
        this.#calls--;
        this.#send();
      });
    }
  }

  #nextBatch(): Outgoing[] {
    const batch: Outgoing[] = [];
    let bytes = 0;
    let looked = 0;
    for (const item of this.#queue) {
      const itemBytes = item.message.body.length + envelopeBytes(item.message);
      if (batch.length > 0 && (bytes + itemBytes > sendBytesMax || batch.length >= sendMessagesMax)) break;
      looked++;
      if (!this.#options.mayGo(item)) continue;
      batch.push(item);
      bytes += itemBytes;
    }
    this.#queue.splice(0, looked);
    return batch;
  }

  #sendGroups(): void {
    while (this.#groupQueue.length > 0 && this.#groupCalls < groupCallsMax) {
      const item = this.#groupQueue.shift()!;
      if (!this.#options.mayGo(item)) continue;
      this.#groupCalls++;
      void this.#call([item]).then(() => {
        this.#groupCalls--;
        this.#sendGroups();
      });
    }
  }

  async #call(batch: readonly Outgoing[]): Promise<void> {
    const results = await this.#options.sink.send(
      this.#options.topic,
      batch.map((item) => asSent(item.message)),
    );
    reach("sent");
    this.#options.onResults(batch, results);
  }
}
