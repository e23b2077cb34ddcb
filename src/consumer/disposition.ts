import { durationMs, type EpochMs, epochMs, epochMsMax, minute } from "../message/time.ts";
import { countReached, type Decision, decide, type Facts, timeReached } from "../retry/decide.ts";
import type { RetryEnvelope } from "../retry/envelope.ts";
import { boundedText, envelopeLimits } from "../retry/envelope-codec.ts";
import type { ThrownFailure } from "../retry/fingerprint.ts";
import type { RetryPolicy } from "../retry/policy.ts";
import type { Random } from "../runtime/random.ts";
import { afterAttempt, noted } from "./carried.ts";

/**
 * What becomes of a delivered message after its handler, or instead of it: the one place where a decision of the
 * policy, or a word of the handler, turns into where the message goes next and what it carries there. Pure.
 */
export type Disposition =
  | { readonly kind: "done" }
  | { readonly kind: "wait"; readonly atMs: EpochMs; readonly envelope: RetryEnvelope; readonly why: WaitReason }
  | { readonly kind: "park"; readonly key: string; readonly envelope: RetryEnvelope }
  | { readonly kind: "dead"; readonly code: string; readonly topic?: string; readonly envelope: RetryEnvelope };

/** Only `retry` was an attempt. */
export type WaitReason = "retry" | "snooze" | "defer" | "return";

export type PolicyInUse = { readonly label: string; readonly policy: RetryPolicy };

export type Surroundings = {
  readonly inUse: PolicyInUse;
  readonly nowMs: EpochMs;
  readonly random: Pick<Random, "float">;
  /** The consumer can find out whether an attempt took effect. */
  readonly canVerify: boolean;
};

/** An attempt failed: the policy decides. */
export const failed = (before: RetryEnvelope, failure: ThrownFailure, around: Surroundings): Disposition => {
  const { inUse, nowMs, random } = around;
  const envelope = afterAttempt(before, failure, inUse.label, nowMs);
  const facts: Facts = {
    attempt: envelope.attempt,
    crashes: envelope.crashes,
    firstFailedAtMs: envelope.firstFailedAtMs ?? nowMs,
    parkedMs: envelope.parkedMs,
    nowMs,
    ...(envelope.previousDelayMs === undefined ? undefined : { previousDelayMs: envelope.previousDelayMs }),
    failure,
  };
  const decision = decide(inUse.policy, facts, random);
  if (decision.kind !== "verify") return disposed(decision, envelope, inUse.policy, nowMs);
  if (!around.canVerify) return dead("cannot_verify", envelope, inUse.policy);
  // When to ask is a wait like any other, with the same limits; that it must be asked is what the message remembers.
  const wait = decide({ ...inUse.policy, rules: [] }, { ...facts, failure: { ...failure, class: "unknown" } }, random);
  return disposed(wait, { ...envelope, mustVerify: true }, inUse.policy, nowMs);
};

/** Whether the last attempt took effect is still not known: asked again later, within the limits of the policy. */
export const stillUnknown = (before: RetryEnvelope, failure: ThrownFailure, around: Surroundings): Disposition => {
  const plain = { ...around, inUse: { ...around.inUse, policy: { ...around.inUse.policy, rules: [] } } };
  const disposition = failed(before, { ...failure, class: "unknown" }, plain);
  return disposition.kind === "wait"
    ? { ...disposition, envelope: { ...disposition.envelope, mustVerify: true } }
    : disposition;
};

/** The handler named the time itself. It was an attempt, and the policy's limits hold. */
export const retriedAt = (
  before: RetryEnvelope,
  atMs: EpochMs,
  failure: ThrownFailure,
  { inUse, nowMs }: Surroundings,
): Disposition => {
  const envelope = afterAttempt(before, failure, inUse.label, nowMs);
  const facts = { ...envelope, firstFailedAtMs: envelope.firstFailedAtMs ?? nowMs };
  const { limits } = inUse.policy;
  const end = countReached(limits, facts) ?? timeReached(limits, facts, atMs);
  if (end !== undefined) return dead(end.code, envelope, inUse.policy);
  return waiting("retry", atMs, envelope, nowMs);
};

/** Later, and it was no attempt. */
export const later = (why: WaitReason, before: RetryEnvelope, atMs: EpochMs, nowMs: EpochMs): Disposition => ({
  kind: "wait",
  why,
  atMs: within(atMs, nowMs),
  envelope: before,
});

export const parked = (before: RetryEnvelope, key: string, nowMs: EpochMs): Disposition => ({
  kind: "park",
  key,
  envelope: { ...before, parkedAtMs: nowMs, parkedFor: key },
});

/** Ended without a failure of the handler: it said so, or the message cannot be worked on. */
export const buried = (
  before: RetryEnvelope,
  code: string,
  failure: ThrownFailure,
  around: Surroundings,
): Disposition =>
  dead(code, { ...noted(before, failure, around.nowMs), policy: around.inUse.label }, around.inUse.policy);

/** The limits that can be known before a message is worked on at all. */
export const spent = (before: RetryEnvelope, { inUse }: Surroundings): Disposition | undefined => {
  if (before.attempt === 0) return undefined;
  const end = countReached(inUse.policy.limits, before);
  return end === undefined ? undefined : dead(end.code, { ...before, policy: inUse.label }, inUse.policy);
};

const disposed = (decision: Decision, envelope: RetryEnvelope, policy: RetryPolicy, nowMs: EpochMs): Disposition => {
  switch (decision.kind) {
    case "retry":
      return waiting("retry", decision.atMs, envelope, nowMs);
    case "park":
      return parked(envelope, decision.key, nowMs);
    case "dead":
      return dead(decision.code, envelope, policy);
    case "verify":
      throw new Error("bug: verify is decided before");
  }
};

const waiting = (why: WaitReason, atMs: EpochMs, envelope: RetryEnvelope, nowMs: EpochMs): Disposition => {
  const dueMs = within(atMs, nowMs);
  return { kind: "wait", why, atMs: dueMs, envelope: { ...envelope, previousDelayMs: durationMs(dueMs - nowMs) } };
};

/** What lies behind us is now; beyond what can be written down nothing is due. */
const within = (atMs: number, nowMs: EpochMs): EpochMs => epochMs(Math.min(Math.max(atMs, nowMs), epochMsMax));

/** Two policies that send their dead to each other's topics would do so for ever. */
const redirectsMax = 3;

const dead = (code: string, envelope: RetryEnvelope, policy: RetryPolicy): Disposition => {
  const topic = policy.dead?.topic;
  if (topic === undefined) return { kind: "dead", code, envelope };
  if (envelope.redirects >= redirectsMax) return { kind: "dead", code: "redirect_circle", envelope };
  return { kind: "dead", code, topic, envelope: { ...envelope, redirects: envelope.redirects + 1 } };
};

/**
 * How long a message stays invisible when it cannot be handed over (or, in an ordered group, must not be). The broker
 * is asked for no less than a second, and for no more than an hour: who comes back early asks again.
 */
export const invisibleFor = (disposition: Exclude<Disposition, { kind: "done" }>, nowMs: EpochMs): number => {
  switch (disposition.kind) {
    case "wait":
      return Math.min(Math.max(disposition.atMs - nowMs, invisibleMinMs), invisibleMaxMs);
    case "park":
      return askAgainMs;
    case "dead":
      return askAgainMs;
  }
};

const invisibleMinMs = 1_000;
const invisibleMaxMs = 60 * minute;
/** What waits for somebody and not for a time is looked at this often. */
export const askAgainMs = 10_000;

/** A failure that nobody threw. */
export const ownFailure = (failureClass: ThrownFailure["class"], code: string, text: string): ThrownFailure => ({
  class: failureClass,
  code,
  fingerprint: code,
  text: boundedText(text, envelopeLimits.errorTextMax),
});
