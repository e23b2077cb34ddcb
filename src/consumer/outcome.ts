import type { RetryEnvelope } from "../retry/envelope.ts";
import { failureOf, type ThrownFailure } from "../retry/fingerprint.ts";
import type { AttemptResult } from "./attempt.ts";
import {
  buried,
  type Disposition,
  failed,
  later,
  ownFailure,
  parked,
  retriedAt,
  type Surroundings,
  stillUnknown,
} from "./disposition.ts";

/** What an attempt came to, as what becomes of its message; with the failure, where it was one. Pure. */
export type Outcome = { readonly disposition: Disposition; readonly failure?: ThrownFailure };

export const outcomeOf = (
  result: AttemptResult,
  envelope: RetryEnvelope,
  around: Surroundings,
  handlerTimeoutMs: number,
): Outcome => {
  const { nowMs } = around;
  switch (result.kind) {
    case "done":
      return { disposition: { kind: "done" } };
    case "threw": {
      const failure = failureOf(result.error, nowMs);
      return { disposition: failed(envelope, failure, around), failure };
    }
    case "timed_out": {
      const text = `the handler took longer than ${handlerTimeoutMs} ms`;
      const failure = ownFailure("unknown", "handler_timeout", text);
      return { disposition: failed(envelope, failure, around), failure };
    }
    case "unverified": {
      const failure = failureOf(result.error, nowMs);
      return { disposition: stillUnknown(envelope, failure, around), failure };
    }
    case "stopped": {
      if (result.left === undefined) return { disposition: later("return", envelope, nowMs, nowMs) };
      const failure = ownFailure("unknown", "stopped", "the consumer stopped and its handler did not");
      return { disposition: failed(envelope, failure, around), failure };
    }
    case "said": {
      const { verdict } = result;
      switch (verdict.kind) {
        case "retry": {
          const failure = ownFailure("transient", "retry_at", verdict.reason);
          return { disposition: retriedAt(envelope, verdict.atMs, failure, around), failure };
        }
        case "snooze":
          return { disposition: later("snooze", envelope, verdict.atMs, nowMs) };
        case "park":
          return { disposition: parked(envelope, verdict.key, nowMs) };
        case "dead": {
          const failure = ownFailure("permanent", "handler", verdict.reason);
          return { disposition: buried(envelope, "handler", failure, around) };
        }
      }
    }
  }
};
