import type { RetryPolicyInput } from "./http.ts";

/**
 * What a consumer process and the service tell each other, once a second: the consumer what its calls met, the service
 * which policies hold and how each dependency is doing for everybody. A consumer that gets no answer works on with what
 * it knows.
 */
export type ConsumerSyncRequest = {
  /** Unique for each process. */
  worker: string;
  group: string;
  topics: string[];
  /** The `policies.tag` it has; the reply leaves policies out where nothing has changed. */
  policiesTag?: string;
  /** Asks for the policy of this name instead of the bound ones. */
  policy?: string;
  /** Versions (`name@version`) that messages in flight were decided by and this process does not know. */
  versionsWanted?: string[];
  dependencies: DependencyReport[];
  /** What became of redriven messages. */
  redriven?: { job: string; message: string; outcome: "succeeded" | "failed" | "dead" }[];
  /**
   * Messages of groups whose order keeps the failed ones with the broker, that were given out before and of which this
   * process does not know why: their handler is about to run, or has given an answer.
   */
  heads?: { id: string; delivery: number; state: "begins" | "answered" }[];
};

/** Of one worker, since its last report. */
export type DependencyReport = {
  key: string;
  succeeded: number;
  failed: number;
  /** Of the calls, those made for messages that failed before. */
  retries: number;
  /** Messages sent to parking, and messages deferred by the budget. */
  parked: number;
  deferred: number;
  /** How this key's breaker and budget shall work; absent: the defaults. */
  breaker?: BreakerInput | null;
  budget?: { percent: number; minPerSec: number } | null;
};

export type BreakerInput = {
  failureRate: number;
  minCalls: number;
  windowMs: number;
  probeEveryMs: number;
  probes: number;
  rampStartPerSec: number;
  rampAddPerSec: number;
};

export type DependencyState = "closed" | "open" | "probing" | "ramping";

/** For this worker. */
export type DependencyView = {
  key: string;
  state: DependencyState;
  /** Calls a second that this worker may make; absent: as many as it likes. Zero: none. */
  callsPerSec?: number;
  /** Retries a second besides its share of its own successes. */
  retriesPerSec: number;
  /** In percent of its successes. */
  retryPercent: number;
  /** An operator holds it open or closed. */
  forced?: boolean;
};

export type ConsumerSyncReply = {
  policies?: {
    tag: string;
    /** The most special first; the first that fits a message holds. */
    bound: { topic?: string; messageTag?: string; name: string; version: number; policy: RetryPolicyInput }[];
  };
  versions?: { name: string; version: number; policy: RetryPolicyInput | null }[];
  dependencies: DependencyView[];
  /** For each that begins: how often in a row its handler began before and nobody heard of it again. */
  heads?: { id: string; crashes: number }[];
};
