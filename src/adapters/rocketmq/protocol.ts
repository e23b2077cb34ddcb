import { code, messageTypeNames } from "../../protocol/messaging-service.ts";
import {
  createProtobufWriter,
  type ProtobufReader,
  type ProtobufWriter,
  readProtobuf,
} from "../../protocol/protobuf.ts";

/**
 * The part of RocketMQ's gRPC protocol (apache.rocketmq.v2) that we speak as a client: the small messages. Field numbers are those of definition.proto and service.proto in rocketmq-client-nodejs; the tests compare
 * with the classes generated from them. Sending and receiving, where speed matters, have files of their own.
 */
const simpleConsumer = 3; // ClientType
const tagFilter = 1; // FilterType

export type Status = { readonly code: number; readonly text: string };

export const readStatus = (reader: ProtobufReader): Status => {
  let statusCode = 0;
  let text = "";
  while (reader.next()) {
    if (reader.field === 1) statusCode = reader.number();
    else if (reader.field === 2) text = reader.text();
  }
  return { code: statusCode, text };
};

const writeResource = (writer: ProtobufWriter, field: number, name: string): void => {
  const resource = writer.begin(field);
  writer.text(2, name);
  writer.end(resource);
};

const writeDuration = (writer: ProtobufWriter, field: number, durationMs: number): void => {
  const duration = writer.begin(field);
  writer.number(1, Math.floor(durationMs / 1000));
  writer.number(2, (durationMs % 1000) * 1_000_000);
  writer.end(duration);
};

const writeFilter = (writer: ProtobufWriter, field: number, tag = "*"): void => {
  const filter = writer.begin(field);
  writer.number(1, tagFilter);
  writer.text(2, tag);
  writer.end(filter);
};

/** These messages are small and rare, so each gets a writer of its own. */
const message = (fill: (writer: ProtobufWriter) => void): Buffer => {
  const writer = createProtobufWriter(512);
  fill(writer);
  return writer.take();
};

export const encodeQueryRoute = (topic: string): Buffer =>
  message((writer) => {
    writeResource(writer, 1, topic);
    // Whatever the client claims to have connected to; a local-mode proxy only checks that something is there.
    const endpoints = writer.begin(2);
    writer.number(1, 1);
    const address = writer.begin(2);
    writer.text(1, "127.0.0.1");
    writer.number(2, 8081);
    writer.end(address);
    writer.end(endpoints);
  });

export type Route = { readonly status: Status; readonly types: ReadonlySet<string> };

/** Only what we use of a route: whether there is one, and which message types its queues take. */
export const decodeRoute = (reply: Buffer): Route => {
  let status: Status = { code: 0, text: "" };
  const types = new Set<string>();
  const take = (type: number) => {
    const name = messageTypeNames.get(type);
    if (name !== undefined) types.add(name);
  };
  const reader = readProtobuf(reply);
  while (reader.next()) {
    if (reader.field === 1) status = readStatus(reader.message());
    else if (reader.field === 2) {
      const queue = reader.message();
      while (queue.next()) if (queue.field === 5) queue.numbers(take);
    }
  }
  return { status, types };
};

export type Subscription = {
  readonly group: string;
  readonly topic: string;
  /** Only messages with this tag, or one of several with `||` between them. Absent: all. */
  readonly tag?: string;
};

/** The settings of a simple consumer of these topics, as the first message on the telemetry stream. */
export const encodeSettings = (subscriptions: readonly [Subscription, ...Subscription[]], pollMs: number): Buffer =>
  message((writer) => {
    const settings = writer.begin(2);
    writer.number(1, simpleConsumer);
    const subscription = writer.begin(6);
    writeResource(writer, 1, subscriptions[0].group);
    for (const { topic, tag } of subscriptions) {
      const entry = writer.begin(2);
      writeResource(writer, 1, topic);
      writeFilter(writer, 2, tag);
      writer.end(entry);
    }
    writeDuration(writer, 5, pollMs);
    writer.end(subscription);
    writer.end(settings);
  });

/** What the proxy says on the telemetry stream: its status, and whether these are the settings we wait for. */
export const decodeTelemetry = (message: Buffer): { readonly status: Status; readonly settings: boolean } => {
  let status: Status = { code: code.ok, text: "" };
  let settings = false;
  const reader = readProtobuf(message);
  while (reader.next()) {
    if (reader.field === 1) status = readStatus(reader.message());
    else if (reader.field === 2) settings = true;
  }
  return { status, settings };
};

export const encodeHeartbeat = (group: string): Buffer =>
  message((writer) => {
    writeResource(writer, 1, group);
    writer.number(2, simpleConsumer);
  });

export const encodeTermination = (group: string): Buffer =>
  message((writer) => {
    writeResource(writer, 1, group);
  });

/** Replies that hold nothing else of interest: Heartbeat, NotifyClientTermination. */
export const decodeStatusOnly = (reply: Buffer): Status => {
  const reader = readProtobuf(reply);
  while (reader.next()) if (reader.field === 1) return readStatus(reader.message());
  return { code: 0, text: "" };
};

export type ReceiveOptions = {
  readonly batchMax: number;
  readonly invisibleMs: number;
  readonly pollMs: number;
};

/** No broker is named, so that the proxy takes them in turn. */
export const encodeReceive = ({ group, topic, tag }: Subscription, options: ReceiveOptions): Buffer =>
  message((writer) => {
    writeResource(writer, 1, group);
    const queue = writer.begin(2);
    writeResource(writer, 1, topic);
    writer.end(queue);
    writeFilter(writer, 3, tag);
    writer.number(4, options.batchMax);
    writeDuration(writer, 5, options.invisibleMs);
    writeDuration(writer, 7, options.pollMs);
  });

export type Receipt = { readonly messageId: string; readonly handle: string };

export const encodeAck = ({ group, topic }: Subscription, receipts: readonly Receipt[]): Buffer =>
  message((writer) => {
    writeResource(writer, 1, group);
    writeResource(writer, 2, topic);
    for (const { messageId, handle } of receipts) {
      const entry = writer.begin(3);
      writer.text(1, messageId);
      writer.text(2, handle);
      writer.end(entry);
    }
  });

export type AckReply = {
  readonly status: Status;
  /** Entries that were not acknowledged. */
  readonly failed: readonly { readonly messageId: string; readonly status: Status }[];
};

export const decodeAck = (reply: Buffer): AckReply => {
  let status: Status = { code: 0, text: "" };
  const failed: { messageId: string; status: Status }[] = [];
  const reader = readProtobuf(reply);
  while (reader.next()) {
    if (reader.field === 1) status = readStatus(reader.message());
    else if (reader.field === 2) {
      const entry = reader.message();
      let messageId = "";
      let entryStatus: Status = { code: 0, text: "" };
      while (entry.next()) {
        if (entry.field === 1) messageId = entry.text();
        else if (entry.field === 3) entryStatus = readStatus(entry.message());
      }
      if (entryStatus.code !== code.ok) failed.push({ messageId, status: entryStatus });
    }
  }
  return { status, failed };
};

/** The receipt stands for nothing afterwards; the reply has the next one. */
export const encodeChangeInvisible = (
  { group, topic }: Subscription,
  { messageId, handle }: Receipt,
  invisibleMs: number,
): Buffer =>
  message((writer) => {
    writeResource(writer, 1, group);
    writeResource(writer, 2, topic);
    writer.text(3, handle);
    writeDuration(writer, 4, invisibleMs);
    writer.text(5, messageId);
  });

export const decodeChangeInvisible = (reply: Buffer): { readonly status: Status; readonly handle: string } => {
  let status: Status = { code: 0, text: "" };
  let handle = "";
  const reader = readProtobuf(reply);
  while (reader.next()) {
    if (reader.field === 1) status = readStatus(reader.message());
    else if (reader.field === 2) handle = reader.text();
  }
  return { status, handle };
};

export type SendReply = { readonly status: Status; readonly entries: readonly Status[] };

export const decodeSend = (reply: Buffer): SendReply => {
  let status: Status = { code: 0, text: "" };
  const entries: Status[] = [];
  const reader = readProtobuf(reply);
  while (reader.next()) {
    if (reader.field === 1) status = readStatus(reader.message());
    else if (reader.field === 2) {
      const entry = reader.message();
      let entryStatus: Status = { code: 0, text: "" };
      while (entry.next()) if (entry.field === 1) entryStatus = readStatus(entry.message());
      entries.push(entryStatus);
    }
  }
  return { status, entries };
};
