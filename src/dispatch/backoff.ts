import type { RetryOptions } from "../message/message.ts";
import { type DurationMs, durationMs, minute, second } from "../message/time.ts";
import type { Random } from "../runtime/random.ts";

/**
 * When a failed send is tried again: exponential growth with a cap, and equal jitter (half of the wait is fixed, half
 * is chance), so that messages which failed together do not come back together and none comes back at once.
 */

/** 1 s, 2 s, 4 s … 30 min: 80 attempts reach about 34 hours, longer than a broker outage that anyone lets stand. */
export const defaultRetry: RetryOptions = {
  maxAttempts: 80,
  initialMs: second,
  maxMs: durationMs(30 * minute),
  multiplier: 2,
};

/** The wait after the failure of `attempt` (1 = the first): between half of the exponential step and all of it. */
export const backoff = (policy: RetryOptions, attempt: number, random: Random): DurationMs => {
  const step = Math.min(policy.maxMs, policy.initialMs * policy.multiplier ** (attempt - 1));
  return durationMs(Math.ceil(step / 2 + random.float() * (step / 2)));
};
