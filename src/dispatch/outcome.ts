import type { Outcome } from "../delay/delay-store.port.ts";
import type { DelayedMessage } from "../message/message.ts";
import { type EpochMs, epochMs } from "../message/time.ts";
import type { Random } from "../runtime/random.ts";
import { backoff, defaultRetry } from "./backoff.ts";
import type { SendResult } from "./sink.port.ts";

/**
 * What becomes of a message after a send: the one place where that is decided, purely. A retry is a delay: the
 * message goes back to waiting with a later time.
 */
export const outcome = (message: DelayedMessage, result: SendResult, nowMs: EpochMs, random: Random): Outcome => {
  if (result.ok) return { kind: "delivered", id: message.id };
  const { class: failureClass, code, detail } = result.failure;
  if (failureClass === "permanent") return { kind: "bury", id: message.id, reason: { code, detail } };
  const policy = message.retry ?? defaultRetry;
  if (message.attempt >= policy.maxAttempts) {
    const last = `attempt ${message.attempt} of ${policy.maxAttempts} failed: ${code}: ${detail}`;
    return { kind: "bury", id: message.id, reason: { code: "attempts_exhausted", detail: last } };
  }
  return { kind: "retry", id: message.id, dueMs: epochMs(nowMs + backoff(policy, message.attempt, random)) };
};

/**
 * What must be known before a claimed message is sent: undefined to send it, or its outcome without a send. A message
 * that kills its dispatcher is never settled, so its attempts run out here.
 */
export const refusedBeforeSend = (message: DelayedMessage): Outcome | undefined => {
  const policy = message.retry ?? defaultRetry;
  if (message.attempt <= policy.maxAttempts) return undefined;
  const detail = `taken for sending ${message.attempt - 1} times without an outcome, ${policy.maxAttempts} attempts allowed`;
  return { kind: "bury", id: message.id, reason: { code: "attempts_exhausted", detail } };
};
