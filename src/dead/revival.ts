import { type DelayedMessage, limits, redriveProperty, topicPattern } from "../message/message.ts";
import { isReservedProperty } from "../message/reserved-properties.ts";
import { retryProperty } from "../message/retry-properties.ts";
import { retryTopicOf } from "../message/retry-topic.ts";
import type { EpochMs } from "../message/time.ts";
import type { RetryEnvelope } from "../retry/envelope.ts";
import { encodeEnvelope } from "../retry/envelope-codec.ts";
import type { DeadMessage } from "./dead-message.ts";
import type { OutcomeCode } from "./portion.ts";
import type { RedriveEdit, RedrivePlan } from "./redrive-plan.ts";

/**
 * What a dead message comes back as, or why it stays dead. Pure.
 *
 * - A consumer's dead goes to its group's own retry topic, with its envelope: a fresh count of attempts, no crashes,
 *   its history kept, one replay more. Only its group gets it, and knows it again when it fails.
 * - What died on its way out goes to the topic it was meant for. It has no envelope, so a property of ours counts its
 *   replays; that one is taken off before it is sent.
 */
export type Revival =
  | { readonly message: DelayedMessage; readonly isConsumers: boolean }
  | { readonly skip: OutcomeCode };

export const revivalOf = (
  dead: DeadMessage,
  { edit, replaysMax }: Pick<RedrivePlan, "edit" | "replaysMax">,
  token: string,
  ownTopics: ReadonlySet<string>,
  nowMs: EpochMs,
  dueMs: EpochMs,
): Revival => {
  const { message, envelope } = dead;
  if (message === undefined) return { skip: "damaged" };
  if (replaysOf(dead) >= replaysMax) return { skip: "replay-cap" };
  const isConsumers = envelope !== undefined && edit?.topic === undefined;
  const topic = edit?.topic ?? (envelope === undefined ? message.topic : retryTopicOf(envelope.group));
  // Refused on its way in: it would come straight back, or be refused by the broker.
  if (ownTopics.has(topic)) return { skip: "own-topic" };
  if (!topicPattern.test(topic)) return { skip: "bad-topic" };
  const properties = propertiesOf(message, edit);
  if (isConsumers) {
    const text = encodeEnvelope(afresh(envelope, token));
    if (text === undefined) return { skip: "too-large" };
    properties.set(retryProperty.envelope, text);
  } else properties.set(redriveProperty, `${token} ${replaysOf(dead) + 1}`);
  const body = edit?.bodyBase64 === undefined ? message.body : Buffer.from(edit.bodyBase64, "base64");
  if (propertyBytes(message, properties) > limits.propertyBytesMax || body.length === 0) return { skip: "too-large" };
  // What it waited for is long over; an expiry would only end it unsent.
  const { expireAtMs: _over, ...kept } = message;
  return {
    message: { ...kept, topic, properties, body, deliverAtMs: dueMs, acceptedAtMs: nowMs, attempt: 0 },
    isConsumers,
  };
};

/** Times it was brought back already. */
export const replaysOf = ({ envelope, message }: DeadMessage): number =>
  Math.max(envelope?.replays ?? 0, Number(markOf(message)?.[1] ?? 0));

/** The token that the last redrive left on it. */
export const lastTokenOf = ({ envelope, message }: DeadMessage): string | undefined =>
  envelope?.redrive ?? markOf(message)?.[0];

const markOf = (message: DelayedMessage | undefined): readonly string[] | undefined =>
  message?.properties.get(redriveProperty)?.split(" ");

const afresh = (envelope: RetryEnvelope, token: string): RetryEnvelope => {
  const { firstFailedAtMs: _first, previousDelayMs: _delay, parkedAtMs: _since, parkedFor: _key, ...kept } = envelope;
  return {
    ...kept,
    attempt: 0,
    crashes: 0,
    parkedMs: 0 as RetryEnvelope["parkedMs"],
    replays: envelope.replays + 1,
    redrive: token,
    redirects: 0,
  };
};

/** The user's own, without what only spoke to us. */
const propertiesOf = (message: DelayedMessage, edit: RedriveEdit | undefined): Map<string, string> => {
  if (edit?.properties !== undefined) return new Map(Object.entries(edit.properties));
  return new Map([...message.properties].filter(([name]) => !isReservedProperty(name)));
};

const propertyBytes = ({ tag, keys }: DelayedMessage, properties: ReadonlyMap<string, string>): number => {
  let bytes = Buffer.byteLength(tag ?? "") + Buffer.byteLength(keys.join(" "));
  for (const [name, value] of properties) {
    if (name !== redriveProperty) bytes += Buffer.byteLength(name) + Buffer.byteLength(value);
  }
  return bytes;
};
