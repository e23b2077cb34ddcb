import type { RetryDetails } from "./dead.ts";

/**
 * The HTTP contract as plain types, shared by the server, the client SDK and the CLI. Nothing else is shared between
 * them. Times travel as RFC 3339 text in replies; requests are more lenient (see each field).
 */

/** `"30m"`, `"1h30m"`, an ISO 8601 duration (`"PT30M"`), milliseconds as a number, or a RocketMQ delay level (`"level:3"`). */
export type DurationInput = string | number;

/** RFC 3339 with offset (`"2030-01-01T09:00:00+08:00"`) or epoch milliseconds. */
export type InstantInput = string | number;

/** Body of `POST /v1/messages`, one item of `POST /v1/messages/batch`, and one line of NDJSON. */
export type ScheduleRequest = {
  /** An existing topic of yours. */
  topic: string;
  /** The body as text (UTF-8). Exactly one of `body` and `bodyBase64`. */
  body?: string;
  /** The body as bytes. */
  bodyBase64?: string;
  tag?: string;
  keys?: string[];
  properties?: Record<string, string>;
  /** FIFO: messages of one group are sent in order, one after the other. */
  messageGroup?: string;
  /** When to deliver; past instants are delivered now. Exactly one of `deliverAt` and `delay`. */
  deliverAt?: InstantInput;
  /** How long to wait from now. */
  delay?: DurationInput;
  /** Your own name for the message: the same key is one message. Within a message group it is unique in that group. */
  key?: string;
  /** What to do when the key is known: keep the first message (default) or replace it. */
  onConflict?: "keep" | "replace";
  /** Not delivered later than this: a duration counted from deliverAt, or an RFC 3339 instant. */
  expireAfter?: DurationInput;
  /** How a failed dispatch to the broker is retried. */
  retry?: RetryInput;
  /** Accept although the topic does not exist yet. Default false. */
  waitForTopic?: boolean;
};

export type RetryInput = {
  /** Sends in all, 1 to 1000. Default 80. */
  maxAttempts?: number;
  /** Wait after the first failure. Default 1 s. */
  initial?: DurationInput;
  /** Longest wait. Default 30 min. */
  max?: DurationInput;
  /** Growth per failure, 1 to 10. Default 2. */
  multiplier?: number;
};

/** Body of `PATCH /v1/messages…`: exactly one of `deliverAt` and `delay`, the rest as you like. */
export type RescheduleRequest = {
  deliverAt?: InstantInput;
  delay?: DurationInput;
  expireAfter?: DurationInput | null;
  body?: string;
  bodyBase64?: string;
  properties?: Record<string, string>;
};

export type MessageState = "scheduled" | "claimed" | "delivered" | "dead" | "canceled" | "expired";

/** Reply to schedule, cancel and reschedule. */
export type MessageReply = {
  id: string;
  state: MessageState;
  /** When it is (or was) due; after a failed send, the next try. */
  deliverAt: string;
  /** Sends taken so far. */
  attempt: number;
  /** True when the key was known and the first message was kept. */
  deduplicated: boolean;
};

/** Reply to `GET /v1/messages…`: what is known. Ended messages keep only the first block, for the dedupe window. */
export type MessageDetails = {
  id: string;
  state: MessageState;
  deliverAt: string;
  attempt: number;
  endedAt?: string;
  reason?: { code: string; detail: string };
  /** The dependency that it is parked for; `deliverAt` is then when it comes out at the latest. */
  parkedFor?: string;
  parkedSince?: string;

  key?: string;
  topic?: string;
  tag?: string;
  keys?: string[];
  properties?: Record<string, string>;
  messageGroup?: string;
  acceptedAt?: string;
  expireAt?: string;
  bodyBytes?: number;
  /** Only when asked for with `?body=true`. */
  bodyBase64?: string;
  /** Of a dead message that a consumer gave up. */
  retry?: RetryDetails;
};

/** RFC 9457 problem document with our stable `code`. */
export type Problem = {
  type: string;
  title: string;
  status: number;
  code: string;
  detail: string;
  /** The field at fault, for example `properties.color`. */
  field?: string;
};

/** One result of a batch, in the order of the items; exactly one of the two. */
export type BatchItemReply = { index: number; message: MessageReply } | { index: number; error: Problem };

export type BatchReply = {
  accepted: number;
  rejected: number;
  results: BatchItemReply[];
};

export type StatsReply = {
  node: string;
  time: string;
  waiting: { total: number; byTopic: Record<string, number> };
  /** Of those that wait: parked until their dependency is well again. */
  parked: { total: number; byDependency: Record<string, number> };
  dueNow: number;
  claimed: number;
  dead: number;
  duePerMinute: number[];
  duePerHour: number[];
  /** Of this process, over the last minute; milliseconds. */
  lateness: { count: number; p50Ms: number; p99Ms: number; maxMs: number };
  shards: { shard: number; owner?: string; epoch: number }[];
  members: string[];
};

/** A retry policy as it is written; what is left out is as in the preset `default`. */
export type RetryPolicyInput = {
  /** The wait after each failure. */
  backoff?: BackoffInput;
  /** When to stop. */
  limits?: RetryLimitsInput;
  /** What to do about which failure; the first that fits decides. */
  rules?: RetryRuleInput[];
  /** When calls of a dependency are given up for a while; null for never. Left out: as by default. */
  breaker?: RetryBreakerInput | null;
  /** How many of a dependency's calls may be retries; null for as many as like. Left out: as by default. */
  budget?: RetryBudgetInput | null;
  /** Where the dead go. */
  dead?: RetryDeadInput;
  /** What becomes of messages that already failed under an older version. Default `adopt`. */
  inFlight?: "adopt" | "keep";
};

export type RetryBreakerInput = {
  /** Opens when this part of the calls in the window failed, 0.01 to 1. Default 0.5. */
  failureRate?: number;
  /** And there were at least so many. Default 20. */
  minCalls?: number;
  /** 1 s to 10 min. Default 10 s. */
  window?: DurationInput;
  /** While open, so often … 1 s to 1 h. Default 10 s. */
  probeEvery?: DurationInput;
  /** … so many calls are let through, of all workers together. Default 20. */
  probes?: number;
  /** Calls a second at the beginning of the way back, and how many more each second. Default 100. */
  rampStartPerSec?: number;
  rampAddPerSec?: number;
};

export type RetryBudgetInput = {
  /** Of the successes, 0 to 100. Default 20. */
  percent?: number;
  /** Retries a second that are always allowed, of all workers together. Default 10. */
  minPerSec?: number;
};

/** One of the two, or neither: then they are kept until somebody removes them. */
export type RetryDeadInput = {
  /** Delivered to this topic instead of being kept. */
  topic?: string;
  /** Kept for so long, 1 min to 365 days. */
  keep?: DurationInput;
};

/** Which fields there are depends on `kind`. */
export type BackoffInput = {
  kind?: "fixed" | "list" | "linear" | "exponential" | "decorrelated";
  /** `fixed`: every wait. */
  delay?: DurationInput;
  /** `list`: the waits in their order; the last one stands for all that follow. */
  delays?: DurationInput[];
  base?: DurationInput;
  /** `linear`: added for every failure. Default: the base. */
  increment?: DurationInput;
  /** `exponential`, `decorrelated`: growth for every failure, 1 to 10. */
  factor?: number;
  cap?: DurationInput;
  /** Not for `decorrelated`. Default `equal`. */
  jitter?: "none" | "full" | "equal";
};

export type RetryLimitsInput = {
  /** Attempts in all, 1 to 1000. Default 80. */
  maxAttempts?: number;
  /** From the first failure, time spent parked not counted; null for no limit. Default 24 h. */
  maxAge?: DurationInput | null;
  /** Nothing is tried after this instant. */
  deadline?: InstantInput;
  /** Attempts that ended without an outcome. Default 3. */
  maxCrashes?: number;
};

export type FailureClassInput = "transient" | "throttled" | "permanent" | "unknown" | "crash";

export type RetryRuleInput = {
  /** At least one; all that are given must fit. */
  when: {
    class?: FailureClassInput;
    /** A code, or the beginning of one with `*` at the end. */
    code?: string;
    /** An HTTP status, or such as `"5xx"`. */
    status?: number | string;
    /** From the failure of this attempt on. */
    fromAttempt?: number;
  };
  action: "retry" | "dead" | "park" | "verify";
  /** With `retry`: another backoff, which counts from `fromAttempt`. */
  backoff?: BackoffInput;
  /** With `park`: what is opened again one day. */
  key?: string;
};

/** Body of `POST /v1/retry-policies/simulate`: `policy` or `preset`; without both the preset `default`. */
export type SimulateRetriesRequest = {
  policy?: RetryPolicyInput;
  preset?: string;
  /** What goes on failing. Default: a transient error. */
  error?: { class?: FailureClassInput; code?: string; status?: number; retryAfter?: DurationInput };
  /** How many attempts to list, 1 to 1000. Default 100. */
  attempts?: number;
  /** Needed where the policy has a deadline. */
  firstFailedAt?: InstantInput;
};

export type RetryDecisionKind = "retry" | "dead" | "park" | "verify";

/** Milliseconds: bounds and mean. */
export type RetrySpan = { minMs: number; meanMs: number; maxMs: number };

/** `code` says which limit or rule made it dead. */
export type RetryEnd = {
  decision: RetryDecisionKind;
  code?: string;
  attempt: number;
  afterMs: number;
  text: string;
};

export type SimulateRetriesReply = {
  /** What happens when each attempt fails; `certain` is false where it depends on chance. */
  attempts: {
    attempt: number;
    decision: RetryDecisionKind;
    certain: boolean;
    text: string;
    waitMs?: RetrySpan;
    sinceFirstMs?: RetrySpan;
  }[];
  attemptsLeftOut: number;
  /** With the longest, the mean and the shortest waits. */
  fewestAttempts: RetryEnd;
  typically: RetryEnd;
  mostAttempts: RetryEnd;
  /** What else the policy says, as sentences: breaker, budget, the dead, messages in flight. */
  besides: string[];
};

/** Body of `PUT /v1/retry-policies/{name}`. */
export type PutPolicyRequest = {
  policy: RetryPolicyInput;
  /** The version that you have seen; 0 when there must be none. Left out: whatever there is. */
  ifVersion?: number;
  /** Who changes it, as they say themselves, and why; kept with the version. */
  by?: string;
  why?: string;
};

export type PolicyReply = {
  name: string;
  version: number;
  /** Null in the version that deleted it. */
  policy: RetryPolicyInput | null;
  /** The newest version. */
  latest: number;
  /** It comes with the program and cannot be changed; its version is 0. */
  preset: boolean;
  /** There is none of that name any more; its versions stay readable for messages in flight. */
  deleted: boolean;
  at?: string;
  by?: string;
  why?: string;
};

/** `changed` is false when it was already so: then there is no new version. */
export type PutPolicyReply = PolicyReply & { changed: boolean };

export type DeletePolicyReply = { name: string; version: number; bindingsRemoved: RetryBinding[] };

export type PolicySummary = {
  name: string;
  version: number;
  preset: boolean;
  /** In how many places it is bound. */
  bindings: number;
  /** Where it sends the dead. */
  deadTopic?: string;
  /** Of presets: what they are. */
  summary?: string;
};

export type PolicyListReply = { policies: PolicySummary[] };

/** Newest first. */
export type PolicyVersionsReply = {
  name: string;
  versions: { version: number; deleted: boolean; at: string; by?: string; why?: string }[];
  /** Older ones follow: ask again with `before` the last version of these. */
  more: boolean;
};

/** Whose messages a policy is for; all that are given must fit. None: for all. */
export type RetryBindingPlace = {
  topic?: string;
  group?: string;
  tag?: string;
};

export type RetryBinding = RetryBindingPlace & { policy: string };

/** The most special first: the first that fits a message holds. */
export type RetryBindingsReply = { bindings: RetryBinding[] };

/** One failure of one message, as it was recorded. Times are epoch milliseconds. */
export type RecordedFailureInput = {
  /** What the failures of one message have in common. */
  message: string;
  atMs: number;
  /** Default `transient`. */
  class?: FailureClassInput;
  code?: string;
  status?: number;
  /** How long the other side asked to be left alone. */
  retryAfterMs?: number;
  /** Which attempt it was; of a message's first failure, where counting begins. Default 1. */
  attempt?: number;
  /** When the message succeeded in the end. */
  succeededAtMs?: number;
};

/** Body of `POST /v1/retry-policies/replay` (with `candidate`) and `…/{name}/replay`. */
export type ReplayRetriesRequest = {
  failures: RecordedFailureInput[];
  candidate?: RetryPolicyInput;
  /** Another policy by its name, or name@version, to compare with. */
  against?: string;
  /** Of chance: the same seed gives the same answer. Default 1. */
  seed?: number;
  /** Also what became of each message. Default false. */
  messages?: boolean;
};

export type ReplayTotals = {
  messages: number;
  /** Attempts of all messages, the recorded first ones included. */
  calls: number;
  mostCallsPerSec: number;
  succeeded: number;
  dead: number;
  deadByCode: Record<string, number>;
  parked: number;
  toVerify: number;
  /** From the first failure to the success. */
  delayMs: { p50: number; p99: number; max: number };
};

export type ReplayRetriesReply = {
  /** As it really was. */
  recorded: ReplayTotals;
  /** `policy` is name@version, or `candidate`. */
  results: (ReplayTotals & { policy: string; perMessage?: ReplayedMessageReply[] })[];
};

export type ReplayedMessageReply = {
  message: string;
  outcome: "succeeded" | "dead" | "park" | "verify";
  code?: string;
  calls: number;
  afterMs: number;
};

export type HealthReply = {
  status: "ok" | "degraded" | "stopping";
  /** Why not ok, as sentences. */
  problems: { code: string; detail: string }[];
};

/** Asks for a consumer group that retries by us to be made ready. */
export type ConsumerGroupRequest = {
  /** One message of a message group at a time. Default false. */
  ordered?: boolean;
};

export type ConsumerGroupReply = {
  group: string;
  /** Where failed messages come back to it. */
  retryTopic: string;
  /** Where it hands them over. */
  ingestTopic: string;
};
