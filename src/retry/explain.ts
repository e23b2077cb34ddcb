import type { DurationMs, EpochMs } from "../message/time.ts";
import { countReached, type Decision, type Failure, timeReached, type Verdict, verdictOf } from "./decide.ts";
import { defaultBreaker, defaultBudget, type RetryPolicy } from "./policy.ts";

/**
 * What a policy will do to something that goes on failing in the same way: attempt by attempt the decision with the
 * bounds and the mean of its wait, and what ends it. Pure, and made of the parts that `decide` is made of, so that it
 * cannot say anything else. Attempts are taken to last no time, and nothing is parked on the way.
 *
 * What surprised us: the mean of a decorrelated wait has no formula once there is a cap, since what matters is how the
 * waits before were spread. So 256 waits live through the schedule together, each with its own part of chance; sorted
 * before every step, their means stay within two percent of 100,000 random lives.
 */

export type Span = { readonly minMs: number; readonly meanMs: number; readonly maxMs: number };

export type ExplainedAttempt = {
  readonly attempt: number;
  /** What happens when this attempt fails, with waits as long as they are on average. */
  readonly decision: Decision["kind"];
  /** False when other luck with the waits leads to another decision. */
  readonly certain: boolean;
  readonly text: string;
  /** When it is a retry for any luck: how long until the next attempt. */
  readonly waitMs?: Span;
  /** … and how long after the first failure that will be. */
  readonly sinceFirstMs?: Span;
};

/** What ends it, and how long after the first failure. */
export type End = {
  readonly decision: Exclude<Decision["kind"], "retry">;
  /** For `dead`, which limit or rule. */
  readonly code?: string;
  readonly attempt: number;
  readonly afterMs: number;
  readonly text: string;
};

export type Explanation = {
  readonly attempts: readonly ExplainedAttempt[];
  /** How many attempts were left out above. */
  readonly attemptsLeftOut: number;
  /** With the longest, the mean and the shortest waits. */
  readonly fewestAttempts: End;
  readonly typically: End;
  readonly mostAttempts: End;
  /** What else the policy says, as sentences: it depends on more than this one message. */
  readonly besides: readonly string[];
};

export const explain = (
  policy: RetryPolicy,
  failure: Failure,
  firstFailedAtMs: EpochMs,
  attemptsShown: number,
): Explanation => {
  const { limits } = policy;
  const walk = new Walk();
  const attempts: ExplainedAttempt[] = [];
  const ends: { -readonly [Luck in keyof Span]?: End } = {};
  let since: Span = { minMs: 0, meanMs: 0, maxMs: 0 };

  let attempt = 1;
  for (; ends.minMs === undefined; attempt++) {
    const verdict = verdictOf(policy, failure, attempt);
    const crashes = failure.class === "crash" ? attempt : 0;
    const final = verdict.kind === "retry" ? countReached(limits, { attempt, crashes }) : verdict;
    const waitMs = final === undefined && verdict.kind === "retry" ? walk.step(verdict) : undefined;
    const next = waitMs === undefined ? since : sum(since, waitMs);
    for (const luck of lucks) {
      if (ends[luck] !== undefined) continue;
      const atMs = firstFailedAtMs + next[luck];
      const end = final ?? timeReached(limits, { firstFailedAtMs, parkedMs: 0 as DurationMs }, atMs);
      if (end !== undefined) ends[luck] = endOf(end, attempt, since[luck]);
    }
    if (attempt <= attemptsShown) attempts.push(explained(attempt, verdict, ends, waitMs, next));
    since = next;
  }
  return {
    attempts,
    attemptsLeftOut: attempt - 1 - attempts.length,
    fewestAttempts: ends.maxMs!,
    typically: ends.meanMs!,
    mostAttempts: ends.minMs!,
    besides: besidesOf(policy),
  };
};

const besidesOf = ({
  breaker = defaultBreaker,
  budget = defaultBudget,
  dead = {},
  inFlight,
}: RetryPolicy): string[] => {
  const sentences: string[] = [];
  if (breaker !== null) {
    const { failureRate, minCalls, windowMs, probes, probeEveryMs, rampStartPerSec, rampAddPerSec } = breaker;
    const percent = Math.round(failureRate * 100);
    sentences.push(
      `When ${percent} % of at least ${minCalls} calls in ${windowMs / 1_000} s failed, messages are parked: that spends no attempt and no age. Then ${probes} calls every ${probeEveryMs / 1_000} s try it; on the way back ${rampStartPerSec} calls/s and ${rampAddPerSec} more each second.`,
    );
  }
  if (budget !== null) {
    sentences.push(
      `Retries are at most ${budget.percent} % of the successes and ${budget.minPerSec}/s; those beyond wait a little longer, which spends no attempt.`,
    );
  }
  if (dead.topic !== undefined) sentences.push(`The dead are sent to the topic ${dead.topic}.`);
  if (dead.keepMs !== undefined) sentences.push(`The dead are kept for ${dead.keepMs / 3_600_000} h.`);
  if (inFlight === "keep") sentences.push("Messages that failed under an older version keep that one.");
  return sentences;
};

const lucks = ["minMs", "meanMs", "maxMs"] as const satisfies readonly (keyof Span)[];

const explained = (
  attempt: number,
  verdict: Verdict,
  ends: { readonly [Luck in keyof Span]?: End },
  waitMs: Span | undefined,
  sinceFirstMs: Span,
): ExplainedAttempt => {
  const typical = ends.meanMs;
  const row = {
    attempt,
    decision: typical?.decision ?? ("retry" as const),
    certain: (ends.minMs === undefined) === (ends.maxMs === undefined),
    text: typical?.text ?? verdict.text,
  };
  return waitMs === undefined || ends.minMs !== undefined ? row : { ...row, waitMs, sinceFirstMs };
};

const endOf = (verdict: Exclude<Verdict, { readonly kind: "retry" }>, attempt: number, afterMs: number): End => ({
  decision: verdict.kind,
  ...(verdict.kind === "dead" ? { code: verdict.code } : undefined),
  attempt,
  afterMs,
  text: verdict.text,
});

const sum = (a: Span, b: Span): Span => ({
  minMs: a.minMs + b.minMs,
  meanMs: a.meanMs + b.meanMs,
  maxMs: a.maxMs + b.maxMs,
});

const walkers = 256;
const almostOne = 1 - 2 ** -53;

/**
 * Chance in as many equal parts as there are walkers, dealt so that neighbours get parts far from each other (159 is
 * 256 by the golden ratio, and odd, so that every part is dealt once), and in every step otherwise. Bits read
 * backwards, which look as good, always deal the largest part to the longest wait: means 6 % too high.
 */
const partOf = (walker: number, step: number): number => (((walker * 159 + step * 97) % walkers) + 0.5) / walkers;

/** The waits of one schedule: the shortest, the longest, and many between them for the mean. */
class Walk {
  #shortest: DurationMs | undefined;
  #longest: DurationMs | undefined;
  /** Sorts twice as fast as a list with a comparison; 1,000 attempts take some 20 ms. */
  readonly #between = new Float64Array(walkers);
  #steps = 0;

  step({ waitOf }: Extract<Verdict, { readonly kind: "retry" }>): Span {
    const minMs = waitOf(this.#shortest, 0);
    const maxMs = waitOf(this.#longest, almostOne);
    const step = this.#steps++;
    const between = this.#between;
    let totalMs = 0;
    for (let i = 0; i < walkers; i++) {
      const before = step === 0 ? undefined : (between[i] as DurationMs);
      between[i] = waitOf(before, partOf(i, step));
      totalMs += between[i]!;
    }
    between.sort();
    this.#shortest = minMs;
    this.#longest = maxMs;
    return { minMs, meanMs: Math.floor(totalMs / walkers), maxMs };
  }
}
