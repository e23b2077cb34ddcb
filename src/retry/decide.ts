import { type DurationMs, type EpochMs, epochMs, epochMsMax, formatInstant } from "../message/time.ts";
import type { Random } from "../runtime/random.ts";
import type { Backoff, FailureClass, Limits, PlainPolicy, RetryPolicy, Rule, When } from "./policy.ts";
import { waitAsAsked, waitOf } from "./wait.ts";

/**
 * What becomes of something that failed: the one place where that is decided, for the dispatcher's sends as for every
 * explanation. Pure: the same facts and the same chance give the same decision.
 *
 * Not here: who parks, verifies or buries. And no unit is read here: a Retry-After comes as a length of time, from
 * whoever understood the header.
 */

export type Failure = {
  readonly class: FailureClass;
  /** Stable, such as `http_503` or `broker_unavailable`. */
  readonly code: string;
  /** The HTTP status, where it was HTTP. */
  readonly status?: number;
  /** How long the other side asked to be left alone, from now. */
  readonly retryAfterMs?: DurationMs;
};

export type Facts = {
  /** The attempt that failed; the first one is 1. */
  readonly attempt: number;
  /** Of these, how many ended as `crash`. */
  readonly crashes: number;
  readonly firstFailedAtMs: EpochMs;
  /** Since then, how long it was parked. */
  readonly parkedMs: DurationMs;
  readonly nowMs: EpochMs;
  /** The wait before this attempt, for the decorrelated backoff. */
  readonly previousDelayMs?: DurationMs;
  readonly failure: Failure;
};

/** `text` says why, for people. */
export type Retry = { readonly kind: "retry"; readonly atMs: EpochMs; readonly text: string };
export type DeadCode = "permanent" | "rule" | "attempts_exhausted" | "age_exhausted" | "deadline_passed" | "crash_loop";
export type Dead = { readonly kind: "dead"; readonly code: DeadCode; readonly text: string };
export type Park = { readonly kind: "park"; readonly key: string; readonly text: string };
export type Verify = { readonly kind: "verify"; readonly text: string };
export type Decision = Retry | Dead | Park | Verify;

export function decide(policy: PlainPolicy, facts: Facts, random: Pick<Random, "float">): Retry | Dead;
export function decide(policy: RetryPolicy, facts: Facts, random: Pick<Random, "float">): Decision;
export function decide(policy: RetryPolicy, facts: Facts, random: Pick<Random, "float">): Decision {
  const { nowMs } = facts;
  const verdict = verdictOf(policy, facts.failure, facts.attempt);
  if (verdict.kind !== "retry") return verdict;
  const spent = countReached(policy.limits, facts);
  if (spent !== undefined) return spent;
  const waitMs = verdict.waitOf(facts.previousDelayMs, random.float());
  const atMs = epochMs(Math.min(nowMs + waitMs, epochMsMax));
  return timeReached(policy.limits, facts, atMs) ?? { kind: "retry", atMs, text: verdict.text };
}

/** What a policy says about a failure before its limits are asked: for a retry, how to wait. */
export type Verdict =
  | {
      readonly kind: "retry";
      readonly text: string;
      readonly waitOf: (previousMs: DurationMs | undefined, chance: number) => DurationMs;
    }
  | Dead
  | Park
  | Verify;

export const verdictOf = (policy: RetryPolicy, failure: Failure, attempt: number): Verdict => {
  const index = policy.rules.findIndex(({ when }) => fits(when, failure, attempt));
  const rule = policy.rules[index];
  if (rule === undefined) {
    if (failure.class === "permanent") {
      return { kind: "dead", code: "permanent", text: `${failure.code} is permanent: it cannot work as it is` };
    }
    return retry(policy.backoff, failure, attempt, `${failure.class} failure: tried again`);
  }
  const text = `rule ${index + 1} (${conditionOf(rule)})`;
  switch (rule.action) {
    case "retry": {
      const first = rule.backoff === undefined ? 1 : (rule.when.fromAttempt ?? 1);
      return retry(rule.backoff ?? policy.backoff, failure, attempt - first + 1, `${text}: tried again`);
    }
    case "dead":
      return { kind: "dead", code: "rule", text: `${text}: dead` };
    case "park":
      return { kind: "park", key: rule.key, text: `${text}: parked until ${rule.key} is open again` };
    case "verify":
      return { kind: "verify", text: `${text}: whether it took effect must be found out first` };
  }
};

const retry = (backoff: Backoff, { retryAfterMs }: Failure, failures: number, text: string): Verdict => ({
  kind: "retry",
  text,
  waitOf: (previousMs, chance) => {
    const waitMs = waitOf(backoff, failures, previousMs, chance);
    return retryAfterMs === undefined ? waitMs : waitAsAsked(waitMs, retryAfterMs, backoff, chance);
  },
});

const fits = (when: When, failure: Failure, attempt: number): boolean => {
  if (when.class !== undefined && when.class !== failure.class) return false;
  if (when.code !== undefined && !codeFits(when.code, failure.code)) return false;
  if (when.status !== undefined) {
    const { status } = failure;
    if (status === undefined || status < when.status.from || status > when.status.to) return false;
  }
  return when.fromAttempt === undefined || attempt >= when.fromAttempt;
};

const codeFits = (wanted: string, code: string): boolean =>
  wanted.endsWith("*") ? code.startsWith(wanted.slice(0, -1)) : code === wanted;

const conditionOf = ({ when }: Rule): string => {
  const { status } = when;
  const parts = [
    when.class,
    when.code,
    status === undefined
      ? undefined
      : `status ${status.from === status.to ? status.from : `${status.from}-${status.to}`}`,
    when.fromAttempt === undefined ? undefined : `from attempt ${when.fromAttempt}`,
  ];
  return parts.filter((part) => part !== undefined).join(", ");
};

/** The limits that need no time: how often. */
export const countReached = (limits: Limits, facts: Pick<Facts, "attempt" | "crashes">): Dead | undefined => {
  if (facts.crashes >= limits.maxCrashes) {
    const text = `${facts.crashes} attempts ended without an outcome, ${limits.maxCrashes} are allowed`;
    return { kind: "dead", code: "crash_loop", text };
  }
  if (facts.attempt < limits.maxAttempts) return undefined;
  return { kind: "dead", code: "attempts_exhausted", text: `attempt ${facts.attempt} of ${limits.maxAttempts} failed` };
};

/** The limits in time: a retry that would come too late is not worth its wait, so it ends now. */
export const timeReached = (
  limits: Limits,
  facts: Pick<Facts, "firstFailedAtMs" | "parkedMs">,
  atMs: number,
): Dead | undefined => {
  const { maxAgeMs, deadlineMs } = limits;
  if (deadlineMs !== undefined && atMs > deadlineMs) {
    const text = `the next attempt would come after the deadline ${formatInstant(deadlineMs)}`;
    return { kind: "dead", code: "deadline_passed", text };
  }
  if (maxAgeMs !== undefined && atMs - facts.firstFailedAtMs - facts.parkedMs > maxAgeMs) {
    const text = `the next attempt would come more than maxAge (${maxAgeMs / 1_000} s) after the first failure`;
    return { kind: "dead", code: "age_exhausted", text };
  }
  return undefined;
};
