import type { Death, StoredMessage } from "../delay/delay-store.port.ts";
import type { DelayedMessage } from "../message/message.ts";
import { retryProperty } from "../message/retry-properties.ts";
import type { RetryEnvelope } from "../retry/envelope.ts";
import { decodeEnvelope } from "../retry/envelope-codec.ts";

/**
 * A dead message as this room looks at it: what the store keeps, and, where a consumer gave it up, what its envelope
 * tells. A record that is damaged has no message any more; it is listed, and can only be discarded.
 */
export type DeadMessage = Death & {
  readonly reason: { readonly code: string; readonly detail: string };
  readonly message: DelayedMessage | undefined;
  /** Absent: it died on its way out or in, and no consumer has seen it. */
  readonly envelope: RetryEnvelope | undefined;
};

export const deadMessageOf = ({ id, endedAtMs, reason, message }: StoredMessage): DeadMessage => {
  const text = message?.properties.get(retryProperty.envelope);
  const decoded = text === undefined ? undefined : decodeEnvelope(text);
  return {
    id,
    diedAtMs: endedAtMs!,
    reason: reason ?? { code: "unknown", detail: "" },
    message,
    envelope: decoded?.ok === true ? decoded.envelope : undefined,
  };
};

/** Where it was meant to go: for a consumer's dead the topic that it came from, not the group's own retry topic. */
export const topicOf = ({ envelope, message }: DeadMessage): string | undefined =>
  envelope?.originTopic ?? message?.topic;

/** Equal for failures of one cause; only consumers make one. */
export const fingerprintOf = ({ envelope }: DeadMessage): string | undefined => envelope?.history.at(-1)?.fingerprint;
