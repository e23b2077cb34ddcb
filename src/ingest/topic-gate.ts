import { EscapementError } from "../message/errors.ts";
import type { Log } from "../runtime/log.ts";
import type { TopicDirectory, TopicMemory } from "./topic-directory.port.ts";

/**
 * Lets messages pass whose target topic exists, or once existed. A topic that was ever seen stays known across
 * restarts, because a broker that is down looks just like a missing topic; a known topic costs no look-up.
 */
export type TopicGateOptions = {
  readonly directory: TopicDirectory;
  readonly memory: TopicMemory;
  readonly log: Log;
};

/** Names that are remembered; more than this many distinct topics are looked up each time. */
const knownMax = 100_000;

export class TopicGate {
  readonly #options: TopicGateOptions;
  /** The message types each known topic takes; undefined when it was known from an earlier life. */
  readonly #known = new Map<string, readonly string[] | undefined>();

  constructor(options: TopicGateOptions) {
    this.#options = options;
  }

  async load(): Promise<void> {
    for (const topic of await this.#options.memory.known())
      if (!this.#known.has(topic)) this.#known.set(topic, undefined);
  }

  /** Undefined when the message may pass at once; otherwise a promise that settles the question. */
  check(topic: string, grouped: boolean, waitForTopic: boolean): Promise<void> | undefined {
    if (this.#known.has(topic)) {
      this.#checkType(topic, this.#known.get(topic), grouped);
      return undefined;
    }
    return waitForTopic ? undefined : this.#lookUp(topic, grouped);
  }

  async #lookUp(topic: string, grouped: boolean): Promise<void> {
    const { directory, memory, log } = this.#options;
    const found = await directory.lookUp(topic);
    if (found.outcome === "missing") {
      throw new EscapementError(
        "topic_not_found",
        `topic "${topic}" does not exist at the broker; create it (escapement topics create ${topic}) or pass waitForTopic: true`,
        { field: "topic" },
      );
    }
    if (found.outcome === "unreachable") {
      throw new EscapementError(
        "topic_unverified",
        `the broker does not answer and topic "${topic}" was never seen before; try again, or pass waitForTopic: true`,
        { field: "topic", retryAfterMs: 2_000 },
      );
    }
    if (this.#known.size < knownMax) {
      this.#known.set(topic, found.types);
      await memory.remember(topic).catch((error: unknown) => {
        log.warn({ topic, err: error }, "topic was seen but could not be remembered");
      });
    }
    this.#checkType(topic, found.types, grouped);
  }

  #checkType(topic: string, types: readonly string[] | undefined, grouped: boolean): void {
    const needed = grouped ? "FIFO" : "NORMAL";
    if (types === undefined || types.includes(needed)) return;
    throw new EscapementError(
      "topic_type_mismatch",
      `topic "${topic}" takes ${types.join(", ")} messages; this one is delivered as ${needed}: ${
        grouped ? "use a FIFO topic or leave out messageGroup" : "use a NORMAL topic; Escapement itself keeps the delay"
      }`,
      { field: "topic" },
    );
  }
}
