import type { IncomingMessage } from "../ingest/topic-source.port.ts";
import type { Log } from "../runtime/log.ts";
import { Loop } from "../runtime/loop.ts";
import type { Timers } from "../runtime/timers.ts";
import type { ConsumedSource } from "./consumer-parts.ts";

/** The open polls of a consumer, which ask for no more than there is room for. */
export type ReceivingOptions = {
  readonly sources: readonly ConsumedSource[];
  readonly heldMax: number;
  readonly held: () => number;
  readonly take: (from: ConsumedSource, messages: readonly IncomingMessage[]) => void;
  readonly timers: Timers;
  readonly log: Log;
};

/** A poll brings 32 at most. */
const pollMax = 32;

export class Receiving {
  readonly #options: ReceivingOptions;
  readonly #loops: readonly Loop[];
  readonly #waiting = new Set<() => void>();
  /** What open polls may bring. */
  #asked = 0;

  constructor(options: ReceivingOptions) {
    this.#options = options;
    const { sources, timers, log } = options;
    this.#loops = sources.flatMap((consumed) =>
      Array.from(
        { length: consumed.polls },
        (_, i) =>
          new Loop({
            name: `receiver ${i} of ${consumed.source.topic}`,
            timers,
            log,
            runOnce: (signal) => this.#receive(consumed, signal),
          }),
      ),
    );
  }

  start(): void {
    for (const loop of this.#loops) loop.start();
  }

  async stop(): Promise<void> {
    await Promise.all(this.#loops.map((loop) => loop.stop()));
  }

  /** There may be room again. */
  wake(): void {
    for (const wake of [...this.#waiting]) wake();
  }

  async #receive(from: ConsumedSource, signal: AbortSignal): Promise<number> {
    const { heldMax, held, take } = this.#options;
    while (held() >= heldMax && !signal.aborted) await this.#woken(signal);
    if (signal.aborted) return 0;
    // While other polls are open that may fill all the room there is, one is asked for a single message, so that no
    // topic waits for another's silence. So there can be one message too many for each open poll.
    const asked = Math.max(1, Math.min(pollMax, heldMax - held() - this.#asked));
    this.#asked += asked;
    let messages: readonly IncomingMessage[];
    try {
      messages = await from.source.receive(asked, signal);
    } finally {
      this.#asked -= asked;
    }
    take(from, messages);
    return 0;
  }

  #woken(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const wake = () => {
        this.#waiting.delete(wake);
        signal.removeEventListener("abort", wake);
        resolve();
      };
      this.#waiting.add(wake);
      signal.addEventListener("abort", wake, { once: true });
    });
  }
}
