import type { ChangeOutcome, DeliverySource, ReceiptOutcome } from "../../consumer/delivery-source.port.ts";
import { code, method } from "../../protocol/messaging-service.ts";
import { createConsumerRegistration } from "./consumer-registration.ts";
import { createPoll } from "./poll.ts";
import {
  decodeAck,
  decodeChangeInvisible,
  encodeAck,
  encodeChangeInvisible,
  encodeReceive,
  type Receipt,
  type Subscription,
} from "./protocol.ts";
import { createSession, type SessionOptions } from "./session.ts";

/**
 * Receives several topics for one consumer group, over one connection and one registration. Unlike the source of the
 * ingest topic it says of every receipt what became of it, and can make a message invisible for longer.
 *
 * The protocol changes one message at a time; there is no call for many.
 */
export type RocketmqDeliveriesOptions = Omit<SessionOptions, "idleMs"> & {
  readonly group: string;
  readonly topics: readonly [ConsumedTopic, ...ConsumedTopic[]];
  /** 10,000 is the shortest that every proxy allows. */
  readonly invisibleMs: number;
  readonly pollMs?: number;
};

export type ConsumedTopic = { readonly topic: string; readonly tag?: string };

export type RocketmqDeliveries = {
  /** In the order of `topics`. */
  readonly sources: readonly DeliverySource[];
  /** True once the proxy has taken us; false when it has not in time. */
  registered(timeoutMs: number): Promise<boolean>;
  /** Why it has not. */
  readonly trouble: string;
  close(): Promise<void>;
};

const pollMsDefault = 5_000;
const callTimeoutMs = 3_000;

export const createRocketmqDeliveries = (options: RocketmqDeliveriesOptions): RocketmqDeliveries => {
  const { group, topics, invisibleMs, pollMs = pollMsDefault, timers, log, endpoint } = options;
  const [first, ...others] = topics;
  const subscribed = (topic: ConsumedTopic): Subscription => ({ group, ...topic });
  const subscriptions = [subscribed(first), ...others.map(subscribed)] as const;
  const session = createSession(options);
  const registration = createConsumerRegistration({ session, subscriptions, pollMs, timers, log });
  let closed = false;
  const close = async (): Promise<void> => {
    if (closed) return;
    closed = true;
    await registration.close();
    session.close();
  };

  const sourceOf = (subscription: Subscription): DeliverySource => {
    const { topic } = subscription;
    const poll = createPoll({ session, registration, topic, endpoint, pollMs, timers, isClosed: () => closed });
    return {
      topic,
      receive: (max, signal) => poll(encodeReceive(subscription, { batchMax: max, invisibleMs, pollMs }), signal),

      async ack(taken) {
        const receipts = taken.map(({ receipt }) => receipt as Receipt);
        const reply = await session.unary({
          method: method.ackMessage,
          request: encodeAck(subscription, receipts),
          timeoutMs: callTimeoutMs,
          decode: decodeAck,
        });
        if (!reply.ok) return taken.map(() => "failed");
        const { status, failed } = reply.value;
        if (failed.length === 0) return taken.map(() => outcomeOf(status.code));
        const refused = new Map(failed.map((entry) => [entry.messageId, entry.status.code]));
        return receipts.map(({ messageId }) => outcomeOf(refused.get(messageId) ?? code.ok));
      },

      async changeInvisible({ receipt }, forMs): Promise<ChangeOutcome> {
        const { messageId } = receipt as Receipt;
        const reply = await session.unary({
          method: method.changeInvisibleDuration,
          request: encodeChangeInvisible(subscription, receipt as Receipt, forMs),
          timeoutMs: callTimeoutMs,
          decode: decodeChangeInvisible,
        });
        if (!reply.ok) return { outcome: "failed" };
        const outcome = outcomeOf(reply.value.status.code);
        return outcome === "done" ? { outcome, receipt: { messageId, handle: reply.value.handle } } : { outcome };
      },

      // One connection for all topics: the first that is closed closes it.
      close,
    };
  };

  return {
    sources: subscriptions.map(sourceOf),
    registered: (timeoutMs) => registration.registered(timeoutMs, new AbortController().signal),
    get trouble() {
      return registration.trouble;
    },
    close,
  };
};

const outcomeOf = (statusCode: number): ReceiptOutcome => {
  if (statusCode === code.ok) return "done";
  return statusCode === code.invalidReceiptHandle ? "stale" : "failed";
};
