import { code } from "../../protocol/messaging-service.ts";
import {
  createProtobufWriter,
  type ProtobufReader,
  type ProtobufWriter,
  readProtobuf,
} from "../../protocol/protobuf.ts";
import type { GroupInfo } from "../broker.port.ts";
import { messageLimits } from "./message-rules.ts";
import { readDurationMs, readResourceName } from "./requests.ts";

/**
 * What a client says about itself on its telemetry stream, and what it is answered: its own words, and the broker's
 * rules among them. Clients differ in what they cannot do without: Node ends its process without an exponential
 * backoff for producers, Java does not start without any, Python wants `metric` to be there.
 */
export type ClientSettings = {
  /** Copied into the answer: client type, access point, request timeout, user agent. */
  readonly echoed: Buffer;
  readonly publishing: { readonly topics: readonly string[]; readonly echoed: Buffer } | undefined;
  readonly subscription:
    | {
        readonly group: string;
        readonly topics: readonly string[];
        readonly echoed: Buffer;
        readonly pollMs: number | undefined;
      }
    | undefined;
  readonly maxAttempts: number;
};

/** A client may name as many topics; with more it is a program gone wrong. */
const topicsMax = 1_024;

/** Undefined for the other things that a client may say: answers to commands that this broker does not give. */
export const readTelemetry = (message: Buffer): ClientSettings | undefined => {
  const reader = readProtobuf(message);
  let settings: ClientSettings | undefined;
  while (reader.next()) if (reader.field === 2) settings = readSettings(reader.bytes());
  return settings;
};

const readSettings = (bytes: Buffer): ClientSettings => {
  const echoed: Buffer[] = [];
  let publishing: ClientSettings["publishing"];
  let subscription: ClientSettings["subscription"];
  let maxAttempts = producerAttempts;
  const reader = readProtobuf(bytes);
  while (reader.next()) {
    const from = reader.fieldFrom;
    switch (reader.field) {
      case 1:
        reader.number();
        echoed.push(bytes.subarray(from, reader.at));
        break;
      case 2:
      case 4:
      case 7:
        reader.bytes();
        echoed.push(bytes.subarray(from, reader.at));
        break;
      case 3:
        maxAttempts = readMaxAttempts(reader.message()) || producerAttempts;
        break;
      case 5:
        publishing = readPublishing(reader.bytes());
        break;
      case 6:
        subscription = readSubscription(reader.bytes());
        break;
    }
  }
  return { echoed: Buffer.concat(echoed), publishing, subscription, maxAttempts };
};

const readMaxAttempts = (policy: ProtobufReader): number => {
  while (policy.next()) if (policy.field === 1) return Math.min(policy.number(), attemptsMax);
  return 0;
};

const readPublishing = (bytes: Buffer) => {
  const topics: string[] = [];
  const echoed: Buffer[] = [];
  const reader = readProtobuf(bytes);
  while (reader.next()) {
    if (reader.field !== 1) continue;
    const from = reader.fieldFrom;
    take(topics, readResourceName(reader.message()));
    echoed.push(bytes.subarray(from, reader.at));
  }
  return { topics, echoed: Buffer.concat(echoed) };
};

const readSubscription = (bytes: Buffer) => {
  const topics: string[] = [];
  const echoed: Buffer[] = [];
  let group = "";
  let pollMs: number | undefined;
  const reader = readProtobuf(bytes);
  while (reader.next()) {
    const from = reader.fieldFrom;
    if (reader.field === 1) group = readResourceName(reader.message());
    else if (reader.field === 2) {
      const entry = reader.message();
      while (entry.next()) if (entry.field === 1) take(topics, readResourceName(entry.message()));
    } else if (reader.field === 5) {
      const saidMs = readDurationMs(reader.message());
      if (saidMs > 0) pollMs = saidMs;
    }
    if (reader.field === 1 || reader.field === 2) echoed.push(bytes.subarray(from, reader.at));
  }
  return { group, topics, echoed: Buffer.concat(echoed), pollMs };
};

const take = (topics: string[], topic: string): void => {
  if (topics.length === topicsMax) throw new RangeError(`settings with more than ${topicsMax} topics`);
  topics.push(topic);
};

/** As the real proxy has them for producers. */
const producerAttempts = 3;
const attemptsMax = 2 ** 31 - 1;
const producerBackoff = { firstMs: 10, maxMs: 1_000 };
/** RocketMQ's ExponentialRetryPolicy; its default is a list of times instead, which the Node client cannot read. */
const consumerBackoff = { firstMs: 5_000, maxMs: 7_200_000 };
const multiplier = 2;
export const receiveBatchMax = 32;
export const pollMsMax = 20_000;

/** `group` is that of the subscription, as the broker knows it. */
export const settingsReply = (settings: ClientSettings, group: GroupInfo | undefined): Buffer => {
  const { publishing, subscription } = settings;
  const writer = createProtobufWriter(1_024);
  const status = writer.begin(1);
  writer.number(1, code.ok);
  writer.text(2, "OK");
  writer.end(status);
  const body = writer.begin(2);
  writer.raw(settings.echoed);
  writeBackoff(
    writer,
    group?.attemptsMax ?? settings.maxAttempts,
    subscription === undefined ? producerBackoff : consumerBackoff,
  );
  if (publishing !== undefined) {
    const to = writer.begin(5);
    writer.raw(publishing.echoed);
    writer.number(2, messageLimits.bodyBytesMax);
    writer.number(3, 1); // the client checks the type itself, too
    writer.end(to);
  }
  if (subscription !== undefined) {
    const to = writer.begin(6);
    writer.raw(subscription.echoed);
    writer.explicit(3, group?.orderly === true ? 1 : 0);
    writer.number(4, receiveBatchMax);
    // The Python client cannot do with nothing here.
    writeDuration(writer, 5, subscription.pollMs ?? pollMsMax);
    writer.end(to);
  }
  const metric = writer.begin(8);
  writer.explicit(1, 0); // off
  writer.end(metric);
  writer.end(body);
  return writer.take();
};

const writeBackoff = (to: ProtobufWriter, attempts: number, { firstMs, maxMs }: typeof producerBackoff): void => {
  const policy = to.begin(3);
  to.number(1, attempts);
  const exponential = to.begin(2);
  writeDuration(to, 1, firstMs);
  writeDuration(to, 2, maxMs);
  to.float(3, multiplier);
  to.end(exponential);
  to.end(policy);
};

const writeDuration = (to: ProtobufWriter, field: number, durationMs: number): void => {
  const duration = to.begin(field);
  to.number(1, Math.floor(durationMs / 1000));
  to.number(2, (durationMs % 1000) * 1_000_000);
  to.end(duration);
};
