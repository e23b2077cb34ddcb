import type { QueueName, QueueRecord, SkippedOffset, TakenOffset } from "./progress-record.ts";
import { type Held, noNonce, QueueProgress } from "./queue-progress.ts";

/** Which monotonic and which wall-clock time are the same instant. */
export type Instant = { readonly monotonicMs: number; readonly wallMs: number };

/** The progress of all groups with all queues, and how it is told in records: a fold over them, and back. */
export class ProgressBook {
  readonly #topics = new Map<string, Map<string, (QueueProgress | undefined)[]>>();
  readonly #gaps: Gap[] = [];

  /** The queues of a group's progress with a topic by their id; live, and empty in the beginning. */
  queues(group: string, topic: string): (QueueProgress | undefined)[] {
    let groups = this.#topics.get(topic);
    if (groups === undefined) {
      groups = new Map();
      this.#topics.set(topic, groups);
    }
    let queues = groups.get(group);
    if (queues === undefined) {
      queues = [];
      groups.set(group, queues);
    }
    return queues;
  }

  forget(group: string, topic: string): void {
    const groups = this.#topics.get(topic);
    groups?.delete(group);
    if (groups?.size === 0) this.#topics.delete(topic);
  }

  get subscriptions(): readonly { readonly group: string; readonly topic: string }[] {
    return [...this.#topics].flatMap(([topic, groups]) => [...groups.keys()].map((group) => ({ group, topic })));
  }

  /** Offsets of which nothing is known, because the records about them could not be read. */
  get gaps(): readonly Gap[] {
    return this.#gaps;
  }

  /** Repeats what happened. `now` is the time of reading: what was invisible stays so for what is left of its time. */
  apply(record: QueueRecord, now: Instant): void {
    const queue = this.#queue(record.queue);
    if (!this.#closeGap(record.queue, queue, firstUnknownBehind(record))) return;
    switch (record.kind) {
      case "taken":
        for (const { untilWallMs, ...taken } of record.taken) {
          queue.take({ ...taken, untilMs: monotonicOf(untilWallMs, taken.invisibleMs, now) });
        }
        for (const { offset, messageGroup } of record.skipped) queue.skip(offset, messageGroup);
        queue.pass(record.next);
        break;
      case "done":
        for (const offset of record.offsets) queue.done(offset);
        break;
      case "givenBack":
        for (const offset of record.offsets) queue.giveBack(offset);
        break;
      case "changed": {
        const held = queue.heldAt(record.offset);
        if (held !== undefined) {
          queue.change(
            held,
            record.nonce,
            monotonicOf(record.untilWallMs, record.invisibleMs, now),
            record.invisibleMs,
          );
        }
      }
    }
  }

  /** Records that say all that is in the book. */
  *tell(now: Instant): Iterable<QueueRecord> {
    for (const [topic, groups] of this.#topics) {
      for (const [group, queues] of groups) {
        for (const [queueId, queue] of queues.entries()) {
          if (queue !== undefined) yield* tellQueue({ group, topic, queueId }, queue, now);
        }
      }
    }
  }

  /** @returns false when the record must not be applied: the queue stays where it was, and all behind comes again. */
  #closeGap(name: QueueName, queue: QueueProgress, to: number): boolean {
    if (to <= queue.next) return true;
    this.#gaps.push({ ...name, from: queue.next, to });
    if (to - queue.next > gapMax) return false;
    queue.presumeWaiting(to);
    return true;
  }

  #queue({ group, topic, queueId }: QueueName): QueueProgress {
    const queues = this.queues(group, topic);
    queues[queueId] ??= new QueueProgress(0);
    return queues[queueId];
  }
}

export type Gap = QueueName & { readonly from: number; readonly to: number };

/** Each takes an object. One record passes over some thousands at most, so that more means much damage. */
const gapMax = 100_000;

/** A record about an offset that was never taken says that one before it is missing. */
const firstUnknownBehind = (record: QueueRecord): number => {
  if (record.kind === "taken") return record.from;
  if (record.kind === "changed") return record.offset + 1;
  return record.offsets.reduce((most, offset) => Math.max(most, offset), -1) + 1;
};

/** 0 says "at once": what is ready, and what was being buried when the process ended. */
export const wallOf = (untilMs: number, now: Instant): number =>
  Number.isFinite(untilMs) ? Math.ceil(now.wallMs + untilMs - now.monotonicMs) : 0;

// A clock that was set between two runs may say anything; nobody waits longer than was asked for.
const monotonicOf = (untilWallMs: number, invisibleMs: number, now: Instant): number =>
  now.monotonicMs + Math.min(Math.max(untilWallMs - now.wallMs, 0), invisibleMs);

/** Some 30 bytes each: small against a segment of the log. */
const offsetsPerRecord = 1_000;

/** Each record tells all about a stretch of offsets, so that a damaged one leaves a gap and nothing is taken for done. */
function* tellQueue(name: QueueName, queue: QueueProgress, now: Instant): Iterable<QueueRecord> {
  const open = [...queue.held, ...queue.skipped()].sort((a, b) => a.offset - b.offset);
  let from = 0;
  for (let i = 0; i === 0 || i < open.length; i += offsetsPerRecord) {
    const some = open.slice(i, i + offsetsPerRecord);
    const next = open[i + offsetsPerRecord]?.offset ?? queue.next;
    yield {
      kind: "taken",
      queue: name,
      from,
      next,
      taken: some.filter((one) => "nonce" in one).map((held) => takenOf(held, now)),
      skipped: some.filter((one) => !("nonce" in one)) as SkippedOffset[],
    };
    from = next;
  }
}

export const takenOf = (held: Held, now: Instant): TakenOffset => ({
  offset: held.offset,
  attempt: held.attempt,
  nonce: held.nonce,
  untilWallMs: held.ready || held.nonce === noNonce ? 0 : wallOf(held.untilMs, now),
  invisibleMs: held.invisibleMs,
  messageGroup: held.messageGroup,
});
