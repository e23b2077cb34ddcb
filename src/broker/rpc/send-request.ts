import { code } from "../../protocol/messaging-service.ts";
import { createProtobufWriter, type ProtobufReader, readProtobuf } from "../../protocol/protobuf.ts";
import { BrokerError } from "../broker-error.ts";
import type { BrokerMessage, MessageType } from "../broker-message.ts";
import {
  checkBody,
  checkKey,
  checkMessageGroup,
  checkMessageId,
  checkProperties,
  checkPropertyName,
  checkPropertyValue,
  checkTag,
  checkUtf8,
  messageLimits,
} from "./message-rules.ts";
import { readInstantMs, readResourceName } from "./requests.ts";

/**
 * Reads a SendMessageRequest. User properties and system properties stay the bytes that they are: they are walked over
 * once, to be checked and to find what the broker must know, and then kept as slices of the request.
 *
 * The type of a message follows from what it has, as in the real proxy: whoever calls a message TRANSACTION gets that,
 * else a delivery time makes it DELAY, a message group FIFO, and nothing of it NORMAL. The field `message_type` says
 * the same in every official client.
 */
export const readSendRequest = (request: Buffer, bornHost: string): BrokerMessage[] => {
  const messages: BrokerMessage[] = [];
  const reader = readProtobuf(request);
  while (reader.next()) {
    if (reader.field !== 1) continue;
    const message = readMessage(reader.bytes(), bornHost);
    if (messages.length > 0) assertAlike(messages[0]!, message);
    messages.push(message);
    if (messages.length > messagesMax) {
      throw new BrokerError(code.badRequest, `more than ${messagesMax} messages in one call`);
    }
  }
  if (messages.length === 0) throw new BrokerError(code.messageCorrupted, "there is no message in the request");
  return messages;
};

/** A request of 8 MiB could hold 200,000 tiny ones, and the process would do nothing else for as long as that takes. */
const messagesMax = 4_096;

const typeTransaction = 4;
const typeLite = 5;
const typePriority = 6;
const identityEncoding = 1;
const noBytes: Buffer = Buffer.alloc(0);

/** They are stored together in one queue, in one write. */
const assertAlike = (first: BrokerMessage, other: BrokerMessage): void => {
  if (first.topic !== other.topic) {
    throw new BrokerError(code.messageCorrupted, "all messages of one call must have the same topic");
  }
  if (first.type !== other.type || first.messageGroup !== other.messageGroup) {
    throw new BrokerError(code.badRequest, "all messages of one call must have the same type and message group");
  }
};

const readMessage = (bytes: Buffer, bornHost: string): BrokerMessage => {
  let topic = "";
  let system: Buffer = noBytes;
  let body: Buffer = noBytes;
  // Writers put the entries of a map side by side, and then they are one slice.
  let propertiesFrom = 0;
  let propertiesTo = 0;
  let scattered: Buffer[] | undefined;
  let propertyCount = 0;
  let propertyBytes = 0;
  const reader = readProtobuf(bytes);
  while (reader.next()) {
    switch (reader.field) {
      case 1:
        topic = readResourceName(reader.message());
        break;
      case 2: {
        const from = reader.fieldFrom;
        propertyBytes += readProperty(reader.message());
        propertyCount++;
        if (propertiesTo !== from && propertiesTo > 0) {
          scattered ??= [];
          scattered.push(bytes.subarray(propertiesFrom, propertiesTo));
          propertiesFrom = from;
        } else if (propertiesTo === 0) propertiesFrom = from;
        propertiesTo = reader.at;
        break;
      }
      case 3:
        system = reader.bytes();
        break;
      case 4:
        body = reader.bytes();
        break;
    }
  }
  checkBody(body);
  const lastProperties = bytes.subarray(propertiesFrom, propertiesTo);
  const known = readSystemProperties(system);
  checkProperties(propertyCount, propertyBytes + known.textBytes);
  return {
    topic,
    messageId: known.messageId,
    type: known.type,
    tag: known.tag,
    messageGroup: known.messageGroup,
    deliverAtMs: known.deliverAtMs,
    userProperties: scattered === undefined ? lastProperties : Buffer.concat([...scattered, lastProperties]),
    systemProperties: completed(system, known, bornHost),
    body,
  };
};

/** @returns the bytes that count towards the limit. */
const readProperty = (reader: ProtobufReader): number => {
  let name: Buffer = noBytes;
  let value: Buffer = noBytes;
  while (reader.next()) {
    if (reader.field === 1) name = reader.bytes();
    else if (reader.field === 2) value = reader.bytes();
  }
  checkPropertyName(name);
  checkPropertyValue(value);
  return name.length + value.length;
};

type Known = {
  messageId: string;
  type: MessageType;
  tag: string | undefined;
  messageGroup: string | undefined;
  deliverAtMs: number | undefined;
  hasBornHost: boolean;
  hasEncoding: boolean;
  /** Tag and keys. */
  textBytes: number;
};

const readSystemProperties = (bytes: Buffer): Known => {
  if (bytes.length > messageLimits.systemPropertyBytesMax) {
    throw new BrokerError(
      code.messagePropertiesTooLarge,
      `the system properties take ${bytes.length} bytes, ${messageLimits.systemPropertyBytesMax} are allowed`,
    );
  }
  let messageType = 0;
  let messageId: Buffer = noBytes;
  let tag: Buffer = noBytes;
  let group: Buffer = noBytes;
  let deliverAtMs: number | undefined;
  let hasBornHost = false;
  let hasEncoding = false;
  let keyBytes = 0;
  const reader = readProtobuf(bytes);
  while (reader.next()) {
    switch (reader.field) {
      case 1:
        tag = reader.bytes();
        break;
      case 2: {
        const key = reader.bytes();
        checkKey(key);
        keyBytes += key.length;
        break;
      }
      case 3:
        messageId = reader.bytes();
        break;
      case 5:
        hasEncoding = reader.number() !== 0;
        break;
      case 6:
        messageType = reader.number();
        break;
      case 8:
        hasBornHost = plainText(reader).length > 0;
        break;
      case 11:
        deliverAtMs = readInstantMs(reader.message());
        break;
      case 17:
        group = reader.bytes();
        break;
      case 21:
        throw new BrokerError(code.unsupported, "lite topics are not supported by this broker");
      case 22:
        throw new BrokerError(code.unsupported, "message priorities are not supported by this broker");
      // These go to consumers as they came, and a consumer that cannot read one cannot read its message.
      case 4:
        walk(reader.message(), isNumber, isText);
        break;
      case 20:
        walk(reader.message(), isText, isText);
        break;
      case 7:
      case 9:
      case 15:
      case 19:
        walk(reader.message(), isNumber, isNumber);
        break;
      case 10:
      case 12:
      case 18:
        plainText(reader);
        break;
      case 13:
      case 14:
      case 16:
        reader.number();
        break;
    }
  }
  checkTag(tag);
  checkMessageGroup(group);
  checkMessageId(messageId);
  const messageGroup = group.length === 0 ? undefined : group.toString("utf8");
  return {
    messageId: messageId.toString("utf8"),
    type: typeOf(messageType, deliverAtMs, messageGroup),
    tag: tag.length === 0 ? undefined : tag.toString("utf8"),
    messageGroup,
    deliverAtMs,
    hasBornHost,
    hasEncoding,
    textBytes: tag.length + keyBytes,
  };
};

const plainText = (reader: ProtobufReader): Buffer => {
  const text = reader.bytes();
  checkUtf8(text, code.badRequest, "text in the system properties");
  return text;
};

const isNumber = (reader: ProtobufReader): void => {
  reader.number();
};
const isText = (reader: ProtobufReader): void => {
  plainText(reader);
};

/** A digest, an instant, a duration, a dead letter's origin: all have two fields. */
const walk = (reader: ProtobufReader, first: typeof isText, second: typeof isText): void => {
  while (reader.next()) {
    if (reader.field === 1) first(reader);
    else if (reader.field === 2) second(reader);
  }
};

const typeOf = (messageType: number, deliverAtMs: number | undefined, group: string | undefined): MessageType => {
  if (messageType === typeTransaction) {
    // The real broker takes it, and then nobody ever gets it.
    if (deliverAtMs !== undefined) {
      throw new BrokerError(
        code.messagePropertyConflictWithType,
        "a transactional message cannot have a delivery time",
      );
    }
    return "TRANSACTION";
  }
  if (messageType === typeLite || messageType === typePriority) {
    throw new BrokerError(code.unsupported, "messages of the types LITE and PRIORITY are not supported by this broker");
  }
  if (deliverAtMs !== undefined) return "DELAY";
  return group === undefined ? "NORMAL" : "FIFO";
};

/** What consumers rely on and some producer may not have written. */
const completed = (system: Buffer, { hasBornHost, hasEncoding }: Known, bornHost: string): Buffer => {
  if (hasBornHost && hasEncoding) return system;
  const writer = createProtobufWriter(system.length + 128);
  writer.raw(system);
  if (!hasEncoding) writer.number(5, identityEncoding);
  if (!hasBornHost) writer.text(8, bornHost);
  return writer.take();
};
