import type { IncomingMessage, TopicSource } from "../../ingest/topic-source.port.ts";
import type { Clock } from "../../runtime/clock.ts";
import type { BarrierStore } from "./barrier.port.ts";
import { identityOf } from "./half-message.ts";

/**
 * Sees the messages of a half topic arrive, as a consumer group of our own: the only proof that a message is visible,
 * since the broker's "committed" is none. All processes of a database share the group.
 *
 * A group of a consumer that is new begins at the end of its topic; what it has not seen is sent once more by the
 * backstop, and seen then.
 */
export type TopicWatchOptions = {
  readonly topic: string;
  readonly source: TopicSource;
  readonly barrier: Pick<BarrierStore<never>, "see">;
  readonly databaseId: string;
  readonly clock: Clock;
  readonly counted?: { seen(count: number): void };
};

/** Full batches mean that there is more behind them. */
const fullBatch = 32;

export class TopicWatch {
  readonly topic: string;
  readonly #options: TopicWatchOptions;
  readonly firstPoll: Promise<void>;
  #polled!: () => void;
  #caughtUpAtMs: number | undefined;

  constructor(options: TopicWatchOptions) {
    this.#options = options;
    this.topic = options.topic;
    this.firstPoll = new Promise((resolve) => {
      this.#polled = resolve;
    });
  }

  async runOnce(signal: AbortSignal): Promise<number> {
    const { source, barrier, clock, counted } = this.#options;
    const messages = await source.receive(signal);
    this.#polled();
    if (messages.length > 0) {
      const ids = messages.flatMap((message) => this.#idOf(message) ?? []);
      const seen = ids.length === 0 ? 0 : await barrier.see(ids);
      counted?.seen(seen);
      await source.ack(messages);
    }
    if (messages.length < fullBatch && !signal.aborted) this.#caughtUpAtMs = clock.monotonicMs();
    return 0;
  }

  /** Whether what was visible this long ago has been seen by now. */
  isCaughtUp(withinMs: number): boolean {
    return this.#caughtUpAtMs !== undefined && this.#options.clock.monotonicMs() - this.#caughtUpAtMs <= withinMs;
  }

  /** Messages of other databases on the same topic are not ours to note. */
  #idOf({ properties }: IncomingMessage) {
    const identity = identityOf(properties);
    return identity?.databaseId === this.#options.databaseId ? identity.id : undefined;
  }
}
