import { type DurationMs, day, durationMs, type EpochMs, hour, minute, second } from "../message/time.ts";

/**
 * A retry policy as data: how long to wait after a failure, when to stop, and what to do about which error. What
 * becomes of one failure is decided in `decide.ts`; how a policy is written in JSON stands in `parse-policy.ts`.
 *
 * What surprised us: a limit by attempts alone is a limit in time that nobody can name. With full jitter the same 16
 * retries cover half the time that they cover without, so the default stops by age, and its 80 attempts are the
 * second line.
 */

/**
 * - `none`: exactly the step.
 * - `full`: anything from nothing to the step; spreads widest, and halves the time that a number of attempts covers.
 * - `equal`: between half of the step and all of it, so that none comes back at once.
 */
export type Jitter = "none" | "full" | "equal";

/** The step before jitter, by the number of failures so far (from 1). */
export type Backoff =
  | { readonly kind: "fixed"; readonly delayMs: DurationMs; readonly jitter: Jitter }
  /** One wait for each failure; the last one stands for all that follow. */
  | { readonly kind: "list"; readonly delaysMs: readonly DurationMs[]; readonly jitter: Jitter }
  | {
      readonly kind: "linear";
      readonly baseMs: DurationMs;
      readonly incrementMs: DurationMs;
      readonly capMs: DurationMs;
      readonly jitter: Jitter;
    }
  | {
      readonly kind: "exponential";
      readonly baseMs: DurationMs;
      /** Growth per failure; fractions are fine. */
      readonly factor: number;
      readonly capMs: DurationMs;
      readonly jitter: Jitter;
    }
  /** Anything from the base to `factor` times the wait before: chance is what makes it grow, so it has no jitter. */
  | {
      readonly kind: "decorrelated";
      readonly baseMs: DurationMs;
      readonly factor: number;
      readonly capMs: DurationMs;
    };

/**
 * - `transient`: it will work later.
 * - `throttled`: the other side asks for patience, perhaps with a Retry-After.
 * - `permanent`: it can never work as it is.
 * - `unknown`: it may have taken effect; nobody answered.
 * - `crash`: whoever had it died or vanished without an outcome.
 */
export const failureClasses = ["transient", "throttled", "permanent", "unknown", "crash"] as const;
export type FailureClass = (typeof failureClasses)[number];

/** All that are given must fit. */
export type When = {
  readonly class?: FailureClass;
  /** A code, or with `*` at its end all that begin so: `http_5*`. */
  readonly code?: string;
  /** HTTP status: from and to, both included. */
  readonly status?: { readonly from: number; readonly to: number };
  /** Only from the failure of this attempt on: this is how a slow tier follows a fast one. */
  readonly fromAttempt?: number;
};

export type Rule =
  /** With another backoff, which counts its failures from `when.fromAttempt`; without one, the policy's own. */
  | { readonly when: When; readonly action: "retry"; readonly backoff?: Backoff }
  | { readonly when: When; readonly action: "dead" }
  /** Waits for whoever opens the key again, and not for a time. */
  | { readonly when: When; readonly action: "park"; readonly key: string }
  /** Somebody must find out first whether it took effect. */
  | { readonly when: When; readonly action: "verify" };

export type Limits = {
  /** Attempts in all, the first one included. */
  readonly maxAttempts: number;
  /** From the first failure; time spent parked does not count. */
  readonly maxAgeMs?: DurationMs;
  /** An instant after which nothing makes sense any more; parked time counts here. */
  readonly deadlineMs?: EpochMs;
  /** Attempts that ended as `crash`. */
  readonly maxCrashes: number;
};

export type RetryPolicy = {
  readonly backoff: Backoff;
  readonly limits: Limits;
  /** The first that fits decides. */
  readonly rules: readonly Rule[];
  /** Absent: {@link defaultBreaker}; null: none. */
  readonly breaker?: BreakerSettings | null;
  /** Absent: {@link defaultBudget}; null: none. */
  readonly budget?: BudgetSettings | null;
  readonly dead?: DeadSettings;
  /** What becomes of messages that already failed under an older version. Default `adopt`. */
  readonly inFlight?: "adopt" | "keep";
};

/** When calls of a dependency are given up for a while, and how they come back. */
export type BreakerSettings = {
  /** Opens when this part of the calls in the window failed. */
  readonly failureRate: number;
  /** And there were at least so many. */
  readonly minCalls: number;
  readonly windowMs: DurationMs;
  /** While open, so often... */
  readonly probeEveryMs: DurationMs;
  /** ...so many calls are let through, of all workers together. */
  readonly probes: number;
  /** Calls a second of all workers at the beginning of the way back, */
  readonly rampStartPerSec: number;
  /** and how many more each second. */
  readonly rampAddPerSec: number;
};

/** How much of a dependency's calls may be retries; what is beyond is deferred. */
export type BudgetSettings = {
  /** Of the successes, in percent. */
  readonly percent: number;
  /** Retries a second that are always allowed, of all workers together. */
  readonly minPerSec: number;
};

export type DeadSettings = {
  /** Delivered to this topic instead of being kept among the dead. */
  readonly topic?: string;
  /** Kept among the dead for so long. Absent: until somebody removes it. */
  readonly keepMs?: DurationMs;
};

/** Of whose rules none parks or verifies: all that can come of it is another try or an end. */
export type PlainPolicy = RetryPolicy & { readonly rules: readonly PlainRule[] };
export type PlainRule = Extract<Rule, { readonly action: "retry" | "dead" }>;

/** What a policy may hold. Beyond these it is taken for a mistake, most often one of units. */
export const policyLimits = {
  /** 5 instead of "5s" is five milliseconds; RocketMQ's Node client has that mistake built in. */
  delayMinMs: durationMs(10),
  delayMaxMs: durationMs(30 * day),
  /** As RocketMQ's and our own scheduling: beyond a year nobody waits. */
  ageMinMs: second,
  ageMaxMs: durationMs(365 * day),
  /** As for `retry` of a message; also keeps an explanation of them all to some 20 ms. */
  attemptsMax: 1_000,
  factorMax: 10,
  listMax: 100,
  rulesMax: 100,
  /** Shorter and one bad second opens it; longer and it opens when everything is long over. */
  windowMinMs: second,
  windowMaxMs: durationMs(10 * minute),
  probeEveryMinMs: second,
  probeEveryMaxMs: hour,
  callsMax: 100_000,
  /** Calls a second; below, a ramp would take days. */
  rateMin: 0.1,
  rateMax: 1_000_000,
  keepMinMs: minute,
  textMax: 128,
} as const;

/** A Retry-After beyond this is not believed: a date in the wrong century must not hold a message for ever. */
export const retryAfterMaxMs = day;

export const defaultBackoff = {
  kind: "exponential",
  baseMs: second,
  factor: 2,
  capMs: durationMs(30 * minute),
  jitter: "equal",
} as const satisfies Backoff;

export const defaultBreaker = {
  failureRate: 0.5,
  minCalls: 20,
  windowMs: durationMs(10 * second),
  probeEveryMs: durationMs(10 * second),
  probes: 20,
  rampStartPerSec: 100,
  rampAddPerSec: 100,
} as const satisfies BreakerSettings;

export const defaultBudget = { percent: 20, minPerSec: 10 } as const satisfies BudgetSettings;

/** 80 attempts of the default backoff take 26 hours on average, so it is the age that stops. */
export const defaultLimits = { maxAttempts: 80, maxAgeMs: day, maxCrashes: 3 } as const satisfies Limits;
