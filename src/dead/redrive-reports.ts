import type { RedriveNews } from "../dependencies/dependencies.port.ts";
import type { DocumentStore } from "../documents/document-store.port.ts";
import type { Log } from "../runtime/log.ts";
import type { ConsumerSyncRequest } from "../wire/consumer-sync.ts";
import { type OutcomeCode, outcomeCodes, readToken } from "./portion.ts";
import { isJobOpen, kinds, readJob } from "./redrive-documents.ts";
import type { RedriveJob } from "./redrive-job.ts";
import type { RedriveWitness } from "./redrive-witness.port.ts";

/**
 * The way of outcomes from the process that hears of them to the one that owns the job: gathered in memory, written to
 * a document of this process once a second, read and removed by the owner. A process that dies in between takes at most
 * a second's news with it; those messages then stay without an outcome.
 */
export class RedriveReports implements RedriveWitness, RedriveNews {
  readonly #documents: DocumentStore;
  readonly #log: Log;
  readonly #process: string;
  readonly #byJob = new Map<string, string[]>();
  #size = 0;
  #lost = 0;

  constructor(documents: DocumentStore, node: string, log: Log) {
    this.#documents = documents;
    this.#process = node.replace(/[^A-Za-z0-9._-]/g, "_").slice(0, 100);
    this.#log = log;
  }

  failed(redrive: string, isDead: boolean): void {
    this.#add(redrive, isDead ? "dead-again" : "failed");
  }

  succeeded(redrive: string): void {
    this.#add(redrive, "succeeded");
  }

  /** What consumers tell with their sync. */
  async outcomes(outcomes: NonNullable<ConsumerSyncRequest["redriven"]>): Promise<void> {
    for (const { job, outcome } of outcomes) {
      if (outcome === "succeeded") this.succeeded(job);
      else this.failed(job, outcome === "dead");
    }
  }

  #add(redrive: string, code: OutcomeCode): void {
    const token = readToken(redrive);
    if (token === undefined) return;
    if (this.#size >= gatheredMax) {
      this.#lost++;
      return;
    }
    const reports = this.#byJob.get(token.job) ?? [];
    if (reports.length === 0) this.#byJob.set(token.job, reports);
    reports.push(`${token.portion}.${token.index}.${outcomeCodes[code]}`);
    this.#size++;
  }

  /** One look: writes what was gathered. */
  async runOnce(): Promise<number> {
    if (this.#lost > 0) {
      this.#log.warn({ lost: this.#lost }, "outcomes of redriven messages came faster than they can be written");
      this.#lost = 0;
    }
    for (const [job, reports] of this.#byJob) {
      const kept = await readJob(this.#documents, job);
      const some = reports.slice(0, reportsMax);
      if ((await this.#isWanted(kept?.job)) && !(await this.#write(job, some))) continue;
      reports.splice(0, some.length);
      this.#size -= some.length;
      if (reports.length === 0) this.#byJob.delete(job);
    }
    return this.#size > 0 ? busyEveryMs : everyMs;
  }

  /** Of one that is canceled only while its outcomes are still gathered: nobody would ever take what comes later. */
  async #isWanted(job: RedriveJob | undefined): Promise<boolean> {
    if (job === undefined || job.state === "finished") return false;
    return job.state !== "canceled" || isJobOpen(this.#documents, job.id);
  }

  /** False when the owner has not taken the last ones yet, or came in between. */
  async #write(job: string, reports: readonly string[]): Promise<boolean> {
    const name = `${job}/${this.#process}`;
    const found = await this.#documents.read(kinds.report, name);
    if (found !== undefined && found.body.length > reportBytesMax) {
      // Of a job that nobody is at, paused or stopped for long, the first ones are kept; more would fill our memory.
      return !(await isJobOpen(this.#documents, job));
    }
    const body = [...(found === undefined ? [] : [found.body]), ...reports].join(" ");
    const { outcome } = await this.#documents.write(kinds.report, name, body, found?.revision ?? 0);
    return outcome === "written";
  }
}

/** A hundred seconds' news at a thousand a second. */
const gatheredMax = 100_000;
/** Below the 256 KiB of a document, with twelve characters each. */
const reportsMax = 8_000;
const reportBytesMax = 100_000;
const everyMs = 1_000;
const busyEveryMs = 300;

export type Report = { readonly portion: number; readonly index: number; readonly code: OutcomeCode };

const codeOfLetter: ReadonlyMap<string, OutcomeCode> = new Map([
  [outcomeCodes.succeeded, "succeeded"],
  [outcomeCodes.failed, "failed"],
  [outcomeCodes["dead-again"], "dead-again"],
]);

/** What all processes have heard of a job. `forget` removes it, and is called when it has been written elsewhere. */
export const readReports = async (
  documents: DocumentStore,
  job: string,
): Promise<{ readonly reports: Report[]; readonly forget: () => Promise<void> }> => {
  const found = await documents.list(kinds.report, { prefix: `${job}/`, limit: processesMax });
  const reports = found.flatMap(({ body }) =>
    body.split(" ").flatMap((text): Report[] => {
      const [portion, index, letter] = text.split(".");
      const code = codeOfLetter.get(letter ?? "");
      return code === undefined ? [] : [{ portion: Number(portion), index: Number(index), code }];
    }),
  );
  // One that has grown meanwhile stays; what of it was read already changes nothing the second time.
  const forget = async (): Promise<void> => {
    for (const { name, revision } of found) await documents.remove(kinds.report, name, revision);
  };
  return { reports, forget };
};

const processesMax = 100;
