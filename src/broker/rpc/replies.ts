import { code } from "../../protocol/messaging-service.ts";
import { createProtobufWriter, type ProtobufWriter } from "../../protocol/protobuf.ts";
import type { SendReceipt, TopicInfo, TopicType } from "../broker.port.ts";
import { brokerName } from "../names.ts";
import type { AckEntry, Address } from "./requests.ts";

/** Writes the replies of the service. Every one of them begins with a status in field 1, and a refusal is only that. */

// One writer for all: what is written is taken before anything else can begin.
const writer = createProtobufWriter();

const reply = (statusCode: number, text: string, fill: (writer: ProtobufWriter) => void = () => {}): Buffer => {
  writer.reset();
  writeStatus(writer, 1, statusCode, text);
  fill(writer);
  return writer.take();
};

const writeStatus = (to: ProtobufWriter, field: number, statusCode: number, text: string): void => {
  const status = to.begin(field);
  to.number(1, statusCode);
  to.text(2, text);
  to.end(status);
};

export const refusal = (statusCode: number, text: string): Buffer => reply(statusCode, text);
export const okReply = reply(code.ok, "OK");

const readWrite = 4;
const ipV4 = 1;
const ipV6 = 2;
const domainName = 3;
const typeNumbers: Readonly<Record<TopicType, readonly number[]>> = {
  NORMAL: [1],
  FIFO: [2],
  DELAY: [3],
  TRANSACTION: [4],
  MIXED: [1, 2, 3, 4],
};

/** Ids count from 0, for the Node client sends to queue 0 only; the broker's id is 0, or Java, Go and Python skip it. */
const writeQueue = (to: ProtobufWriter, field: number, { name, type }: TopicInfo, id: number, at: Address): void => {
  const queue = to.begin(field);
  const topic = to.begin(1);
  to.text(2, name);
  to.end(topic);
  to.number(2, id);
  to.number(3, readWrite);
  const broker = to.begin(4);
  to.text(1, brokerName);
  const endpoints = to.begin(3);
  to.number(1, schemeOf(at.host));
  const address = to.begin(2);
  to.text(1, at.host);
  to.number(2, at.port);
  to.end(address);
  to.end(endpoints);
  to.end(broker);
  for (const accepted of typeNumbers[type]) to.number(5, accepted);
  to.end(queue);
};

const schemeOf = (host: string): number => {
  if (host.includes(":")) return ipV6;
  return /^\d{1,3}(\.\d{1,3}){3}$/.test(host) ? ipV4 : domainName;
};

export const routeReply = (topic: TopicInfo, at: Address): Buffer =>
  reply(code.ok, "OK", (to) => {
    for (let id = 0; id < topic.queues; id++) writeQueue(to, 2, topic, id, at);
  });

/** One queue stands for all: a receive takes from the whole topic, and a client polls once for each assignment. */
export const assignmentReply = (topic: TopicInfo, at: Address): Buffer =>
  reply(code.ok, "OK", (to) => {
    const assignment = to.begin(2);
    writeQueue(to, 1, topic, 0, at);
    to.end(assignment);
  });

/** One entry for each message, which the Java client insists on; the real proxy answers a batch with one. */
export const sendReply = (receipts: readonly SendReceipt[]): Buffer =>
  reply(code.ok, "OK", (to) => {
    for (const { messageId, transactionId, queueOffset, recallHandle } of receipts) {
      const entry = to.begin(2);
      writeStatus(to, 1, code.ok, "OK");
      to.text(2, messageId);
      if (transactionId !== undefined) to.text(3, transactionId);
      to.number(4, queueOffset);
      if (recallHandle !== undefined) to.text(5, recallHandle);
      to.end(entry);
    }
  });

const handleInvalid = "the receipt handle is not valid (any more)";

export const ackReply = (entries: readonly AckEntry[], results: readonly ("ok" | "invalid")[]): Buffer => {
  const invalid = results.filter((result) => result === "invalid").length;
  const write = (to: ProtobufWriter) => {
    for (const [i, { messageId, handle }] of entries.entries()) {
      const entry = to.begin(2);
      to.text(1, messageId);
      to.text(2, handle);
      if (results[i] === "ok") writeStatus(to, 3, code.ok, "OK");
      else writeStatus(to, 3, code.invalidReceiptHandle, handleInvalid);
      to.end(entry);
    }
  };
  if (invalid === 0) return reply(code.ok, "OK", write);
  if (invalid === entries.length) return reply(code.invalidReceiptHandle, handleInvalid, write);
  return reply(code.multipleResults, `${invalid} of ${entries.length} receipt handles are not valid`, write);
};

/** ChangeInvisibleDurationResponse (the new handle) and RecallMessageResponse (the message id). */
export const textReply = (text: string): Buffer => reply(code.ok, "OK", (to) => to.text(2, text));
