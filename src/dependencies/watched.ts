import { durationMs } from "../message/time.ts";
import { type BreakerState, type Calls, closedBreaker, type Slot, step } from "../retry/breaker.ts";
import { type BreakerSettings, type BudgetSettings, defaultBreaker, defaultBudget } from "../retry/policy.ts";
import type { DependencyReport } from "../wire/consumer-sync.ts";
import { type Part, type SharedBreaker, silentAfterMs } from "./shared-breaker.ts";

/** One dependency as this process sees it: what its own workers report, beside what all processes hold together. */

/** A worker that says nothing for so long has gone; it reports once a second. */
const workerGoneMs = 5_000;
/** The releaser looks every five seconds. */
const parkedGoneMs = 15_000;
/** Rates follow what is reported within about two seconds. */
const rateWeight = 0.25;
/** For as long as something is parked, the document says so this often, and that somebody still reports. */
const refreshMs = 20_000;

export class Watched {
  readonly key: string;
  readonly name: string;
  readonly #workers = new Map<string, Worker>();
  shared: SharedBreaker | undefined;
  /** Of the document that `shared` was read from; 0: there is none. */
  revision = 0;
  /** Our own workers' calls alone, while there is no document. */
  own: BreakerState;
  /** Not yet added to the document. */
  calls: Calls = { succeeded: 0, failed: 0 };
  terms: BreakerSettings | null = defaultBreaker;
  budget: BudgetSettings | null = defaultBudget;
  reportedAtMs = 0;
  parkedAtMs = 0;
  callsPerSec = 0;
  failedPerSec = 0;
  freshPerSec = 0;
  #window: readonly Slot[] = [];
  #sinceTick = { calls: 0, failed: 0, fresh: 0 };

  constructor(key: string, name: string, nowMs: number) {
    this.key = key;
    this.name = name;
    this.own = closedBreaker(nowMs);
  }

  get workerCount(): number {
    return this.#workers.size;
  }

  callsPerSecOf(worker: string): number {
    return this.#workers.get(worker)?.callsPerSec ?? 0;
  }

  take(name: string, report: DependencyReport, nowMs: number): void {
    const { succeeded, failed, retries, parked } = report;
    const made = succeeded + failed;
    const before = this.#workers.get(name);
    const passedMs = before === undefined ? 1_000 : Math.max(100, nowMs - before.atMs);
    const perSec = (made * 1_000) / passedMs;
    const callsPerSec = before === undefined ? perSec : before.callsPerSec + (perSec - before.callsPerSec) / 2;
    this.#workers.set(name, { atMs: nowMs, callsPerSec });
    // Parked though all of us say closed: its own breaker is open, and the calls that it spared would have failed. Not
    // counted, a lone worker's outage would stay unknown here: it makes no more calls that could tell.
    const isOwnBreaker = this.shared === undefined || this.shared.breaker.phase === "closed";
    const taken = failed + (isOwnBreaker ? parked : 0);
    this.calls = { succeeded: this.calls.succeeded + succeeded, failed: this.calls.failed + taken };
    this.#sinceTick.calls += made;
    this.#sinceTick.failed += failed;
    this.#sinceTick.fresh += Math.max(0, made - retries);
    Object.assign(this, readTerms(report));
    this.reportedAtMs = nowMs;
    if (parked > 0) this.parkedAtMs = nowMs;
  }

  tick(passedMs: number, nowMs: number): void {
    const { calls, failed, fresh } = this.#sinceTick;
    const towards = (before: number, count: number): number =>
      before + ((count * 1_000) / passedMs - before) * rateWeight;
    this.callsPerSec = towards(this.callsPerSec, calls);
    this.failedPerSec = towards(this.failedPerSec, failed);
    this.freshPerSec = towards(this.freshPerSec, fresh);
    this.#sinceTick = { calls: 0, failed: 0, fresh: 0 };
    for (const [name, { atMs }] of this.#workers) {
      if (Math.abs(nowMs - atMs) > workerGoneMs) this.#workers.delete(name);
    }
    if (this.shared === undefined && this.terms !== null) {
      this.own = step(this.own, this.calls, this.terms, nowMs);
      this.calls = { succeeded: 0, failed: 0 };
    }
  }

  /** Without a document: it fails noticeably, or something is parked. With one: there is something new. */
  hasSomethingToSay(nowMs: number, members: number): boolean {
    const { shared } = this;
    const isParked = nowMs - this.parkedAtMs < parkedGoneMs;
    if (shared === undefined) return isParked || this.#isWorrying(members);
    if (this.calls.succeeded + this.calls.failed > 0 || this.#window.length > 0) return true;
    if (isParked && nowMs - shared.parkedAtMs > refreshMs) return true;
    const isReported = nowMs - this.reportedAtMs < workerGoneMs;
    return isReported && nowMs - shared.reportedAtMs > refreshMs;
  }

  /** Half of what would open it, and of that the part that one of several processes sees. */
  #isWorrying(members: number): boolean {
    if (this.terms === null) return false;
    if (this.own.phase !== "closed") return true;
    let [made, failed] = [0, 0];
    for (const slot of this.own.slots) {
      made += slot.succeeded + slot.failed;
      failed += slot.failed;
    }
    const { failureRate, minCalls } = this.terms;
    return (
      failed > 0 && failed >= (failureRate / 2) * made && failed >= (failureRate * minCalls) / 2 / Math.max(1, members)
    );
  }

  isReported(nowMs: number): boolean {
    const reportedAtMs = Math.max(this.reportedAtMs, this.shared?.reportedAtMs ?? 0);
    return nowMs - reportedAtMs <= silentAfterMs;
  }

  /** Its document has nothing more to say. */
  isDone(nowMs: number): boolean {
    const { shared } = this;
    if (shared === undefined || shared.forced !== undefined) return false;
    if (nowMs - Math.max(this.parkedAtMs, shared.parkedAtMs) <= silentAfterMs) return false;
    const { phase, sinceMs, slots, falls } = shared.breaker;
    if (phase !== "closed") return !this.isReported(nowMs);
    return falls === 0 && nowMs - sinceMs > silentAfterMs && slots.every(({ failed }) => failed === 0);
  }

  isForgettable(nowMs: number): boolean {
    return this.shared === undefined && this.#workers.size === 0 && nowMs - this.parkedAtMs > silentAfterMs;
  }

  /** There is no document any more. */
  drop(nowMs: number): void {
    this.shared = undefined;
    this.revision = 0;
    this.own = closedBreaker(nowMs);
  }

  /** A document has come, or is to come: what only we have seen of the window is added to it. */
  joinWindow(): void {
    this.#window = this.own.slots;
    this.own = { ...this.own, slots: [] };
  }

  /** What the document is to get of us; it is taken to have it from now on. */
  takePart(node: string): Part {
    const part = this.part(node);
    this.calls = { succeeded: 0, failed: 0 };
    this.#window = [];
    return part;
  }

  part(node: string): Part {
    const { callsPerSec, failedPerSec, freshPerSec, calls, terms, budget, reportedAtMs, parkedAtMs } = this;
    const rounded = (perSec: number): number => Math.round(perSec * 10) / 10;
    const share = {
      workers: this.workerCount,
      callsPerSec: rounded(callsPerSec),
      failedPerSec: rounded(failedPerSec),
      freshPerSec: rounded(freshPerSec),
    };
    return { node, share, calls, window: this.#window, terms, budget, reportedAtMs, parkedAtMs };
  }
}

type Worker = { readonly atMs: number; readonly callsPerSec: number };

/** As its policy has them. */
export const readTerms = ({
  breaker,
  budget,
}: Pick<DependencyReport, "breaker" | "budget">): { terms: BreakerSettings | null; budget: BudgetSettings | null } => ({
  terms:
    breaker === undefined
      ? defaultBreaker
      : breaker && {
          ...breaker,
          windowMs: durationMs(breaker.windowMs),
          probeEveryMs: durationMs(breaker.probeEveryMs),
        },
  budget: budget === undefined ? defaultBudget : budget,
});
