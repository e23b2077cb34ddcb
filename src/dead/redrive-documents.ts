import type { DocumentStore } from "../documents/document-store.port.ts";
import { EscapementError } from "../message/errors.ts";
import type { RedriveJob } from "./redrive-job.ts";

/**
 * How redrives lie among the documents:
 *
 * | kind               | name              | holds                                                                |
 * |--------------------|-------------------|----------------------------------------------------------------------|
 * | `redrive`          | job               | the job; commands and progress are written by compare and set           |
 * | `redrive-open`     | job               | nothing: that somebody has to be at it. So looking for work reads little |
 * | `redrive-portion`  | job/number        | what was taken in hand together, and what became of each               |
 * | `redrive-report`   | job/process       | outcomes that a process has heard of and the job's owner has not read  |
 * | `dead-audit`       | time-chance       | who did what to the dead, when and why; kept for a year                |
 *
 * The ids of jobs begin with the time, so they list oldest first; audit entries have it inverted, newest first.
 * Jobs that are over go with all that is theirs after a while (redrive-keeping.ts).
 */
export const kinds = {
  job: "redrive",
  open: "redrive-open",
  portion: "redrive-portion",
  report: "redrive-report",
  audit: "dead-audit",
} as const;

export type KeptJob = { readonly job: RedriveJob; readonly revision: number };

export const readJob = async (documents: DocumentStore, id: string): Promise<KeptJob | undefined> => {
  const found = await documents.read(kinds.job, id);
  return found === undefined ? undefined : { job: parseJob(found.body), revision: found.revision };
};

export const parseJob = (body: string): RedriveJob => JSON.parse(body) as RedriveJob;

/** Tries a change again on what it meets until nobody came in between. */
export const changeJob = async (
  documents: DocumentStore,
  id: string,
  change: (job: RedriveJob) => RedriveJob,
): Promise<RedriveJob | undefined> => {
  for (let tries = 0; tries < triesMax; tries++) {
    const found = await readJob(documents, id);
    if (found === undefined) return undefined;
    const job = change(found.job);
    if (job === found.job) return job;
    const { outcome } = await documents.write(kinds.job, id, JSON.stringify(job), found.revision);
    if (outcome === "written") return job;
  }
  throw new EscapementError("overloaded", `redrive ${id} is written by others all the time; try again`, {
    retryAfterMs: 1_000,
  });
};

/** Its owner writes once a second; nobody is overtaken so often by chance. */
const triesMax = 10;

/** Says that somebody has to be at it; it may have been said already. */
export const openJob = async (documents: DocumentStore, id: string): Promise<void> => {
  await documents.write(kinds.open, id, "-", 0);
};

export const isJobOpen = async (documents: DocumentStore, id: string): Promise<boolean> =>
  (await documents.read(kinds.open, id)) !== undefined;

export const closeJob = async (documents: DocumentStore, id: string): Promise<void> => {
  const found = await documents.read(kinds.open, id);
  if (found !== undefined) await documents.remove(kinds.open, id, found.revision);
};
