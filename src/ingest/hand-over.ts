import { isDependencyKey } from "../dependencies/parking.port.ts";
import { EscapementError } from "../message/errors.ts";
import { groupTail, type MessageId, nameBasedId } from "../message/id.ts";
import { limits } from "../message/message.ts";
import { retryProperty } from "../message/retry-properties.ts";
import type { EpochMs } from "../message/time.ts";
import type { RetryEnvelope } from "../retry/envelope.ts";
import { decodeEnvelope, encodeEnvelope, envelopeLimits } from "../retry/envelope-codec.ts";
import type { Admitted } from "./admit.ts";
import type { IncomingMessage } from "./topic-source.port.ts";

/**
 * What a consumer hands over: a message with an envelope, and what shall become of it. Pure; anybody who may write to
 * the ingest topic can send such a message, so nothing in it is believed before it was looked at.
 *
 * Its id is made of the consumer's group, the message's origin and the number of the hand-over. A consumer that died
 * between hand-over and acknowledgement hands over the same hop again, and that is the same message.
 */
export type HandOver = { readonly envelope: RetryEnvelope } & (
  | { readonly kind: "retry" }
  | { readonly kind: "park"; readonly key: string }
  | { readonly kind: "dead"; readonly code: string; readonly detail: string }
);

/** Undefined for a message that nobody failed with. */
export const readHandOver = ({ properties }: IncomingMessage, nowMs: EpochMs): HandOver | undefined => {
  const text = properties.get(retryProperty.envelope);
  const park = properties.get(retryProperty.park);
  const dead = properties.get(retryProperty.dead);
  if (text === undefined) {
    if (park === undefined && dead === undefined) return undefined;
    throw refused(`${park === undefined ? "ESC_DEAD" : "ESC_PARK"} is only for messages with ESC_RETRY`);
  }
  const decoded = decodeEnvelope(text);
  if (!decoded.ok) throw refused(decoded.reason);
  const { envelope } = decoded;
  if (park !== undefined && dead !== undefined) throw refused("it cannot be parked (ESC_PARK) and dead (ESC_DEAD)");
  if (park !== undefined) return { kind: "park", key: keyOf(park), envelope: parkedIn(envelope, park, nowMs) };
  if (dead === undefined) return { kind: "retry", envelope };
  if (!/^[a-z0-9_.:-]{1,64}$/i.test(dead))
    throw refused("ESC_DEAD must be a code of 1 to 64 letters, digits and _ . : -");
  return { kind: "dead", code: dead, detail: whyDead(envelope), envelope };
};

/** The admitted message under its own id, with its envelope put back among its properties. */
export const withEnvelope = (admitted: Admitted, { envelope }: HandOver): Admitted => {
  const { message } = admitted;
  if (message.properties.size >= limits.propertiesMax) {
    throw new EscapementError(
      "too_many_properties",
      `${message.properties.size} properties and the envelope: ${limits.propertiesMax} are possible in all.`,
    );
  }
  const room = limits.propertyBytesMax - bytesOf(message) - Buffer.byteLength(retryProperty.envelope);
  const text = encodeEnvelope(envelope, Math.min(room, envelopeLimits.bytesMax));
  if (text === undefined) {
    throw new EscapementError("properties_too_large", "The properties leave no room for the retry envelope.");
  }
  const properties = new Map(message.properties).set(retryProperty.envelope, text);
  // The group's retry topic may be made after this: what was received before must not be refused here.
  return { message: { ...message, id: idOf(envelope), properties }, onConflict: "keep", waitForTopic: true };
};

/** What failed together was sent at about the same time: it shares a shard, and so a store call. */
const idOf = ({ group, originId, originBornAtMs, hop }: RetryEnvelope): MessageId =>
  nameBasedId(
    ["retry", group, originId, String(hop)],
    groupTail("retry", `${group}\0${Math.floor(originBornAtMs / bornTogetherMs)}`),
  );
const bornTogetherMs = 250;

const parkedIn = (envelope: RetryEnvelope, key: string, nowMs: EpochMs): RetryEnvelope => ({
  ...envelope,
  parkedFor: key,
  // The stay began when it was handed over, which may be long ago if we were down; but not in the future.
  parkedAtMs: envelope.parkedAtMs !== undefined && envelope.parkedAtMs <= nowMs ? envelope.parkedAtMs : nowMs,
});

const keyOf = (key: string): string => {
  if (isDependencyKey(key)) return key;
  throw refused("ESC_PARK must be a key of 1 to 128 characters without control characters");
};

const whyDead = ({ attempt, history }: RetryEnvelope): string => {
  const last = history.at(-1);
  return last === undefined ? `after ${attempt} attempts` : `${last.code}: ${last.text}`;
};

const bytesOf = ({ properties, tag, keys }: Admitted["message"]): number => {
  let bytes = Buffer.byteLength(tag ?? "") + Buffer.byteLength(keys.join(" "));
  for (const [name, value] of properties) bytes += Buffer.byteLength(name) + Buffer.byteLength(value);
  return bytes;
};

const refused = (detail: string): EscapementError => new EscapementError("invalid_envelope", detail);
