/**
 * A message as the embedded broker holds it. What it must know to deliver stands in fields of its own; the rest stays
 * in the bytes that the producer sent, so that nothing is parsed and built anew on the way through.
 */
export type MessageType = "NORMAL" | "FIFO" | "DELAY" | "TRANSACTION";

export type BrokerMessage = {
  readonly topic: string;
  /** As the producer made it; unique by its word only. */
  readonly messageId: string;
  readonly type: MessageType;
  readonly tag: string | undefined;
  readonly messageGroup: string | undefined;
  /** When a DELAY message was wanted; consumers see it. */
  readonly deliverAtMs: number | undefined;
  /** The `user_properties` fields of the protocol's Message, one after the other, as they came. */
  readonly userProperties: Buffer;
  /** The content of its SystemProperties, as it came; what the broker adds is written after it and wins. */
  readonly systemProperties: Buffer;
  readonly body: Buffer;
};

/** Where it stands: offsets count from 0 in each queue of each topic, without gaps. */
export type StoredMessage = BrokerMessage & {
  readonly queueId: number;
  readonly queueOffset: number;
  readonly storedAtMs: number;
};
