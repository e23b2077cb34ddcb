import { gunzipSync } from "node:zlib";
import type { IncomingMessage } from "../../ingest/topic-source.port.ts";
import { type EpochMs, epochMs } from "../../message/time.ts";
import { type ProtobufReader, readProtobuf } from "../../protocol/protobuf.ts";
import { type Receipt, readStatus, type Status } from "./protocol.ts";

/**
 * Reads what comes on a ReceiveMessage stream: a status, messages one by one, a delivery time that we do not use.
 *
 * The body's digest is not checked: the proxy computes it from what it read a moment ago, so it guards only the TCP
 * connection between it and us, and costs more than all the rest of reading a message.
 */
export type ReceivedPart =
  | { readonly kind: "status"; readonly status: Status }
  | { readonly kind: "message"; readonly message: IncomingMessage }
  | { readonly kind: "other" };

export const decodeReceived = (bytes: Buffer): ReceivedPart => {
  const reader = readProtobuf(bytes);
  while (reader.next()) {
    if (reader.field === 1) return { kind: "status", status: readStatus(reader.message()) };
    if (reader.field === 2) return { kind: "message", message: readMessage(reader.message()) };
  }
  return { kind: "other" };
};

const gzipEncoding = 2;
/** A body is at most 4 MiB when it is sent; a small one that unpacks to more than this is an attack. */
const unpackedBytesMax = 8 * 1024 * 1024;

const unpacked = (body: Buffer): Buffer => {
  try {
    return gunzipSync(body, { maxOutputLength: unpackedBytesMax });
  } catch {
    return body; // not what it claims to be; whoever looks at it sees what was sent
  }
};

export const readMessage = (reader: ProtobufReader): IncomingMessage => {
  let topic = "";
  let system: SystemProperties = readSystem(readProtobuf(Buffer.alloc(0)));
  let body: Buffer = Buffer.alloc(0);
  const properties = new Map<string, string>();
  while (reader.next()) {
    if (reader.field === 1) topic = readResourceName(reader.message());
    else if (reader.field === 2) readProperty(reader.message(), properties);
    else if (reader.field === 3) system = readSystem(reader.message());
    else if (reader.field === 4) body = reader.bytes();
  }
  const { messageId, tag, messageGroup } = system;
  const receipt: Receipt = { messageId, handle: system.receiptHandle };
  return {
    brokerMessageId: messageId,
    bornHost: system.bornHost,
    bornAtMs: system.bornAtMs,
    topic,
    ...(tag === undefined ? {} : { tag }),
    keys: system.keys,
    properties,
    ...(messageGroup === undefined ? {} : { messageGroup }),
    queueId: system.queueId,
    body: system.encoding === gzipEncoding ? unpacked(body) : body,
    deliveryAttempt: system.deliveryAttempt,
    receipt,
  };
};

const readResourceName = (reader: ProtobufReader): string => {
  let name = "";
  while (reader.next()) if (reader.field === 2) name = reader.text();
  return name;
};

const readProperty = (reader: ProtobufReader, properties: Map<string, string>): void => {
  let name = "";
  let value = "";
  while (reader.next()) {
    if (reader.field === 1) name = reader.text();
    else if (reader.field === 2) value = reader.text();
  }
  properties.set(name, value);
};

type SystemProperties = {
  tag: string | undefined;
  keys: string[];
  messageId: string;
  encoding: number;
  bornAtMs: EpochMs;
  bornHost: string;
  receiptHandle: string;
  queueId: number;
  deliveryAttempt: number;
  messageGroup: string | undefined;
};

const readSystem = (reader: ProtobufReader): SystemProperties => {
  const system: SystemProperties = {
    tag: undefined,
    keys: [],
    messageId: "",
    encoding: 0,
    bornAtMs: epochMs(0),
    bornHost: "",
    receiptHandle: "",
    queueId: 0,
    deliveryAttempt: 1,
    messageGroup: undefined,
  };
  while (reader.next()) {
    switch (reader.field) {
      case 1:
        system.tag = reader.text();
        break;
      case 2:
        system.keys.push(reader.text());
        break;
      case 3:
        system.messageId = reader.text();
        break;
      case 5:
        system.encoding = reader.number();
        break;
      case 7:
        system.bornAtMs = readInstant(reader.message());
        break;
      case 8:
        system.bornHost = reader.text();
        break;
      case 12:
        system.receiptHandle = reader.text();
        break;
      case 13:
        system.queueId = reader.number();
        break;
      case 16:
        system.deliveryAttempt = reader.number();
        break;
      case 17:
        system.messageGroup = reader.text();
        break;
    }
  }
  return system;
};

const readInstant = (reader: ProtobufReader): EpochMs => {
  let seconds = 0;
  let nanos = 0;
  while (reader.next()) {
    if (reader.field === 1) seconds = reader.number();
    else if (reader.field === 2) nanos = reader.number();
  }
  return epochMs(seconds * 1000 + Math.floor(nanos / 1_000_000));
};
