import type { OutboxRow } from "./outbox.port.ts";

/**
 * Whom the relay does not send to for now, because nobody answered there. Pure but for what it remembers.
 *
 * A *destination* is what shares a fate: a topic, or the ingest topic (all delayed messages). Cancels have one of their
 * own, that is never away: the delay server is no broker, and its rows wait by themselves; as does what cannot be sent. One that is away is tried
 * with a few of its rows now and then; everybody else's rows go on, also from behind its own. When nobody at all answers,
 * destinations take turns, so that an hour without a broker costs a few tries.
 */
export type Destination = string;

export const destinationOf = ({ kind, topic, dueAtMs }: Pick<OutboxRow, "kind" | "topic" | "dueAtMs">): Destination =>
  kind !== "send" ? "the delay server" : dueAtMs === undefined ? `topic ${topic}` : "the ingest topic";

export type Probe = { readonly destination: Destination; readonly shard: number; readonly rows: readonly number[] };

const waitFirstMs = 250;
export const waitMaxMs = 5_000;
export const probeRows = 8;
/** Others answer, so these tries are all that is spent on who does not. */
const probesAtOnceMax = 4;

export class Away {
  readonly #places = new Map<Destination, { probe: Probe; waitMs: number; untilMs: number }>();
  #nobodyAnswers = false;
  #waitMs = 0;
  #untilMs = 0;

  get size(): number {
    return this.#places.size;
  }

  /** Since the last answer of anybody somebody did not answer. */
  get nobodyAnswers(): boolean {
    return this.#nobodyAnswers;
  }

  has(destination: Destination): boolean {
    return this.#places.has(destination);
  }

  /** Nobody answered there; tried again with the first of these rows. True when that is news. */
  silent(destination: Destination, shard: number, rows: readonly number[], nowMs: number): boolean {
    const known = this.#places.get(destination);
    // Batches of several shards may have been on their way together.
    if (known !== undefined && known.untilMs > nowMs) return false;
    const waitMs = longer(known?.waitMs);
    const probe = { destination, shard, rows: rows.slice(0, probeRows) };
    this.#places.set(destination, { probe, waitMs, untilMs: nowMs + waitMs });
    this.#nobodyAnswers = true;
    this.#waitMs = longer(this.#waitMs);
    this.#untilMs = nowMs + this.#waitMs;
    return known === undefined;
  }

  /** Somebody answered there, whatever he said. True when it had been away. */
  answered(destination: Destination): boolean {
    this.#nobodyAnswers = false;
    this.#waitMs = 0;
    return this.#places.delete(destination);
  }

  /** Its rows are gone, or are another relay's. */
  forget(destination: Destination): void {
    this.#places.delete(destination);
  }

  /** What is to be tried now. */
  probes(nowMs: number): readonly Probe[] {
    if (this.#nobodyAnswers && this.#untilMs > nowMs) return [];
    const ready = [...this.#places.values()].filter(({ untilMs }) => untilMs <= nowMs);
    ready.sort((a, b) => a.untilMs - b.untilMs);
    return ready.slice(0, this.#nobodyAnswers ? 1 : probesAtOnceMax).map(({ probe }) => probe);
  }

  /** Until something is to be tried. */
  inMs(nowMs: number): number {
    const first = Math.min(...[...this.#places.values()].map(({ untilMs }) => untilMs));
    return Math.max(0, (this.#nobodyAnswers ? Math.max(first, this.#untilMs) : first) - nowMs);
  }
}

const longer = (waitMs = 0): number => (waitMs === 0 ? waitFirstMs : Math.min(waitMs * 2, waitMaxMs));
