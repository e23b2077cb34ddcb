import { allowedPerSec, type BreakerPhase, type BreakerState, closedBreaker, nextChangeMs, step } from "./breaker.ts";
import { RetryBudget } from "./budget.ts";
import { type BreakerSettings, type BudgetSettings, defaultBreaker, defaultBudget } from "./policy.ts";

/**
 * May this call go now? One process's answer for all the dependencies it calls: its own breaker for each key, which
 * opens at once and works alone, and above it what the service says of all processes together, for as long as that is
 * fresh. No waiting, no clock of its own: the decision before each call takes less than a microsecond.
 *
 *     switch (guard.decide(key, kind, nowMs)) {
 *       case "go":    // make the call, then guard.record(key, whether it succeeded, nowMs)
 *       case "park":  // hand it over to be parked under this key; costs no attempt
 *       case "defer": // a retry beyond the budget: hand it over for a little later; costs no attempt
 *     }
 *
 * Who is told what: the service's open, probing and ramping hold for everybody. Where it says closed, the own breaker
 * may still be open, since it may be this process alone that does not get through. Forced, it holds without exception.
 *
 * Keys are bounded by `keysMax`. Beyond, those forgotten first are idle and closed; where all are in use, a new key
 * is not guarded: its calls go, and nobody counts them.
 */
export type CallKind =
  /** Never tried before. */
  | "fresh"
  | "retry"
  /** Was parked, and let out again. */
  | "released"
  /** Made to find out how the dependency is. */
  | "probe";

export type Verdict = "go" | "park" | "defer";

/** What a process tells the service of one key since its last report; the shape is that of the wire. */
export type DependencyReport = {
  key: string;
  succeeded: number;
  failed: number;
  /** Of the calls let go, those of messages that were tried or parked before. */
  retries: number;
  parked: number;
  deferred: number;
  breaker?: BreakerTerms | null;
  budget?: { percent: number; minPerSec: number } | null;
};

type BreakerTerms = { -readonly [field in keyof BreakerSettings]: number };

/** What the service says of a key to one process; the shape is that of the wire. */
export type DependencyView = {
  readonly key: string;
  readonly state: BreakerPhase;
  readonly callsPerSec?: number;
  readonly retriesPerSec: number;
  readonly retryPercent: number;
  readonly forced?: boolean;
};

export type DependencyGuardOptions = {
  /** For keys that `configure` says nothing of. Null: no breaker, no budget. */
  readonly breaker?: BreakerSettings | null;
  readonly budget?: BudgetSettings | null;
  /** Some 600 bytes each. */
  readonly keysMax?: number;
  /** The own breaker of a key has opened: news that should not wait for the next second. */
  readonly opened?: () => void;
};

const keysMaxDefault = 10_000;
/** The service answers once a second; after ten missed answers everybody is on his own. */
const viewFreshMs = 10_000;
/** The own breaker looks at its calls this often: a wave of failures is noticed within a tenth of a second. */
const stepEveryMs = 100;
/** Idle for so long, a closed key may be forgotten. */
const idleMs = 60_000;
/** Looked at for one to forget, each time that a new key finds no room. */
const lookedAtForRoom = 16;
/** One sync stays below a quarter of a megabyte; what does not fit is in the next. */
const reportsMax = 1_000;

export class DependencyGuard {
  readonly #breaker: BreakerSettings | null;
  readonly #budget: BudgetSettings | null;
  readonly #keysMax: number;
  readonly #opened: () => void;
  readonly #keys = new Map<string, Dependency>();
  /** Keys with something to report, the longest waiting first. */
  readonly #toReport = new Set<Dependency>();

  constructor({ breaker, budget, keysMax, opened }: DependencyGuardOptions = {}) {
    this.#breaker = breaker === undefined ? defaultBreaker : breaker;
    this.#budget = budget === undefined ? defaultBudget : budget;
    this.#keysMax = keysMax ?? keysMaxDefault;
    this.#opened = opened ?? (() => {});
  }

  /** How many keys are known. */
  get size(): number {
    return this.#keys.size;
  }

  /** The terms of this key's policy. Costs next to nothing when they are the same objects as before. */
  configure(key: string, breaker: BreakerSettings | null, budget: BudgetSettings | null, nowMs: number): void {
    this.#keys.get(key)?.configure(breaker, budget, nowMs);
    if (!this.#keys.has(key)) this.#open(key, breaker, budget, nowMs);
  }

  decide(key: string, kind: CallKind, nowMs: number): Verdict {
    const dependency = this.#keys.get(key) ?? this.#open(key, this.#breaker, this.#budget, nowMs);
    if (dependency === undefined) return "go";
    const verdict = dependency.decide(kind, nowMs);
    if (!dependency.isToReport) this.#report(dependency);
    return verdict;
  }

  /** How a call went that was let go. Succeeded means that the dependency answered, whatever it said. */
  record(key: string, ok: boolean, nowMs: number): void {
    const dependency = this.#keys.get(key) ?? this.#open(key, this.#breaker, this.#budget, nowMs);
    if (dependency === undefined) return;
    const before = dependency.ownPhase;
    dependency.record(ok, nowMs);
    if (!dependency.isToReport) this.#report(dependency);
    if (before === "closed" && dependency.ownPhase === "open") this.#opened();
  }

  /** The state that holds for this key here; closed where nothing is known. */
  stateOf(key: string, nowMs: number): BreakerPhase {
    return this.#keys.get(key)?.phaseAt(nowMs) ?? "closed";
  }

  /**
   * What is to be told to the service, once a second. Counts that do not arrive are lost, on purpose: a breaker is
   * about now. Keys that are not closed are told even when nothing happened, because we want to hear of them.
   */
  takeReports(): DependencyReport[] {
    const reports: DependencyReport[] = [];
    const again: Dependency[] = [];
    for (const dependency of this.#toReport) {
      if (reports.length === reportsMax) break;
      this.#toReport.delete(dependency);
      reports.push(dependency.takeReport());
      if (dependency.wantsView) again.push(dependency);
    }
    for (const dependency of again) this.#report(dependency);
    return reports;
  }

  /** What the service answered. */
  apply(views: readonly DependencyView[], nowMs: number): void {
    for (const view of views) this.#keys.get(view.key)?.follow(view, nowMs);
  }

  #report(dependency: Dependency): void {
    dependency.isToReport = true;
    this.#toReport.add(dependency);
  }

  #open(
    key: string,
    breaker: BreakerSettings | null,
    budget: BudgetSettings | null,
    nowMs: number,
  ): Dependency | undefined {
    if (this.#keys.size >= this.#keysMax && !this.#makeRoom(nowMs)) return undefined;
    const dependency = new Dependency(key, breaker, budget, nowMs);
    this.#keys.set(key, dependency);
    return dependency;
  }

  /** The keys lie in the order in which they came or were last spared, so that this finds idle ones in few looks. */
  #makeRoom(nowMs: number): boolean {
    let looks = lookedAtForRoom;
    for (const [key, dependency] of this.#keys) {
      if (looks-- === 0) return false;
      this.#keys.delete(key);
      if (dependency.isForgettable(nowMs)) {
        this.#toReport.delete(dependency);
        return true;
      }
      this.#keys.set(key, dependency);
    }
    return false;
  }
}

class Dependency {
  readonly #key: string;
  #terms: BreakerSettings | null;
  #budgetTerms: BudgetSettings | null;
  #own: BreakerState;
  #budget: RetryBudget | undefined;
  #succeeded = 0;
  #failed = 0;
  #steppedAtMs: number;
  #view: DependencyView | undefined;
  #viewUntilMs = 0;
  /** Calls that may go now, of a rate. */
  #tokens = 0;
  #filledAtMs: number;
  #perSec: number | undefined;
  #report: Counts = { succeeded: 0, failed: 0, retries: 0, parked: 0, deferred: 0 };
  #usedAtMs: number;
  isToReport = false;

  constructor(key: string, terms: BreakerSettings | null, budget: BudgetSettings | null, nowMs: number) {
    this.#key = key;
    this.#terms = terms;
    this.#budgetTerms = budget;
    this.#budget = budget === null ? undefined : new RetryBudget(budget, nowMs);
    this.#own = closedBreaker(nowMs);
    this.#steppedAtMs = nowMs;
    this.#filledAtMs = nowMs;
    this.#usedAtMs = nowMs;
  }

  configure(terms: BreakerSettings | null, budget: BudgetSettings | null, nowMs: number): void {
    if (terms !== this.#terms) {
      this.#terms = terms;
      if (terms === null) this.#own = closedBreaker(nowMs);
    }
    if (budget === this.#budgetTerms) return;
    this.#budgetTerms = budget;
    if (budget === null) this.#budget = undefined;
    else if (this.#budget === undefined) this.#budget = new RetryBudget(budget, nowMs);
    else this.#budget.set(budget.percent, budget.minPerSec);
  }

  decide(kind: CallKind, nowMs: number): Verdict {
    this.#usedAtMs = nowMs;
    const phase = this.phaseAt(nowMs);
    if (phase === "open") {
      this.#report.parked++;
      return "park";
    }
    // Probing and ramping, the rate is what protects the dependency, and all calls share it.
    const budget = kind === "retry" && phase === "closed" ? this.#budget : undefined;
    if (budget !== undefined && !budget.has(nowMs)) {
      this.#report.deferred++;
      return "defer";
    }
    if (phase !== "closed" && !this.#takeToken(nowMs)) {
      this.#report.parked++;
      return "park";
    }
    budget?.take();
    if (kind === "retry" || kind === "released") this.#report.retries++;
    return "go";
  }

  record(ok: boolean, nowMs: number): void {
    this.#usedAtMs = nowMs;
    if (ok) {
      this.#succeeded++;
      this.#report.succeeded++;
      this.#budget?.succeeded();
    } else {
      this.#failed++;
      this.#report.failed++;
    }
    this.#stepIfTime(nowMs);
  }

  /** The state that holds here now: the service's while it is fresh and says more than closed, else our own. */
  phaseAt(nowMs: number): BreakerPhase {
    const view = this.#viewAt(nowMs);
    if (view?.forced === true) return view.state;
    if (this.#terms === null) return "closed";
    if (view !== undefined && view.state !== "closed") return view.state;
    if (this.#own.phase !== "closed") {
      // Not only when calls are recorded: after the last probe there are none.
      if (nextChangeMs(this.#own) <= nowMs) this.#step(nowMs);
      else this.#stepIfTime(nowMs);
    }
    return this.#own.phase;
  }

  follow(view: DependencyView, nowMs: number): void {
    const before = this.#viewAt(nowMs);
    this.#view = view;
    this.#viewUntilMs = nowMs + viewFreshMs;
    if (this.#budgetTerms !== null) this.#budget?.set(view.retryPercent, view.retriesPerSec);
    if (view.state === "closed") {
      // It was shut for everybody and is open for everybody: what we held of it ourselves is older than that.
      if ((before !== undefined && before.state !== "closed") || view.forced === true) {
        this.#own = closedBreaker(nowMs);
        this.#succeeded = 0;
        this.#failed = 0;
        this.#setRate(undefined, nowMs);
      }
      return;
    }
    if (this.#own.phase !== view.state) this.#mirror(view.state, nowMs);
    this.#setRate(view.callsPerSec, nowMs);
  }

  takeReport(): DependencyReport {
    this.isToReport = false;
    const report: DependencyReport = { key: this.#key, ...this.#report };
    this.#report = { succeeded: 0, failed: 0, retries: 0, parked: 0, deferred: 0 };
    if (this.#terms !== defaultBreaker) report.breaker = this.#terms === null ? null : { ...this.#terms };
    if (this.#budgetTerms !== defaultBudget)
      report.budget = this.#budgetTerms === null ? null : { ...this.#budgetTerms };
    return report;
  }

  get ownPhase(): BreakerPhase {
    return this.#own.phase;
  }

  get wantsView(): boolean {
    return this.#own.phase !== "closed" || (this.#view !== undefined && this.#view.state !== "closed");
  }

  isForgettable(nowMs: number): boolean {
    return this.phaseAt(nowMs) === "closed" && Math.abs(nowMs - this.#usedAtMs) >= idleMs;
  }

  #viewAt(nowMs: number): DependencyView | undefined {
    // Further ahead than it can be: the clock was set back, and how old the view is nobody knows.
    if (this.#view !== undefined && (nowMs >= this.#viewUntilMs || nowMs < this.#viewUntilMs - 2 * viewFreshMs)) {
      this.#view = undefined;
      this.#setRate(this.#ownRate(), nowMs);
      // Our share of the floor is unknown from here on; each takes all of it rather than none.
      if (this.#budgetTerms !== null) this.#budget?.set(this.#budgetTerms.percent, this.#budgetTerms.minPerSec);
    }
    return this.#view;
  }

  /** So that, left alone, we go on from where everybody is. */
  #mirror(phase: BreakerPhase, nowMs: number): void {
    const terms = this.#terms ?? defaultBreaker;
    const probeAtMs = phase === "open" || phase === "probing" ? nowMs + terms.probeEveryMs : 0;
    this.#own = { ...closedBreaker(nowMs), phase, probeAtMs, ratePerSec: terms.rampStartPerSec };
    // Probes that were granted may go at once.
    this.#perSec = undefined;
  }

  #stepIfTime(nowMs: number): void {
    if (Math.abs(nowMs - this.#steppedAtMs) >= stepEveryMs) this.#step(nowMs);
  }

  #step(nowMs: number): void {
    const calls = { succeeded: this.#succeeded, failed: this.#failed };
    this.#succeeded = 0;
    this.#failed = 0;
    this.#steppedAtMs = nowMs;
    if (this.#terms === null) return;
    // While the service leads, we count along but do not judge.
    if (this.#view !== undefined && this.#view.state !== "closed" && nowMs < this.#viewUntilMs) return;
    const { phase } = this.#own;
    this.#own = step(this.#own, calls, this.#terms, nowMs);
    if (this.#own.phase !== phase) this.#perSec = undefined;
    this.#setRate(this.#ownRate(), nowMs);
  }

  #ownRate(): number | undefined {
    return this.#terms === null ? undefined : allowedPerSec(this.#own, this.#terms);
  }

  /** A rate that begins brings a second of itself along, or all the probes of one round. */
  #setRate(perSec: number | undefined, nowMs: number): void {
    if (perSec !== undefined && this.#perSec === undefined) {
      this.#tokens = this.#tokensMax(perSec);
      // Probes come all at once, and then none until their round is over.
      this.#filledAtMs = nowMs + (this.#isProbing ? this.#probeEveryMs : 0);
    }
    this.#perSec = perSec;
  }

  #tokensMax(perSec: number): number {
    const seconds = this.#isProbing ? this.#probeEveryMs / 1_000 : 1;
    // What is rounded away here would keep the only one who may probe from ever doing so.
    return perSec === 0 ? 0 : Math.max(1, Math.round(perSec * seconds));
  }

  get #isProbing(): boolean {
    return (this.#view?.state ?? this.#own.phase) === "probing";
  }

  get #probeEveryMs(): number {
    return (this.#terms ?? defaultBreaker).probeEveryMs;
  }

  #takeToken(nowMs: number): boolean {
    const perSec = this.#perSec;
    if (perSec === undefined) return true;
    const passedMs = nowMs - this.#filledAtMs;
    if (passedMs > 0) {
      this.#tokens = Math.min(this.#tokensMax(perSec), this.#tokens + (perSec * passedMs) / 1_000);
    }
    // Further ahead than a round: the clock was set back.
    if (passedMs > 0 || -passedMs > this.#probeEveryMs) this.#filledAtMs = nowMs;
    if (this.#tokens < 1) return false;
    this.#tokens -= 1;
    return true;
  }
}

type Counts = Pick<DependencyReport, "succeeded" | "failed" | "retries" | "parked" | "deferred">;
