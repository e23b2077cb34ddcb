import { createProtobufWriter } from "../protocol/protobuf.ts";
import type { BrokerMessage } from "./broker-message.ts";

/** SystemProperties.dead_letter_queue in definition.proto. */
const deadLetterQueueField = 20;

/** The copy for the dead-letter topic: the same message, which says where it came from. */
export const withDeadLetterOrigin = (message: BrokerMessage, deadLetterTopic: string): BrokerMessage => {
  const writer = createProtobufWriter(256);
  const origin = writer.begin(deadLetterQueueField);
  writer.text(1, message.topic);
  writer.text(2, message.messageId);
  writer.end(origin);
  return {
    ...message,
    topic: deadLetterTopic,
    // Dead letters are looked at in any order.
    messageGroup: undefined,
    systemProperties: Buffer.concat([message.systemProperties, writer.take()]),
  };
};
