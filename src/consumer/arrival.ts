import type { EpochMs } from "../message/time.ts";
import { epochMs } from "../message/time.ts";
import type { RetryEnvelope } from "../retry/envelope.ts";
import { unparked } from "./carried.ts";
import { buried, type Disposition, failed, later, ownFailure, type Surroundings, spent } from "./disposition.ts";
import type { GivenBack } from "./remembered.ts";

/**
 * What is known of a message when it comes, before anything is done with it: whether somebody had it and gave no answer,
 * whether we gave it back ourselves and why. Pure.
 *
 * The broker's delivery count rises before a handler runs, and so does a crash: a count above 1 that is not our own
 * doing is one, and is written down, by handing the message over, before the handler sees it again.
 */
export type Arrival = {
  readonly envelope: RetryEnvelope;
  readonly isCrash: boolean;
  /** It may have killed a process, so the handler does not see it before that is written down somewhere. */
  readonly mustBeHandedOver: boolean;
  /** It stays with the broker, and was given out before for a reason that this process does not know. */
  readonly isDoubted: boolean;
  /** What becomes of it without the handler; undefined: it is worked on. */
  readonly disposition: Disposition | undefined;
};

export type ArrivalFacts = {
  readonly carried: RetryEnvelope;
  /** Why its envelope cannot be believed. */
  readonly broken: string | undefined;
  readonly deliveryAttempt: number;
  readonly back: GivenBack | undefined;
  /** The order of its group keeps failed messages with the broker. */
  readonly blocks: boolean;
  /** Others of its lane are here before it: what it was given out for may have been them. */
  readonly isBehind: boolean;
  /** The service knows how often a head killed its process. */
  readonly crashesAreCounted: boolean;
  readonly handingOverFails: boolean;
  readonly nowMs: EpochMs;
  readonly around: (envelope: RetryEnvelope) => Surroundings;
};

/** A message that is back this much too early is handed over once more instead of being waited for. */
const earlyMs = 1_500;
const returnMs = 1_000;

export const arrivalOf = (facts: ArrivalFacts): Arrival => {
  const { carried, broken, deliveryAttempt, back, blocks, nowMs, around } = facts;
  if (broken !== undefined) {
    const failure = ownFailure("permanent", "broken_envelope", broken);
    return without(carried, buried(carried, "broken_envelope", failure, around(carried)));
  }
  const envelope = unparked(back?.envelope ?? carried, nowMs);
  const pending = back?.pending;
  if (pending?.kind === "dead") return without(envelope, pending);
  if (pending !== undefined && back?.mustBeHandedOver === true) {
    return { ...without(envelope, pending), mustBeHandedOver: true };
  }
  if (pending?.kind === "wait" && pending.atMs - nowMs > earlyMs && !blocks) return without(envelope, pending);
  const isSuspicious = deliveryAttempt > 1 && back?.nextDelivery !== deliveryAttempt;
  if (!isSuspicious) return without(envelope, spent(envelope, around(envelope)));
  if (blocks) {
    const isDoubted = true;
    if (facts.isBehind) return { ...without(envelope, spent(envelope, around(envelope))), isDoubted };
    // Order does not allow it to go away and come back, so the broker's count must do for all attempts: what we know
    // nothing of may have been one, or may have been an orderly stop, or another's turn that it was held behind. So by
    // that alone none dies without one more attempt, unless nothing else would end one that kills every process.
    const unknown = Math.max(0, deliveryAttempt - (back?.nextDelivery ?? 1));
    const { maxAttempts } = around(envelope).inUse.policy.limits;
    const most = facts.crashesAreCounted ? Math.max(envelope.attempt, maxAttempts - 1) : Number.POSITIVE_INFINITY;
    const attempt = Math.min(envelope.attempt + unknown, most);
    const counted = { ...envelope, attempt, firstFailedAtMs: envelope.firstFailedAtMs ?? nowMs };
    return { ...without(counted, spent(counted, around(counted))), isDoubted };
  }
  const crash = ownFailure("crash", "crash", `delivered ${deliveryAttempt} times without an answer`);
  // Given back by a peer that could not hand it over, or died with: nobody can tell while handing over fails.
  const disposition = facts.handingOverFails
    ? later("return", envelope, epochMs(nowMs + returnMs), nowMs)
    : failed(envelope, crash, around(envelope));
  return { envelope, isCrash: true, mustBeHandedOver: true, isDoubted: false, disposition };
};

const without = (envelope: RetryEnvelope, disposition: Disposition | undefined): Arrival => ({
  envelope,
  isCrash: false,
  mustBeHandedOver: false,
  isDoubted: false,
  disposition,
});
