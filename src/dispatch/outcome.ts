import type { Outcome } from "../delay/delay-store.port.ts";
import type { DelayedMessage } from "../message/message.ts";
import { durationMs, type EpochMs } from "../message/time.ts";
import { decide } from "../retry/decide.ts";
import { defaultBackoff, defaultLimits, type PlainPolicy } from "../retry/policy.ts";
import type { Random } from "../runtime/random.ts";
import type { SendPolicies } from "./send-policies.port.ts";
import { byAttempts, sendPolicyOf } from "./send-policy.ts";
import type { SendResult } from "./sink.port.ts";

/**
 * What becomes of a message after a send, purely. A retry is a delay: the message goes back to waiting with a later
 * time. The deciding itself is `retry/decide.ts`; here stands which policy holds for a send to the broker: the
 * message's own wish, else the one bound to its topic and tag, else the default.
 *
 * It ends by attempts only, never by age. A record does not hold when the first send failed, and the time it was due
 * is no substitute: behind a topic that refuses, or while no process ran, messages wait untried for as long as it
 * takes, and their first failure after that must not be their last.
 */
export const outcome = (
  message: DelayedMessage,
  result: SendResult,
  nowMs: EpochMs,
  random: Random,
  policies: SendPolicies,
): Outcome => {
  const { id, attempt } = message;
  if (result.ok) return { kind: "delivered", id };
  const { failure } = result;
  const facts = { attempt, crashes: 0, firstFailedAtMs: nowMs, parkedMs: durationMs(0), nowMs, failure };
  const decision = decide(policyOf(message, policies), facts, random);
  if (decision.kind === "retry") return { kind: "retry", id, dueMs: decision.atMs };
  const { code, detail } = failure;
  if (decision.code === "permanent") return { kind: "bury", id, reason: { code, detail } };
  return { kind: "bury", id, reason: { code: decision.code, detail: `${decision.text}: ${code}: ${detail}` } };
};

/**
 * What must be known before a claimed message is sent: undefined to send it, or its outcome without a send. A message
 * that kills its dispatcher is never settled, so its attempts run out here.
 */
export const refusedBeforeSend = (message: DelayedMessage, policies: SendPolicies): Outcome | undefined => {
  // Nearly all are taken for the first time, and no policy allows fewer.
  if (message.attempt <= 1) return undefined;
  const { maxAttempts } = policyOf(message, policies).limits;
  if (message.attempt <= maxAttempts) return undefined;
  const detail = `taken for sending ${message.attempt - 1} times without an outcome, ${maxAttempts} attempts allowed`;
  return { kind: "bury", id: message.id, reason: { code: "attempts_exhausted", detail } };
};

const byDefault: PlainPolicy = {
  backoff: defaultBackoff,
  limits: byAttempts(defaultLimits.maxAttempts),
  rules: [],
};

const policyOf = ({ retry, topic, tag }: DelayedMessage, policies: SendPolicies): PlainPolicy => {
  if (retry === undefined) {
    const bound = policies.policyFor(topic, tag);
    return bound === undefined ? byDefault : sendPolicyOf(bound);
  }
  const { maxAttempts, initialMs, maxMs, multiplier } = retry;
  return {
    backoff: { kind: "exponential", baseMs: initialMs, factor: multiplier, capMs: maxMs, jitter: "equal" },
    limits: byAttempts(maxAttempts),
    rules: [],
  };
};
