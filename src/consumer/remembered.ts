import type { RetryEnvelope } from "../retry/envelope.ts";
import type { Disposition } from "./disposition.ts";

/**
 * What this process remembers of messages that it has given back, or whose acknowledgement is in doubt. A delivery
 * count above 1 means that somebody had the message and gave no answer; what stands here says that it was us, and why.
 *
 * It is memory only: when the process dies, what it gave back looks as if it had crashed with it, once.
 */
export type GivenBack = {
  /** The delivery count that it has when nobody else has had it in between. */
  readonly nextDelivery: number;
  readonly envelope: RetryEnvelope;
  /** What was decided and could not be handed over: it is tried again, and the handler does not run before. */
  readonly pending?: Exclude<Disposition, { kind: "done" }>;
  /** It may have killed a process, so the handler does not see it before that is written down somewhere. */
  readonly mustBeHandedOver?: boolean;
};

/** Beyond it the oldest are forgotten; 1 KB each. */
const entriesMax = 20_000;

export class Remembered {
  readonly #givenBack = new Map<string, GivenBack>();
  readonly #finished = new Set<string>();

  gaveBack(id: string, entry: GivenBack): void {
    this.#givenBack.delete(id);
    this.#givenBack.set(id, entry);
    if (this.#givenBack.size > entriesMax) this.#givenBack.delete(this.#givenBack.keys().next().value!);
  }

  take(id: string): GivenBack | undefined {
    const entry = this.#givenBack.get(id);
    if (entry !== undefined) this.#givenBack.delete(id);
    return entry;
  }

  /** Done with, but whether the broker knows is not certain. */
  finished(id: string): void {
    this.#finished.add(id);
    if (this.#finished.size > entriesMax) this.#finished.delete(this.#finished.keys().next().value!);
  }

  isFinished(id: string): boolean {
    return this.#finished.has(id);
  }

  acknowledged(id: string): void {
    this.#finished.delete(id);
  }
}
