import type { EpochMs } from "../message/time.ts";

/** A RocketMQ topic that messages come in by. */
export interface TopicSource {
  /** Waits for messages, a few seconds at most; empty when none came. Throws when the broker does not answer. */
  receive(signal: AbortSignal): Promise<readonly IncomingMessage[]>;

  /** Acknowledges all in one call. Failures are logged by the adapter: the messages come again and are deduplicated. */
  ack(messages: readonly IncomingMessage[]): Promise<void>;

  close(): Promise<void>;
}

export type IncomingMessage = {
  /** The id given by the sender's client; not unique by itself (facts: two containers can produce equal ids). */
  readonly brokerMessageId: string;
  readonly bornHost: string;
  readonly bornAtMs: EpochMs;
  readonly topic: string;
  readonly tag?: string;
  readonly keys: readonly string[];
  readonly properties: ReadonlyMap<string, string>;
  readonly messageGroup?: string;
  /** Which queue of its topic it lay in. */
  readonly queueId?: number;
  readonly body: Buffer;
  /** 1 at the first delivery. */
  readonly deliveryAttempt: number;
  /** What `ack` needs; opaque. */
  readonly receipt: unknown;
};
