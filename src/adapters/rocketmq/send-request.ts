import { type DelayedMessage, property } from "../../message/message.ts";
import { createProtobufWriter, type ProtobufWriter } from "../../protocol/protobuf.ts";

/**
 * Turns due messages into the bytes of one SendMessageRequest. The hottest code of the adapter: written field by field
 * into one buffer (protobuf.ts says why), with no object per message.
 *
 * Left out on purpose: the body digest (a proxy makes its own for every consumer), the queue id (it chooses the queue
 * itself), and above all the delivery timestamp: waiting is what we have done already.
 */
export type SendEncoder = (topic: string, messages: readonly DelayedMessage[], bornAtMs: number) => EncodedSend;

export type SendEncoderOptions = {
  readonly bornHost: string;
  readonly nextId: (nowMs: number) => string;
  /**
   * Topics whose messages get no properties of ours: the ingest topic, where ESC_DELIVER_AT is a request and not a
   * report, and where the delay server gives the id.
   */
  readonly plainTopics?: ReadonlySet<string>;
};

export type EncodedSend = {
  readonly request: Buffer;
  /** The system message id of each message, as consumers will see it. */
  readonly messageIds: readonly string[];
};

const normal = 1;
const fifo = 2;
const identityEncoding = 1;

/** Seconds in a V1 message id count from 2021-01-01T00:00:00Z. */
const messageIdEpochMs = 1_609_459_200_000;

/**
 * System message ids in RocketMQ's V1 form: version 01, six bytes for the machine, two for the process, four for the
 * second, four counting up. The eight bytes of machine and process are random here instead: containers that share a
 * network range and run as process 1 otherwise draw equal ids. Every send gets a fresh id, so that copies can be told
 * apart; what makes them one message is ESC_ID.
 */
export const createMessageIds = (random: Uint8Array): ((nowMs: number) => string) => {
  const prefix = `01${Buffer.from(random).toString("hex").toUpperCase()}`;
  let counter = 0;
  let second = -1;
  let secondText = "";
  return (nowMs) => {
    const nowSecond = Math.floor((nowMs - messageIdEpochMs) / 1000) >>> 0;
    if (nowSecond !== second) {
      second = nowSecond;
      secondText = hex32(nowSecond);
    }
    counter = (counter + 1) >>> 0;
    return prefix + secondText + hex32(counter);
  };
};

const hex32 = (value: number): string => value.toString(16).toUpperCase().padStart(8, "0");

export const writeProperty = (writer: ProtobufWriter, name: string, value: string): void => {
  const entry = writer.begin(2);
  writer.text(1, name);
  writer.text(2, value);
  writer.end(entry);
};

export const createSendEncoder = (options: SendEncoderOptions): SendEncoder => {
  const { bornHost, nextId, plainTopics } = options;
  const writer = createProtobufWriter(65_536);

  const writeMessage = (topic: string, message: DelayedMessage, messageId: string, bornAtMs: number): void => {
    const { tag, messageGroup } = message;
    const start = writer.begin(1);
    const resource = writer.begin(1);
    writer.text(2, topic);
    writer.end(resource);
    for (const [name, value] of message.properties) writeProperty(writer, name, value);
    if (plainTopics === undefined || !plainTopics.has(topic)) {
      // After the user's, because the last entry of a map wins.
      writeProperty(writer, property.id, message.id);
      writeProperty(writer, property.attempt, String(message.attempt));
      writeProperty(writer, property.deliverAt, String(message.deliverAtMs));
    }
    const system = writer.begin(3);
    if (tag !== undefined) writer.text(1, tag);
    for (const key of message.keys) writer.text(2, key);
    writer.text(3, messageId);
    writer.number(5, identityEncoding);
    writer.number(6, messageGroup === undefined ? normal : fifo);
    const born = writer.begin(7);
    writer.number(1, Math.floor(bornAtMs / 1000));
    writer.number(2, (bornAtMs % 1000) * 1_000_000);
    writer.end(born);
    writer.text(8, bornHost);
    if (messageGroup !== undefined) writer.text(17, messageGroup);
    writer.end(system);
    writer.bytes(4, message.body);
    writer.end(start);
  };

  return (topic, messages, bornAtMs) => {
    writer.reset();
    const messageIds = messages.map((message) => {
      const messageId = nextId(bornAtMs);
      writeMessage(topic, message, messageId, bornAtMs);
      return messageId;
    });
    return { request: writer.take(), messageIds };
  };
};
