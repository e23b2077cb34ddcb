import { randomBytes } from "node:crypto";
import { hostname } from "node:os";
import {
  type SendFailure,
  type SendResult,
  type Sink,
  sendBytesMax,
  sendMessagesMax,
} from "../../dispatch/sink.port.ts";
import { type DelayedMessage, topicPattern } from "../../message/message.ts";
import { code, method } from "../../protocol/messaging-service.ts";
import { decodeSend, type SendReply } from "./protocol.ts";
import { blamesOneMessage, fromProxy, fromTransport } from "./send-failure.ts";
import { createMessageIds, createSendEncoder } from "./send-request.ts";
import { createSession, messageBytesMax, type SessionOptions } from "./session.ts";

/**
 * Sends due messages to a RocketMQ proxy: up to 128 in one SendMessage call, which stores them as separate messages.
 * What the proxy needs for that is one call and nothing else: no route query, no telemetry, no settings. It chooses
 * broker and queue itself.
 *
 * What surprised us: the proxy answers a whole batch with one receipt, so a batch is stored or refused as one. When it
 * is refused for the sake of one message, the messages are sent again one by one to find it; nothing was stored by the
 * refused call, so that makes no second copies.
 */
export type RocketmqSinkOptions = Omit<SessionOptions, "idleMs"> & {
  /** The longest that `send` takes. */
  readonly sendTimeoutMs?: number;
  /** Topics whose messages go out with their own properties and none of ours. */
  readonly plainTopics?: ReadonlySet<string>;
};

/**
 * A connection that nobody uses is dropped before something on the way forgets it (the proxy does so after 120 s, NAT
 * devices when they please), because a send into a forgotten connection is a timeout and so perhaps a duplicate.
 */
const idleMs = 60_000;
/** How many messages of a refused batch are tried at a time: 128 take some 40 ms, and no other topic notices. */
const aloneInFlightMax = 16;
/**
 * A broker takes 4 MiB for a batch, properties and its own header of each message included ("message body size
 * exceeded" otherwise). Small messages with large properties get there before {@link sendBytesMax} of bodies do.
 */
const batchBytesMax = 4_000_000;
/** Less than this is not worth a call: an answer that comes too late may have become a duplicate. */
const usefulMs = 50;

const failed = (failure: SendFailure): SendResult => ({ ok: false, failure });
const sinkClosed: SendFailure = { class: "transient", code: "sink_closed", detail: "this process is stopping" };
const noTimeLeft: SendFailure = {
  class: "transient",
  code: "send_timeout",
  detail: "its batch was refused and there was no time left to send it alone",
};

const tooLarge = (bytes: number): SendFailure => ({
  class: "permanent",
  code: "message_too_large",
  detail: `the message takes ${bytes} bytes, ${messageBytesMax} are sent at most`,
});

export const createRocketmqSink = (options: RocketmqSinkOptions): Sink => {
  const { clock, log, sendTimeoutMs = 3_000 } = options;
  const session = createSession({ ...options, idleMs });
  const encode = createSendEncoder({
    bornHost: hostname(),
    nextId: createMessageIds(randomBytes(8)),
    ...(options.plainTopics === undefined ? undefined : { plainTopics: options.plainTopics }),
  });
  const inFlight = new Set<Promise<unknown>>();
  let closed = false;

  const sendBatch: SendBatch = async (topic, messages, deadlineMs) => {
    const leftMs = Math.ceil(deadlineMs - clock.monotonicMs());
    if (leftMs < usefulMs) return messages.map(() => failed(noTimeLeft));
    const { request, messageIds } = encode(topic, messages, clock.nowMs());
    if (messages.length > 1 && request.length > batchBytesMax) {
      const half = messages.length >> 1;
      const halves = [messages.slice(0, half), messages.slice(half)];
      return (await Promise.all(halves.map((part) => sendBatch(topic, part, deadlineMs)))).flat();
    }
    if (request.length > messageBytesMax) return messages.map(() => failed(tooLarge(request.length)));
    const reply = await session.unary({ method: method.sendMessage, request, timeoutMs: leftMs, decode: decodeSend });
    const answer = reply.ok ? readAnswer(reply.value, messageIds) : { refused: fromTransport(reply.failure) };
    if (!("refused" in answer)) return answer.results;
    const { refused } = answer;
    if (messages.length === 1 || !blamesOneMessage(refused)) return messages.map(() => failed(refused));
    log.info({ topic, messages: messages.length, code: refused.code }, "batch refused, sending its messages alone");
    return sendAlone(topic, messages, deadlineMs);
  };

  const sendAlone: SendBatch = async (topic, messages, deadlineMs) => {
    const results: SendResult[] = new Array(messages.length);
    let next = 0;
    const worker = async () => {
      for (let index = next++; index < messages.length; index = next++) {
        const [result] = await sendBatch(topic, [messages[index]!], deadlineMs);
        results[index] = result!;
      }
    };
    await Promise.all(Array.from({ length: aloneInFlightMax }, worker));
    return results;
  };

  return {
    async send(topic, messages) {
      if (messages.length === 0) return [];
      assertBatch(messages);
      if (closed) return messages.map(() => failed(sinkClosed));
      if (!topicPattern.test(topic)) return messages.map(() => failed(fromProxy(code.illegalTopic, "not sent")));
      const work = sendBatch(topic, messages, clock.monotonicMs() + sendTimeoutMs);
      inFlight.add(work);
      try {
        return await work;
      } finally {
        inFlight.delete(work);
      }
    },

    async close() {
      closed = true;
      await Promise.allSettled(inFlight);
      session.close();
    },
  };
};

type SendBatch = (
  topic: string,
  messages: readonly DelayedMessage[],
  deadlineMs: number,
) => Promise<readonly SendResult[]>;

type Answer = { readonly results: readonly SendResult[] } | { readonly refused: SendFailure };

/** One receipt stands for all messages; as many entries as messages say it for each. */
const readAnswer = ({ status, entries }: SendReply, messageIds: readonly string[]): Answer => {
  if (status.code === code.ok && entries.every((entry) => entry.code === code.ok)) {
    return { results: messageIds.map((brokerMessageId) => ({ ok: true, brokerMessageId })) };
  }
  if (entries.length === messageIds.length && entries.length > 1) {
    const results = messageIds.map((brokerMessageId, index): SendResult => {
      const entry = entries[index]!;
      return entry.code === code.ok ? { ok: true, brokerMessageId } : failed(fromProxy(entry.code, entry.text));
    });
    return { results };
  }
  const worst = entries.find((entry) => entry.code !== code.ok) ?? status;
  return { refused: fromProxy(worst.code, worst.text) };
};

/** A dispatcher that breaks these would lose order or whole batches; that is a bug, not a failure of a send. */
const assertBatch = (messages: readonly DelayedMessage[]): void => {
  if (messages.length === 1) return;
  let bytes = 0;
  for (const { body, messageGroup } of messages) {
    bytes += body.length;
    if (messageGroup !== undefined) throw new Error("bug: a message with a message group must be sent alone");
  }
  if (messages.length > sendMessagesMax) throw new Error(`bug: ${messages.length} messages in one send`);
  if (bytes > sendBytesMax) throw new Error(`bug: ${bytes} bytes of bodies in one send`);
};
