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

export type DeadPage = { items: MessageDetails[]; cursor?: string };

export type StatsReply = {
  node: string;
  time: string;
  waiting: { total: number; byTopic: Record<string, number> };
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

export type HealthReply = {
  status: "ok" | "degraded" | "stopping";
  /** Why not ok, as sentences. */
  problems: { code: string; detail: string }[];
};
