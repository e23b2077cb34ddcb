import type { DelayedMessage } from "../message/message.ts";

/**
 * Where messages go when they are due. A sink takes batches for one topic and answers for each message. It never
 * throws: everything that can go wrong is a {@link SendFailure}, classified in the adapter's one table by code.
 */
export interface Sink {
  /**
   * Sends messages of one topic. A batch of several never holds a message with a message group (those come alone).
   * The promise settles at the latest after `sendTimeoutMs` of the adapter.
   */
  send(topic: string, messages: readonly DelayedMessage[]): Promise<readonly SendResult[]>;

  /** Stops cleanly; later sends fail as transient. */
  close(): Promise<void>;
}

/** One call carries at most this many: 64 → 128 gave 56 k → 63 k messages/s on a real proxy, then it flattens. */
export const sendMessagesMax = 128;
/** The broker takes at most 4 MiB of encoded batch; this leaves room for properties and framing. */
export const sendBytesMax = 3_500_000;

export type SendResult =
  | { readonly ok: true; readonly brokerMessageId: string }
  | { readonly ok: false; readonly failure: SendFailure };

/**
 * - `transient`: not stored, will work later (broker down, route missing, timeouts before sending).
 * - `throttled`: not stored, the broker asks for patience.
 * - `permanent`: this message can never be stored as it is.
 * - `unknown`: it may or may not have been stored (duplicate window D3).
 */
export type FailureClass = "transient" | "throttled" | "permanent" | "unknown";

export type SendFailure = {
  readonly class: FailureClass;
  /** Stable, for example `broker_unavailable`, `topic_route_missing`, `body_too_large`. */
  readonly code: string;
  /** For operators; holds no body and no credential. */
  readonly detail: string;
};
