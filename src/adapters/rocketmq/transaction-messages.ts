import { code } from "../../protocol/messaging-service.ts";
import { createProtobufWriter, readProtobuf } from "../../protocol/protobuf.ts";
import type { HalfCheck, HalfMessage, OpenHalf, Resolution } from "../../tx/half/half-broker.port.ts";
import { readStatus, type Status } from "./protocol.ts";
import { readMessage } from "./received-message.ts";
import { writeProperty } from "./send-request.ts";

/**
 * The bytes of transactional messages: a producer's settings, one half message, its end, and the broker's question.
 * Never written: the recovery duration, with which a broker refuses every commit that comes later and says OK.
 */
const producer = 1; // ClientType
const transaction = 4; // MessageType
const identityEncoding = 1;
const resolutions = { commit: 1, rollback: 2 } as const;
const sources = { client: 1, check: 2 } as const;

const message = (fill: (writer: ReturnType<typeof createProtobufWriter>) => void, bytes = 256): Buffer => {
  const writer = createProtobufWriter(bytes);
  fill(writer);
  return writer.take();
};

/** One topic only: the proxy takes a producer with two off its list of the first alone. */
export const encodeProducerSettings = (topic: string): Buffer =>
  message((writer) => {
    const settings = writer.begin(2);
    writer.number(1, producer);
    const publishing = writer.begin(5);
    const resource = writer.begin(1);
    writer.text(2, topic);
    writer.end(resource);
    writer.end(publishing);
    writer.end(settings);
  });

export const encodeProducerHeartbeat = (): Buffer => message((writer) => writer.number(2, producer));

/** A producer says goodbye without naming a group. */
export const producerGoodbye = Buffer.alloc(0);

export type HalfOrigin = { readonly messageId: string; readonly bornAtMs: number; readonly bornHost: string };

export const encodeHalf = (half: HalfMessage, { messageId, bornAtMs, bornHost }: HalfOrigin): Buffer =>
  message((writer) => {
    const start = writer.begin(1);
    const resource = writer.begin(1);
    writer.text(2, half.topic);
    writer.end(resource);
    for (const [name, value] of half.properties) writeProperty(writer, name, value);
    const system = writer.begin(3);
    if (half.tag !== undefined) writer.text(1, half.tag);
    for (const key of half.keys) writer.text(2, key);
    writer.text(3, messageId);
    writer.number(5, identityEncoding);
    writer.number(6, transaction);
    const born = writer.begin(7);
    writer.number(1, Math.floor(bornAtMs / 1000));
    writer.number(2, (bornAtMs % 1000) * 1_000_000);
    writer.end(born);
    writer.text(8, bornHost);
    writer.end(system);
    writer.bytes(4, half.body);
    writer.end(start);
  }, half.body.length + 1_024);

export type HalfReceipt = { readonly status: Status; readonly messageId: string; readonly transactionId: string };

/** The status that counts is the first that is not OK. */
export const decodeHalfReceipt = (reply: Buffer): HalfReceipt => {
  let status: Status = { code: 0, text: "" };
  let entryStatus: Status = { code: code.ok, text: "" };
  let messageId = "";
  let transactionId = "";
  const reader = readProtobuf(reply);
  while (reader.next()) {
    if (reader.field === 1) status = readStatus(reader.message());
    else if (reader.field === 2) {
      const entry = reader.message();
      while (entry.next()) {
        if (entry.field === 1) entryStatus = readStatus(entry.message());
        else if (entry.field === 2) messageId = entry.text();
        else if (entry.field === 3) transactionId = entry.text();
      }
    }
  }
  return { status: status.code === code.ok ? entryStatus : status, messageId, transactionId };
};

export const encodeEnd = (half: OpenHalf, resolution: Resolution, source: "client" | "check"): Buffer =>
  message((writer) => {
    const resource = writer.begin(1);
    writer.text(2, half.topic);
    writer.end(resource);
    writer.text(2, half.messageId);
    writer.text(3, half.transactionId);
    writer.number(4, resolutions[resolution]);
    writer.number(5, sources[source]);
  });

export type AskedCheck = { readonly check: HalfCheck; readonly transactionId: string };

/** Undefined when the proxy commands something else. */
export const decodeCheck = (command: Buffer): AskedCheck | undefined => {
  const reader = readProtobuf(command);
  while (reader.next()) {
    if (reader.field !== 5) continue;
    const asked = reader.message();
    let check: HalfCheck | undefined;
    let transactionId = "";
    while (asked.next()) {
      if (asked.field === 1) {
        const { topic, brokerMessageId, properties } = readMessage(asked.message());
        check = { topic, messageId: brokerMessageId, properties };
      } else if (asked.field === 2) transactionId = asked.text();
    }
    return check === undefined ? undefined : { check, transactionId };
  }
  return undefined;
};
