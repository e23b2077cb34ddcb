import type { DocumentStore } from "../documents/document-store.port.ts";
import { day, durationMs, type EpochMs } from "../message/time.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Log } from "../runtime/log.ts";
import { isJobOpen, kinds, parseJob, readJob } from "./redrive-documents.ts";
import { isOver, type RedriveJob } from "./redrive-job.ts";

/**
 * Removes redrives that are over, finished or canceled, with everything that hangs on them: outcomes and unread reports.
 * What may still go on is never removed, however long it has been paused or stopped; nor is one whose outcomes are still
 * being gathered. What was done stands in the audit, which is kept longer (audit-keeping.ts).
 *
 * Once an hour, in the process that owns the first shard; if for a moment two think that they do, each document is
 * removed once all the same. A job goes last, behind what hangs on it: whoever dies in between leaves a job that the
 * next pass finds.
 */
export const redrivesKept = {
  /** After its end, in milliseconds. 30 d: a month's incident can still be looked into. */
  ms: durationMs(30 * day),
  /** Jobs that are over. A thousand at most, because each may hold an edited body of 64 KiB. */
  jobsMax: 1_000,
  /**
   * Messages of all of them together, the last one excepted, whatever it holds: its outcomes are being read. 2,000,000:
   * an outcome takes 24 bytes of the store at 2,000/s and some 50 at 100/s, so that is 100 MB; at 10/s, where each
   * portion is one message, some 400, and so many take two days.
   */
  outcomesMax: 2_000_000,
} as const;

export type RedriveKeepingOptions = {
  readonly documents: DocumentStore;
  readonly clock: Clock;
  readonly log: Log;
  readonly owned: () => readonly number[];
};

const passEveryMs = 3_600_000;
/** Of who does not own the first shard. */
const askEveryMs = 60_000;
/** A job may have 256 KiB, a portion 80. */
const jobsPage = 50;
const portionsPage = 50;
/** Some 250 portions a second, which a store hardly notices; a job of a million at 100/s has some 100,000. */
const pageEveryMs = 200;

export class RedriveKeeping {
  readonly #options: RedriveKeepingOptions;
  #seen: OverJob[] = [];
  #after = "";
  /** Undefined while jobs are still looked at. */
  #left: string[] | undefined;
  #removed = 0;

  constructor(options: RedriveKeepingOptions) {
    this.#options = options;
  }

  /** One page. */
  async runOnce(): Promise<number> {
    if (!this.#options.owned().includes(0)) return this.#endPass(askEveryMs);
    if (this.#left === undefined) await this.#look();
    else if (this.#left.length > 0 && (await this.#remove(this.#left[0]!))) this.#left.shift();
    return this.#left?.length === 0 ? this.#endPass(passEveryMs) : pageEveryMs;
  }

  async #look(): Promise<void> {
    const { documents, clock } = this.#options;
    const page = await documents.list(kinds.job, { after: this.#after, limit: jobsPage });
    for (const { body } of page) {
      const job = parseJob(body);
      if (isOver(job.state)) this.#seen.push(overJob(job));
    }
    if (page.length === jobsPage) this.#after = page.at(-1)!.name;
    else this.#left = keptNoLonger(this.#seen, clock.nowMs());
  }

  /** A page of what hangs on it; true when that was all and it is gone, or it stays for now. */
  async #remove(id: string): Promise<boolean> {
    const { documents } = this.#options;
    const kept = await readJob(documents, id);
    if (kept === undefined || (await isJobOpen(documents, id))) return true;
    for (const kind of [kinds.portion, kinds.report]) {
      const page = await documents.list(kind, { prefix: `${id}/`, limit: portionsPage });
      await Promise.all(page.map(({ name, revision }) => documents.remove(kind, name, revision)));
      if (page.length > 0) return false;
    }
    if (await documents.remove(kinds.job, id, kept.revision)) this.#removed++;
    return true;
  }

  #endPass(waitMs: number): number {
    if (this.#removed > 0) this.#options.log.info({ removed: this.#removed }, "removed redrives that were long over");
    this.#seen = [];
    this.#after = "";
    this.#left = undefined;
    this.#removed = 0;
    return waitMs;
  }
}

export type OverJob = { readonly id: string; readonly endedAtMs: EpochMs; readonly outcomes: number };

const overJob = ({ id, sinceMs, counts }: RedriveJob): OverJob => ({
  id,
  endedAtMs: sinceMs,
  outcomes: counts.sent + counts.skipped,
});

/** The ids of those that go, the oldest first. Pure. */
export const keptNoLonger = (over: readonly OverJob[], nowMs: EpochMs): string[] => {
  let outcomes = 0;
  const newestFirst = over.toSorted((a, b) => b.endedAtMs - a.endedAtMs);
  const gone = newestFirst.filter((job, i) => {
    outcomes += job.outcomes;
    const isYoung = nowMs - job.endedAtMs < redrivesKept.ms;
    return !isYoung || i >= redrivesKept.jobsMax || (i > 0 && outcomes > redrivesKept.outcomesMax);
  });
  return gone.map(({ id }) => id).reverse();
};
