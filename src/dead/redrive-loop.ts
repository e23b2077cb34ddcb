import { closeJob, kinds, openJob, readJob } from "./redrive-documents.ts";
import { isHalted } from "./redrive-job.ts";
import { RedriveRun, RunLost, type RunParts } from "./redrive-run.ts";

/**
 * Finds jobs that nobody is at, and goes on with those that this process has. Any process may have any job; the lease in
 * the job's document says who.
 */
const lookEveryMs = 2_000;

export class RedriveLoop {
  readonly #parts: RunParts;
  readonly #runs = new Map<string, RedriveRun>();
  #lookAtMs = Number.NEGATIVE_INFINITY;

  constructor(parts: RunParts) {
    this.#parts = parts;
  }

  /** A job was begun or commanded: look at once. */
  wake(): void {
    this.#lookAtMs = Number.NEGATIVE_INFINITY;
  }

  async runOnce(): Promise<number> {
    const { clock } = this.#parts;
    if (clock.monotonicMs() >= this.#lookAtMs) {
      this.#lookAtMs = clock.monotonicMs() + lookEveryMs;
      await this.#look();
    }
    if (this.#runs.size === 0) return Math.max(0, this.#lookAtMs - clock.monotonicMs());
    const steps = await Promise.allSettled([...this.#runs].map(([id, run]) => this.#step(id, run)));
    const failed = steps.find((step) => step.status === "rejected");
    if (failed !== undefined) throw failed.reason;
    return Math.min(...steps.map((step) => (step as PromiseFulfilledResult<number>).value));
  }

  /** Gives all jobs up, so that others may take them at once. */
  async stop(): Promise<void> {
    for (const [id, run] of this.#runs) {
      try {
        await run.release();
      } catch (error) {
        this.#parts.log.warn({ err: error, redrive: id }, "a redrive could not be given up; its lease runs out");
      }
    }
    this.#runs.clear();
  }

  async #look(): Promise<void> {
    const { documents, clock, node } = this.#parts;
    for (const { name: id } of await documents.list(kinds.open, { limit: openMax })) {
      if (this.#runs.has(id)) continue;
      const kept = await readJob(documents, id);
      if (kept === undefined) {
        await closeJob(documents, id);
        continue;
      }
      const { lease } = kept.job;
      if (lease !== undefined && lease.owner !== node && lease.untilMs > clock.nowMs()) continue;
      const run = await RedriveRun.open(this.#parts, kept);
      if (run !== undefined) this.#runs.set(id, run);
    }
  }

  async #step(id: string, run: RedriveRun): Promise<number> {
    const { documents, log } = this.#parts;
    try {
      const waitMs = await run.step();
      if (!run.isDone) return waitMs;
      this.#runs.delete(id);
      await run.release();
      await closeJob(documents, id);
      // It may have been resumed a moment before that.
      const kept = await readJob(documents, id);
      if (kept !== undefined && !isHalted(kept.job.state)) await openJob(documents, id);
      return lookEveryMs;
    } catch (error) {
      // What is written holds; whoever opens it again looks at what is not.
      this.#runs.delete(id);
      if (!(error instanceof RunLost)) throw error;
      log.info({ redrive: id, detail: error.message }, "another process has the redrive now");
      return lookEveryMs;
    }
  }
}

/** Jobs that are under way at once, or whose outcomes are waited for. */
const openMax = 100;
