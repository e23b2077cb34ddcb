import { parsePolicy } from "./parse-policy.ts";
import type { RetryPolicy } from "./policy.ts";

/**
 * Policies with a name that come with the program, written as anybody would write one. RocketMQ's two are what its
 * brokers do for a consumer group: 16 retries are 17 attempts, there is no limit in time and no jitter, and a
 * consumer that crashes has used an attempt like any other.
 */
export type Preset = {
  readonly name: string;
  readonly summary: string;
  /** As it would stand in a file. */
  readonly input: object;
  readonly policy: RetryPolicy;
};

const preset = (name: string, summary: string, input: object): Preset => ({
  name,
  summary,
  input,
  policy: parsePolicy(input),
});

/** Each message for itself, whatever becomes of the others. */
const alone = { breaker: null, budget: null };
const groupLimits = { maxAttempts: 17, maxAge: null, maxCrashes: 17 };

export const presets: readonly Preset[] = [
  preset("default", "1 s, 2 s, 4 s … 30 min, equal jitter; ends after 24 h or 80 attempts", {
    backoff: { kind: "exponential", base: "1s", factor: 2, cap: "30m", jitter: "equal" },
    limits: { maxAge: "24h", maxAttempts: 80, maxCrashes: 3 },
  }),
  preset("rocketmq-ladder", "a group's default in RocketMQ: its levels 3 to 18, 10 s … 2 h; ends after 16 retries", {
    backoff: {
      kind: "list",
      delays: Array.from({ length: 16 }, (_, i) => `level:${i + 3}`),
      jitter: "none",
    },
    limits: groupLimits,
    ...alone,
  }),
  preset("rocketmq-exponential", "RocketMQ's exponential group policy: 5 s, 10 s … 2 h; ends after 16 retries", {
    backoff: { kind: "exponential", base: "5s", factor: 2, cap: "2h", jitter: "none" },
    limits: groupLimits,
    ...alone,
  }),
];
