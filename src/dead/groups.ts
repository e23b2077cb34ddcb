import type { EpochMs } from "../message/time.ts";
import { type DeadMessage, fingerprintOf, topicOf } from "./dead-message.ts";

/**
 * The dead by what killed them. One place in the code that fails makes one fingerprint, so ten thousand dead are most
 * often two or three lines here. Dead of the way out have no fingerprint and are told apart by topic and code.
 */
export type DeadGroup = {
  readonly topic: string;
  readonly group: string | undefined;
  readonly code: string;
  readonly fingerprint: string | undefined;
  readonly count: number;
  readonly firstMs: EpochMs;
  readonly lastMs: EpochMs;
  /** The newest of those looked at. */
  readonly sample: { readonly id: string; readonly text: string };
};

/** More kinds of death than anybody reads; the rest is counted together. */
export const groupsMax = 500;

export class DeadGroups {
  readonly #groups = new Map<string, { -readonly [K in keyof DeadGroup]: DeadGroup[K] }>();
  #untold = 0;

  add(dead: DeadMessage): void {
    const [topic, group, fingerprint] = [topicOf(dead) ?? "", dead.envelope?.group, fingerprintOf(dead)];
    const code = dead.reason.code;
    const key = JSON.stringify([topic, group, code, fingerprint]);
    const known = this.#groups.get(key);
    if (known === undefined) {
      if (this.#groups.size >= groupsMax) this.#untold++;
      else {
        const firstMs = dead.diedAtMs;
        const sample = sampleOf(dead);
        this.#groups.set(key, { topic, group, code, fingerprint, count: 1, firstMs, lastMs: firstMs, sample });
      }
      return;
    }
    known.count++;
    if (dead.diedAtMs < known.firstMs) known.firstMs = dead.diedAtMs;
    if (dead.diedAtMs < known.lastMs) return;
    known.lastMs = dead.diedAtMs;
    known.sample = sampleOf(dead);
  }

  /** The largest first. */
  get largestFirst(): DeadGroup[] {
    return [...this.#groups.values()].sort((a, b) => b.count - a.count || a.firstMs - b.firstMs);
  }

  /** Messages of groups beyond {@link groupsMax}. */
  get untold(): number {
    return this.#untold;
  }
}

const sampleOf = (dead: DeadMessage) => ({
  id: dead.id,
  text: (dead.envelope?.history.at(-1)?.text ?? dead.reason.detail).slice(0, sampleTextMax),
});

const sampleTextMax = 300;
