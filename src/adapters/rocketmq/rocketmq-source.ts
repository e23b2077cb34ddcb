import type { TopicSource } from "../../ingest/topic-source.port.ts";
import { code, method } from "../../protocol/messaging-service.ts";
import { createConsumerRegistration } from "./consumer-registration.ts";
import { createPoll } from "./poll.ts";
import { decodeAck, encodeAck, encodeReceive, type Receipt } from "./protocol.ts";
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
const ackTimeoutMs = 3_000;

export const createRocketmqSource = (options: RocketmqSourceOptions): TopicSource => {
  const { topic, group, timers, log, endpoint, pollMs = pollMsDefault, invisibleMs = 10_000, batchMax = 32 } = options;
  const subscription = { topic, group };
  const session = createSession(options);
  const registration = createConsumerRegistration({ session, subscriptions: [subscription], pollMs, timers, log });
  const request = encodeReceive(subscription, { batchMax, invisibleMs, pollMs });
  let closed = false;
  const poll = createPoll({ session, registration, topic, endpoint, pollMs, timers, isClosed: () => closed });

  return {
    receive: (signal) => poll(request, signal),

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
