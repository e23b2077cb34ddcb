import { code } from "../../protocol/messaging-service.ts";
import { type ProtobufReader, readProtobuf } from "../../protocol/protobuf.ts";
import { BrokerError } from "../broker-error.ts";
import type { TagFilter } from "../delivery/deliveries.port.ts";

/**
 * Reads the small requests of the service; sending has a file of its own (send-request.ts). Field numbers are those of
 * service.proto and definition.proto. What cannot be read throws a RangeError, what may not be asked a BrokerError.
 */

/** Protobuf writes negative numbers as if they were these. */
const negativeFrom = 2 ** 63;

export const readResourceName = (reader: ProtobufReader): string => {
  let name = "";
  while (reader.next()) if (reader.field === 2) name = reader.text();
  return name;
};

/** 0 for what was before 1970. */
export const readInstantMs = (reader: ProtobufReader): number => Math.max(readDurationMs(reader), 0);

/** -1 for anything negative. */
export const readDurationMs = (reader: ProtobufReader): number => {
  let seconds = 0;
  let nanos = 0;
  while (reader.next()) {
    if (reader.field === 1) seconds = reader.number();
    else if (reader.field === 2) nanos = reader.number();
  }
  return seconds >= negativeFrom || nanos >= negativeFrom ? -1 : seconds * 1000 + Math.floor(nanos / 1_000_000);
};

export type Address = { readonly host: string; readonly port: number };

const readFirstAddress = (endpoints: ProtobufReader): Address | undefined => {
  while (endpoints.next()) {
    if (endpoints.field !== 2) continue;
    const address = endpoints.message();
    let host = "";
    let port = 0;
    while (address.next()) {
      if (address.field === 1) host = address.text();
      else if (address.field === 2) port = address.number();
    }
    return { host, port };
  }
  return undefined;
};

/** QueryRouteRequest; QueryAssignmentRequest has the group before the endpoints. */
export const readRouteRequest = (request: Buffer, endpointsField: 2 | 3) => {
  let topic = "";
  let address: Address | undefined;
  const reader = readProtobuf(request);
  while (reader.next()) {
    if (reader.field === 1) topic = readResourceName(reader.message());
    else if (reader.field === endpointsField) address = readFirstAddress(reader.message());
  }
  return { topic, address };
};

/** HeartbeatRequest and NotifyClientTerminationRequest: what matters of them is who called. */
export const checkReadable = (request: Buffer): void => {
  const reader = readProtobuf(request);
  while (reader.next()) if (reader.field === 1) readResourceName(reader.message());
};

export type ReceiveRequestFields = {
  readonly group: string;
  readonly topic: string;
  readonly filter: TagFilter;
  readonly batchSize: number;
  readonly invisibleMs: number | undefined;
  readonly autoRenew: boolean;
  readonly pollMs: number | undefined;
};

export const readReceiveRequest = (request: Buffer): ReceiveRequestFields => {
  let group = "";
  let topic = "";
  let filter: TagFilter = everything;
  let batchSize = 0;
  let invisibleMs: number | undefined;
  let autoRenew = false;
  let pollMs: number | undefined;
  const reader = readProtobuf(request);
  while (reader.next()) {
    switch (reader.field) {
      case 1:
        group = readResourceName(reader.message());
        break;
      case 2: {
        const queue = reader.message();
        while (queue.next()) if (queue.field === 1) topic = readResourceName(queue.message());
        break;
      }
      case 3:
        filter = readFilter(reader.message());
        break;
      case 4:
        batchSize = reader.number();
        break;
      case 5:
        invisibleMs = readDurationMs(reader.message());
        break;
      case 6:
        autoRenew = reader.number() !== 0;
        break;
      case 7:
        pollMs = readDurationMs(reader.message());
        break;
    }
  }
  return { group, topic, filter, batchSize, invisibleMs, autoRenew, pollMs };
};

const everything: TagFilter = { tags: new Set() };
const sqlFilter = 2;
/** Of one expression; each is compared with every message. */
const tagsMax = 256;

const readFilter = (reader: ProtobufReader): TagFilter => {
  let type = 0;
  let expression = "";
  while (reader.next()) {
    if (reader.field === 1) type = reader.number();
    else if (reader.field === 2) expression = reader.text();
  }
  if (type === sqlFilter) {
    throw new BrokerError(code.unsupported, "SQL92 filters are not supported by this broker; filter by tag");
  }
  return tagFilter(expression);
};

/** `*` or nothing for all, else tags with `||` between them. */
export const tagFilter = (expression: string): TagFilter => {
  const trimmed = expression.trim();
  if (trimmed === "" || trimmed === "*") return everything;
  const tags = new Set(trimmed.split("||").flatMap((tag) => tag.trim() || []));
  if (tags.size === 0 || tags.size > tagsMax) {
    throw new BrokerError(code.illegalFilterExpression, `a tag filter names 1 to ${tagsMax} tags with || between them`);
  }
  return { tags };
};

export type AckEntry = { readonly messageId: string; readonly handle: string };

/** One message is acknowledged with each entry; a receive brings 32 at most, and nobody gathers many of those. */
const ackEntriesMax = 4_096;

export const readAckRequest = (request: Buffer) => {
  let group = "";
  let topic = "";
  const entries: AckEntry[] = [];
  const reader = readProtobuf(request);
  while (reader.next()) {
    if (reader.field === 1) group = readResourceName(reader.message());
    else if (reader.field === 2) topic = readResourceName(reader.message());
    else if (reader.field === 3) {
      if (entries.length === ackEntriesMax) {
        throw new BrokerError(code.badRequest, `more than ${ackEntriesMax} entries in one acknowledgement`);
      }
      const entry = reader.message();
      let messageId = "";
      let handle = "";
      while (entry.next()) {
        if (entry.field === 1) messageId = entry.text();
        else if (entry.field === 2) handle = entry.text();
      }
      entries.push({ messageId, handle });
    }
  }
  return { group, topic, entries };
};

/** ChangeInvisibleDurationRequest and ForwardMessageToDeadLetterQueueRequest begin alike. */
export const readHandleRequest = (request: Buffer) => {
  let group = "";
  let topic = "";
  let handle = "";
  const reader = readProtobuf(request);
  while (reader.next()) {
    if (reader.field === 1) group = readResourceName(reader.message());
    else if (reader.field === 2) topic = readResourceName(reader.message());
    else if (reader.field === 3) handle = reader.text();
  }
  return { group, topic, handle };
};

export const readInvisibleMs = (request: Buffer): number => {
  const reader = readProtobuf(request);
  while (reader.next()) if (reader.field === 4) return readDurationMs(reader.message());
  return 0;
};

export const readEndTransaction = (request: Buffer) => {
  let transactionId = "";
  let resolution = 0;
  const reader = readProtobuf(request);
  while (reader.next()) {
    if (reader.field === 3) transactionId = reader.text();
    else if (reader.field === 4) resolution = reader.number();
  }
  return { transactionId, resolution };
};

export const readRecall = (request: Buffer) => {
  let topic = "";
  let handle = "";
  const reader = readProtobuf(request);
  while (reader.next()) {
    if (reader.field === 1) topic = readResourceName(reader.message());
    else if (reader.field === 2) handle = reader.text();
  }
  return { topic, handle };
};
