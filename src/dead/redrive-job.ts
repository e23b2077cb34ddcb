import type { EpochMs } from "../message/time.ts";
import type { RedriveCounts, RedriveState } from "../wire/dead.ts";
import { noCounts } from "./portion.ts";
import type { RedrivePlan } from "./redrive-plan.ts";

/**
 * A redrive as it is kept in its document: what it shall do, how far it has come, and who is at it.
 *
 * ```
 *             ┌────────── resume ──────────┐
 *             ▼                            │
 *   canary ──> waiting ──> running ──> settling ──> finished
 *     │           │           │
 *     └───────────┴───────────┴── pause ──> paused      (resume goes back)
 *                 │           ├── too many failures ──> stopped (resume goes on with running)
 *                 └───────────┴── cancel ──> canceled
 * ```
 */
export type RedriveJob = {
  readonly id: string;
  readonly tenant: string;
  readonly by: string;
  readonly reason: string;
  readonly createdAtMs: EpochMs;
  /** Selected is what had died before this instant. */
  readonly beforeMs: EpochMs;
  readonly plan: RedrivePlan;
  readonly state: RedriveState;
  /** While paused or stopped: where resuming leads. */
  readonly resumeTo?: "canary" | "waiting" | "running" | "settling";
  /** Why it is paused or stopped, for people. */
  readonly note?: string;
  /** It has stopped itself, and the audit may not say so yet. Part of the job, so that no crash and no command loses it. */
  readonly untoldStop?: { readonly atMs: EpochMs; readonly why: string };
  /** Since when it is in this state. */
  readonly sinceMs: EpochMs;
  /** How far the selection has come: in each shard a cursor, null when it is through. */
  readonly places: readonly (string | null)[];
  /** Of a selection by ids: how many of them have been looked at. */
  readonly idsDone: number;
  readonly scanned: number;
  /** Number of the next portion. */
  readonly portions: number;
  readonly counts: RedriveCounts;
  /** Which process is at it, and until when it is sure of that without saying so again. */
  readonly lease?: { readonly owner: string; readonly untilMs: EpochMs };
};

export const isOver = (state: RedriveState): boolean => state === "finished" || state === "canceled";

/** Nothing is brought back in these, and nothing changes them but a command; outcomes are still gathered for a while. */
export const isHalted = (state: RedriveState): boolean => isOver(state) || state === "paused" || state === "stopped";

export const newJob = (
  about: Pick<RedriveJob, "id" | "tenant" | "by" | "reason" | "plan">,
  shardCount: number,
  nowMs: EpochMs,
): RedriveJob => ({
  ...about,
  createdAtMs: nowMs,
  beforeMs: nowMs,
  state: about.plan.canary > 0 ? "canary" : "running",
  sinceMs: nowMs,
  places: new Array<string>(shardCount).fill(""),
  idsDone: 0,
  scanned: 0,
  portions: 0,
  counts: noCounts(),
});

export const moved = (job: RedriveJob, state: RedriveState, nowMs: EpochMs, note?: string): RedriveJob => {
  const { note: _old, resumeTo: _to, ...kept } = job;
  const isHalted = state === "paused" || state === "stopped";
  const from = job.state;
  const resumeTo = state === "stopped" ? "running" : from === "paused" ? job.resumeTo : from;
  return {
    ...kept,
    state,
    sinceMs: nowMs,
    ...(note === undefined ? {} : { note }),
    // Only the job itself stops itself; people pause.
    ...(state === "stopped" ? { untoldStop: { atMs: nowMs, why: note ?? "" } } : {}),
    ...(isHalted && resumeTo !== undefined ? { resumeTo: resumeTo as "running" } : {}),
  };
};

export type Command = "pause" | "resume" | "cancel";

/** The job after a command of an operator, or the sentence why not. Saying the same twice is fine. */
export const commanded = (job: RedriveJob, command: Command, nowMs: EpochMs): RedriveJob | string => {
  const { state } = job;
  if (command === "cancel")
    return state === "canceled" ? job : isOver(state) ? over(job) : moved(job, "canceled", nowMs);
  if (isOver(state)) return over(job);
  if (command === "pause") return state === "paused" || state === "stopped" ? job : moved(job, "paused", nowMs);
  return state === "paused" || state === "stopped" ? moved(job, job.resumeTo ?? "running", nowMs) : job;
};

const over = ({ id, state }: RedriveJob): string => `redrive ${id} is ${state}; start a new one`;

// --- what ends a part of it ----------------------------------------------------------------------------------------

/** Outcomes of late; `isFailure` in the order of their coming. */
export class RecentOutcomes {
  readonly #last: boolean[] = [];
  readonly #sizeMax: number;

  constructor(sizeMax: number) {
    this.#sizeMax = sizeMax;
  }

  add(isFailure: boolean): void {
    this.#last.push(isFailure);
    if (this.#last.length > this.#sizeMax) this.#last.shift();
  }

  get count(): number {
    return this.#last.length;
  }

  get failures(): number {
    return this.#last.reduce((sum, isFailure) => sum + (isFailure ? 1 : 0), 0);
  }
}

export type Verdict = { readonly go: "on" } | { readonly go: "wait" } | { readonly go: "stop"; readonly why: string };

const share = (failures: number, known: number): string =>
  `${failures} of ${known} failed (${Math.round((100 * failures) / known)} %)`;

/** Of what goes on: judged by the last outcomes, so that a source that breaks half-way is noticed as soon as at first. */
export const judge = (plan: RedrivePlan, { count, failures }: { count: number; failures: number }): Verdict => {
  if (count < plan.stopMinCount || failures <= (plan.stopAbovePercent / 100) * count) return { go: "on" };
  return {
    go: "stop",
    why: `of the last outcomes ${share(failures, count)}, more than ${plan.stopAbovePercent} %; mend the cause, then resume`,
  };
};

/** Of the canary: every outcome counts, and silence is not success. */
export const judgeCanary = ({ plan, counts, sinceMs }: RedriveJob, nowMs: EpochMs): Verdict => {
  const failures = counts.failed + counts.deadAgain;
  const known = counts.succeeded + failures;
  const isOverdue = nowMs - sinceMs >= plan.canaryWaitMs;
  // So many failures are too many, whatever becomes of the rest.
  if (failures > 0 && failures > (plan.stopAbovePercent / 100) * counts.sent) {
    return {
      go: "stop",
      why: `of the canary ${share(failures, known)}, more than ${plan.stopAbovePercent} %; mend the cause, then resume`,
    };
  }
  if (counts.pending > 0 && !isOverdue) return { go: "wait" };
  if (known === 0 && counts.pending > 0) {
    return {
      go: "stop",
      why: `nothing was heard of the canary's ${counts.sent} in time; is a consumer running? resume goes on`,
    };
  }
  return { go: "on" };
};
