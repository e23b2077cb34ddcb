import { hash } from "node:crypto";
import { createProtobufWriter, type ProtobufWriter } from "../../protocol/protobuf.ts";
import type { StoredMessage } from "../broker-message.ts";
import type { Delivery } from "../delivery/deliveries.port.ts";

/**
 * Writes messages for consumers: what the producer sent, byte for byte, and after it what the broker knows. In
 * protobuf the last value of a field wins; numbers are written even when they are zero, because otherwise a producer's
 * own word for them would stay.
 *
 * The digest is MD5 in upper case, as from the real proxy. CRC32 would be cheaper, but each client writes that in
 * its own way (Node as a decimal number, Java and Go in hexadecimal), and compares text.
 */
const digestMd5 = 2;
const typeNumbers = { NORMAL: 1, FIFO: 2, DELAY: 3, TRANSACTION: 4 } as const;

// One writer for all: what is written is taken before anything else can begin.
const writer = createProtobufWriter(65_536);

/** ReceiveMessageResponse with a message. */
export const deliveredMessage = (delivery: Delivery, invisibleMs: number, storeHost: string): Buffer => {
  writer.reset();
  const { message, handle, attempt } = delivery;
  writeMessage(writer, 2, message, storeHost, () => {
    writer.text(12, handle);
    writeTime(writer, 15, invisibleMs);
    writer.explicit(16, attempt);
  });
  return writer.take();
};

/** TelemetryCommand that asks a producer how a transaction ended. */
export const recoverTransaction = (message: StoredMessage, transactionId: string, storeHost: string): Buffer => {
  writer.reset();
  const command = writer.begin(5);
  writeMessage(writer, 1, message, storeHost, () => {});
  writer.text(2, transactionId);
  writer.end(command);
  return writer.take();
};

/** ReceiveMessageResponse with the time at which the messages before it were handed out. */
export const deliveryTime = (nowMs: number): Buffer => {
  writer.reset();
  writeTime(writer, 3, nowMs);
  return writer.take();
};

const writeMessage = (
  to: ProtobufWriter,
  field: number,
  message: StoredMessage,
  storeHost: string,
  writeReceipt: () => void,
): void => {
  const start = to.begin(field);
  const topic = to.begin(1);
  to.text(2, message.topic);
  to.end(topic);
  to.raw(message.userProperties);
  const system = to.begin(3);
  to.raw(message.systemProperties);
  const digest = to.begin(4);
  to.number(1, digestMd5);
  to.text(2, hash("md5", message.body, "hex").toUpperCase());
  to.end(digest);
  to.number(6, typeNumbers[message.type]);
  writeTime(to, 9, message.storedAtMs);
  to.text(10, storeHost);
  to.explicit(13, message.queueId);
  to.explicit(14, message.queueOffset);
  writeReceipt();
  to.end(system);
  to.bytes(4, message.body);
  to.end(start);
};

const writeTime = (to: ProtobufWriter, field: number, ms: number): void => {
  const time = to.begin(field);
  to.explicit(1, Math.floor(ms / 1000));
  to.explicit(2, (ms % 1000) * 1_000_000);
  to.end(time);
};
