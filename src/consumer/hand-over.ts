import type { IncomingMessage } from "../ingest/topic-source.port.ts";
import { ingestProperty } from "../message/ingest-properties.ts";
import { limits } from "../message/message.ts";
import { isReservedProperty } from "../message/reserved-properties.ts";
import { retryProperty } from "../message/retry-properties.ts";
import { encodeEnvelope, envelopeLimits } from "../retry/envelope-codec.ts";
import type { Disposition } from "./disposition.ts";
import type { HandOverMessage } from "./hand-off.port.ts";

/**
 * Writes the message that goes to the ingest topic: the user's own tag, keys, properties and body, and what the service
 * needs to know. Undefined when there is no room left for the envelope among the user's properties.
 */
export const handOverOf = (
  message: IncomingMessage,
  disposition: Exclude<Disposition, { kind: "done" }>,
  retryTopic: string,
): HandOverMessage | undefined => {
  const { tag, keys, body } = message;
  const properties = new Map<string, string>();
  let usedBytes = Buffer.byteLength(tag ?? "");
  for (const key of keys) usedBytes += Buffer.byteLength(key);
  for (const [name, value] of message.properties) {
    // Ours of the way before, and what brokers add on the way: nobody's words, and refused at the door.
    if (isReservedProperty(name)) continue;
    usedBytes += Buffer.byteLength(name) + Buffer.byteLength(value);
    properties.set(name, value);
  }
  if (properties.size > limits.propertiesMax - ownPropertiesMax) return undefined;
  const roomBytes = limits.propertyBytesMax - reservedBytes - usedBytes;
  const hop = { ...disposition.envelope, hop: disposition.envelope.hop + 1 };
  const envelope = encodeEnvelope(hop, Math.min(roomBytes, envelopeLimits.bytesMax));
  if (envelope === undefined) return undefined;
  properties.set(retryProperty.envelope, envelope);
  switch (disposition.kind) {
    case "wait":
      properties.set(ingestProperty.topic, retryTopic);
      properties.set(ingestProperty.deliverAt, String(disposition.atMs));
      break;
    case "park":
      properties.set(ingestProperty.topic, retryTopic);
      properties.set(retryProperty.park, disposition.key);
      break;
    case "dead":
      if (disposition.topic === undefined) {
        properties.set(ingestProperty.topic, retryTopic);
        properties.set(retryProperty.dead, disposition.code);
      } else {
        properties.set(ingestProperty.topic, disposition.topic);
        properties.set(ingestProperty.deliverAt, String(message.bornAtMs));
      }
  }
  return { ...(tag === undefined ? undefined : { tag }), keys, properties, body };
};

/** ESC_RETRY, beside which a delivered copy has only those that `limits` leaves out anyway; one to spare. */
const ownPropertiesMax = 2;
/** ESC_TOPIC with the longest name, ESC_RETRY's own name, and ESC_PARK with the longest key. */
const reservedBytes = 9 + 127 + 9 + 8 + envelopeLimits.keyMax;
