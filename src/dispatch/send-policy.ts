import type { Backoff, PlainPolicy, PlainRule, RetryPolicy, Rule } from "../retry/policy.ts";

/**
 * What a bound retry policy means for a send to the broker, purely. Backoff, attempts, deadline and rules hold; what a
 * send cannot do is left out or becomes the next nearest thing:
 *
 * - `park` and `verify` are tried again with the policy's own backoff: nobody opens a key for a send, and a send that
 *   may have taken effect is repeated, as always here (consumers know the message by its id).
 * - `maxAge` and `maxCrashes` are left out; outcome.ts says why. So are breaker and budget: a topic that refuses is
 *   paused as a whole, by its lane. The dead stay among the dead, whatever `dead.topic` says.
 * - Decorrelated waits rest on the wait before, which no record holds: they become exponential with half the factor,
 *   which is how fast they grow on average.
 */
export const sendPolicyOf = (policy: RetryPolicy): PlainPolicy => {
  const known = compiled.get(policy);
  if (known !== undefined) return known;
  const { maxAttempts, deadlineMs } = policy.limits;
  const sendPolicy: PlainPolicy = {
    backoff: remembering(policy.backoff),
    limits: { ...byAttempts(maxAttempts), ...(deadlineMs === undefined ? undefined : { deadlineMs }) },
    rules: policy.rules.map(plain),
  };
  compiled.set(policy, sendPolicy);
  return sendPolicy;
};

/** Crashes are attempts like any other: which of them ended without an outcome is not recorded. */
export const byAttempts = (maxAttempts: number) => ({ maxAttempts, maxCrashes: maxAttempts });

const compiled = new WeakMap<RetryPolicy, PlainPolicy>();

const plain = (rule: Rule): PlainRule => {
  if (rule.action === "dead") return rule;
  const { when } = rule;
  if (rule.action !== "retry" || rule.backoff === undefined) return { when, action: "retry" };
  return { when, action: "retry", backoff: remembering(rule.backoff) };
};

const remembering = (backoff: Backoff): Backoff => {
  if (backoff.kind !== "decorrelated") return backoff;
  const { baseMs, capMs, factor } = backoff;
  return { kind: "exponential", baseMs, capMs, factor: Math.max(1, factor / 2), jitter: "equal" };
};
