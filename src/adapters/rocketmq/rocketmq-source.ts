import type { IncomingMessage, TopicSource } from "../../ingest/topic-source.port.ts";
import { code, method } from "../../protocol/messaging-service.ts";
import type { Timer } from "../../runtime/timers.ts";
import { createConsumerRegistration } from "./consumer-registration.ts";
import { decodeAck, encodeAck, encodeReceive, type Receipt, type Status } from "./protocol.ts";
import { decodeReceived } from "./received-message.ts";
import { createSession, type SessionOptions } from "./session.ts";

/**
 * Receives the messages of one topic for one consumer group: long polls that bring up to 32 messages, and one
 * acknowledgement for all of them (one per message costs four times the CPU and halves the rate).
 *
 * Nothing here holds the process: `close` cancels open polls, and a proxy that is gone is not waited for. Messages that
 * were on their way in a canceled poll come again after `invisibleMs`.
 */
export type RocketmqSourceOptions = Omit<SessionOptions, "idleMs"> & {
  readonly topic: string;
  readonly group: string;
  /**
   * How long received messages stay away from others; a message not acknowledged by then comes again. Default 10,000,
   * the shortest that every proxy allows: so long does it take until another process gets what a dead one had received.
   */
  readonly invisibleMs?: number;
  /** The proxy gives 32 at most. */
  readonly batchMax?: number;
  /** How long an empty topic is waited on; the proxy makes it 5 to 20 s unless it is configured otherwise. */
  readonly pollMs?: number;
};

const pollMsDefault = 5_000;
/** The shortest wait of a proxy with its default settings, whatever we ask for. */
const proxyPollMsMin = 5_000;
/** For the answer to travel; the proxy refuses polls whose deadline leaves it no time. */
const pollGraceMs = 3_000;
const ackTimeoutMs = 3_000;
const registrationWaitMs = 3_000;
/**
 * A poll is left this long after it should end. On a busy topic its answer is on the way, with messages that the proxy
 * has already handed out: left at once, they would stay away from everybody for `invisibleMs`.
 */
const leaveGraceMs = 300;

export const createRocketmqSource = (options: RocketmqSourceOptions): TopicSource => {
  const { topic, group, timers, log, endpoint, pollMs = pollMsDefault, invisibleMs = 10_000, batchMax = 32 } = options;
  const subscription = { topic, group };
  const session = createSession(options);
  const registration = createConsumerRegistration({ session, subscription, pollMs, timers, log });
  const request = encodeReceive(subscription, { batchMax, invisibleMs, pollMs });
  const timeoutMs = Math.max(pollMs, proxyPollMsMin) + pollGraceMs;
  let closed = false;

  return {
    async receive(signal) {
      if (closed || signal.aborted) return [];
      if (!(await registration.registered(registrationWaitMs, signal))) {
        if (closed || signal.aborted) return [];
        throw new Error(`RocketMQ proxy ${endpoint} does not take us as a consumer: ${registration.trouble}`);
      }
      const messages: IncomingMessage[] = [];
      let status: Status | undefined;
      const onData = (bytes: Buffer) => {
        const part = decodeReceived(bytes);
        if (part.kind === "message") messages.push(part.message);
        else if (part.kind === "status") status = part.status;
      };
      const leave = new AbortController();
      let grace: Timer | undefined;
      const leaveSoon = () => {
        grace = timers.after(leaveGraceMs, () => leave.abort());
      };
      signal.addEventListener("abort", leaveSoon, { once: true });
      const failure = await session.serverStream({
        method: method.receiveMessage,
        request,
        timeoutMs,
        signal: leave.signal,
        onData,
      });
      signal.removeEventListener("abort", leaveSoon);
      grace?.cancel();
      // What has arrived is worth more than how the stream ended: it can be stored and acknowledged.
      if (messages.length > 0 || closed || signal.aborted) return messages;
      if (failure !== undefined) throw new Error(`receiving from ${topic} at ${endpoint} failed: ${failure.detail}`);
      if (status === undefined || status.code === code.ok || status.code === code.messageNotFound) return [];
      // A proxy that has lost our settings answers with an internal error; new settings cure it and harm nothing.
      if (status.code >= code.internalError) registration.renew();
      throw new Error(`receiving from ${topic} was refused with ${status.code}: ${status.text}`);
    },

    async ack(messages) {
      if (messages.length === 0) return;
      const reply = await session.unary({
        method: method.ackMessage,
        request: encodeAck(
          subscription,
          messages.map((message) => message.receipt as Receipt),
        ),
        timeoutMs: ackTimeoutMs,
        decode: decodeAck,
      });
      if (!reply.ok) {
        const { detail } = reply.failure;
        return log.warn({ topic, messages: messages.length, detail }, "acknowledging failed, the messages come again");
      }
      const { status, failed } = reply.value;
      const refused = failed[0]?.status ?? (status.code === code.ok ? undefined : status);
      if (refused === undefined) return;
      const fields = { topic, messages: failed.length || messages.length, code: refused.code, detail: refused.text };
      log.warn(fields, "acknowledgement refused, the messages come again");
    },

    async close() {
      if (closed) return;
      closed = true;
      await registration.close();
      session.close();
    },
  };
};
