import type { Effect } from "./errors.ts";

/**
 * The two decisions about trying again, as pure functions: may this failure be followed by another try, and after how
 * long. Nothing here sends, waits or asks the time.
 *
 * A failure is tried again only when it looks transient, and then only when a second copy of the request is harmless:
 * either the request is repeatable (it carries a key, or is a read, a cancel or a reschedule), or this failure
 * certainly had no effect.
 */

export type RetryPolicy = {
  /** Requests in all, the first one included; 1 means no retries. 1 to 100, default 5. */
  readonly maxAttempts: number;
  /** Wait before the second request, in milliseconds; doubles with each one. 1 to 60,000, default 100. */
  readonly initialMs: number;
  /** Longest wait of our own choosing, in milliseconds. 1 to 600,000, default 5,000. */
  readonly maxMs: number;
  /** A `Retry-After` above this is not waited for: the error is thrown and carries it. Milliseconds, default 30,000. */
  readonly retryAfterMaxMs: number;
};

export const defaultRetryPolicy: RetryPolicy = {
  maxAttempts: 5,
  initialMs: 100,
  maxMs: 5_000,
  retryAfterMaxMs: 30_000,
};

export type Failure =
  /** No connection came about, so nothing was sent. */
  | { readonly kind: "not_connected" }
  /** Something may have been sent and no whole reply came back. */
  | { readonly kind: "no_reply" }
  | { readonly kind: "reply"; readonly status: number; readonly code: string; readonly retryAfterMs?: number };

const transientStatuses: ReadonlySet<number> = new Set([408, 429, 502, 503, 504]);

// Server failures whose code promises that nothing was stored. `store_unavailable` is absent on purpose: there the
// store did not answer and the request may have taken effect. So are 502 and 504, which come from proxies.
const codesWithoutEffect: ReadonlySet<string> = new Set([
  "store_refusing",
  "store_full",
  "topic_unverified",
  "shutting_down",
  "fenced",
]);

export const effectOf = (failure: Failure): Effect => {
  if (failure.kind === "not_connected") return "none";
  if (failure.kind === "no_reply") return "unknown";
  // A success that could not be read is a success all the same.
  if (failure.status < 300) return "unknown";
  if (failure.status < 500) return "none";
  return codesWithoutEffect.has(failure.code) ? "none" : "unknown";
};

export const isTransient = (failure: Failure): boolean =>
  failure.kind !== "reply" || transientStatuses.has(failure.status);

/**
 * Milliseconds until the next request, or undefined when this failure is to be reported. `attempt` counts the requests
 * sent so far, `random` is uniform in [0, 1).
 *
 * Half of our own wait is chance, so that many clients cut off together do not come back together. A server's
 * `Retry-After` is waited for in full, and up to a quarter more for the same reason.
 */
export const nextWaitMs = (
  failure: Failure,
  attempt: number,
  repeatable: boolean,
  policy: RetryPolicy,
  random: number,
): number | undefined => {
  if (attempt >= policy.maxAttempts) return undefined;
  if (!isTransient(failure)) return undefined;
  if (!repeatable && effectOf(failure) === "unknown") return undefined;
  const ownMs = Math.min(policy.maxMs, policy.initialMs * 2 ** (attempt - 1));
  const waitMs = ownMs * (0.5 + random / 2);
  const askedMs = failure.kind === "reply" ? failure.retryAfterMs : undefined;
  if (askedMs === undefined) return waitMs;
  if (askedMs > policy.retryAfterMaxMs) return undefined;
  return Math.max(waitMs, askedMs * (1 + random / 4));
};

/** `Retry-After` as milliseconds from now: whole seconds or an HTTP date (RFC 9110); undefined when it is neither. */
export const parseRetryAfter = (value: string | null, nowMs: number): number | undefined => {
  if (value === null) return undefined;
  if (/^\d{1,9}$/.test(value)) return Number(value) * 1_000;
  const atMs = Date.parse(value);
  return Number.isNaN(atMs) ? undefined : Math.max(0, atMs - nowMs);
};
