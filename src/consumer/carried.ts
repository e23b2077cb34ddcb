import type { IncomingMessage } from "../ingest/topic-source.port.ts";
import { parseMessageId } from "../message/id.ts";
import { property } from "../message/message.ts";
import { retryProperty } from "../message/retry-properties.ts";
import { durationMs, type EpochMs } from "../message/time.ts";
import type { PastFailure, RetryEnvelope } from "../retry/envelope.ts";
import { boundedText, decodeEnvelope, envelopeLimits, withFailure } from "../retry/envelope-codec.ts";
import type { ThrownFailure } from "../retry/fingerprint.ts";

/**
 * What is known of a message from its attempts before, from its first delivery on: the envelope that it brings, or the
 * one that it would bring had it failed before. Pure.
 */

/** The same for every delivery of one sent message. A sender's id alone is not unique. */
export const originIdOf = ({ brokerMessageId, bornHost, bornAtMs }: IncomingMessage): string =>
  boundedText(`${brokerMessageId}@${bornHost}@${bornAtMs}`, envelopeLimits.originIdMax);

export type Carried = { readonly envelope: RetryEnvelope; readonly broken?: string };

/** @param ofRetryTopic the message came by the group's own retry topic, so it must bring its envelope. */
export const carriedBy = (message: IncomingMessage, group: string, ofRetryTopic: boolean): Carried => {
  const text = message.properties.get(retryProperty.envelope);
  const decoded = text === undefined ? undefined : decodeEnvelope(text);
  const fresh = freshEnvelope(message, group);
  if (!ofRetryTopic) {
    // Sent on by another group's policy: all that holds for us is how often this has happened.
    return { envelope: decoded?.ok ? { ...fresh, redirects: decoded.envelope.redirects } : fresh };
  }
  if (decoded === undefined) return { envelope: fresh, broken: "it came by the retry topic without a retry envelope" };
  if (!decoded.ok) return { envelope: fresh, broken: decoded.reason };
  if (decoded.envelope.group !== group) {
    return { envelope: fresh, broken: `its envelope belongs to the group ${decoded.envelope.group}` };
  }
  return { envelope: decoded.envelope };
};

/** Whatever else a stranger wrote there is not ours. */
const escIdOf = ({ properties }: IncomingMessage): { readonly originEscId?: string } => {
  const id = parseMessageId(properties.get(property.id) ?? "");
  return id === undefined ? {} : { originEscId: id };
};

const freshEnvelope = (message: IncomingMessage, group: string): RetryEnvelope => ({
  group,
  originTopic: message.topic,
  originId: originIdOf(message),
  originBornAtMs: message.bornAtMs,
  ...escIdOf(message),
  ...(message.messageGroup === undefined
    ? undefined
    : { originMessageGroup: boundedText(message.messageGroup, envelopeLimits.messageGroupMax) }),
  hop: 0,
  attempt: 0,
  crashes: 0,
  parkedMs: durationMs(0),
  policy: "none@0",
  history: [],
  replays: 0,
  redirects: 0,
});

/** Its stay, if there was one, is over. Before the first failure no age runs that a stay could be taken off. */
export const unparked = (envelope: RetryEnvelope, nowMs: EpochMs): RetryEnvelope => {
  const { parkedAtMs, parkedFor, ...rest } = envelope;
  if (parkedAtMs === undefined) return envelope;
  const stayMs = envelope.firstFailedAtMs === undefined ? 0 : Math.max(0, nowMs - parkedAtMs);
  return { ...rest, parkedMs: durationMs(envelope.parkedMs + stayMs) };
};

/** One attempt later. */
export const afterAttempt = (
  { mustVerify, ...envelope }: RetryEnvelope,
  failure: ThrownFailure,
  policy: string,
  nowMs: EpochMs,
): RetryEnvelope => ({
  ...envelope,
  attempt: envelope.attempt + 1,
  crashes: envelope.crashes + (failure.class === "crash" ? 1 : 0),
  firstFailedAtMs: envelope.firstFailedAtMs ?? nowMs,
  policy,
  history: withFailure(envelope.history, pastFailure(envelope.attempt + 1, failure, nowMs)),
});

/** With something worth remembering that was no attempt. */
export const noted = (envelope: RetryEnvelope, failure: ThrownFailure, nowMs: EpochMs): RetryEnvelope => ({
  ...envelope,
  history: withFailure(envelope.history, pastFailure(envelope.attempt, failure, nowMs)),
});

const pastFailure = (attempt: number, failure: ThrownFailure, nowMs: EpochMs): PastFailure => ({
  attempt,
  atMs: nowMs,
  class: failure.class,
  code: boundedText(failure.code, envelopeLimits.codeMax),
  fingerprint: failure.fingerprint,
  text: failure.text,
});
