import type { HandOff } from "../../consumer/hand-off.port.ts";
import type { MessageId } from "../../message/id.ts";
import type { DelayedMessage } from "../../message/message.ts";
import { epochMs } from "../../message/time.ts";
import { createRocketmqSink, type RocketmqSinkOptions } from "./rocketmq-sink.ts";

/** Sends to the ingest topic as any client would: what a message says to the delay server stands in its properties. */
export type RocketmqHandOffOptions = Omit<RocketmqSinkOptions, "plainTopics"> & { readonly topic: string };

const never = epochMs(0);

export const createRocketmqHandOff = ({ topic, ...options }: RocketmqHandOffOptions): HandOff => {
  const sink = createRocketmqSink({ ...options, plainTopics: new Set([topic]) });
  return {
    async send(messages) {
      const results = await sink.send(
        topic,
        // Id, tenant and times are of messages that wait with us; a plain topic does not look at them.
        messages.map(
          (message): DelayedMessage => ({
            ...message,
            id: "" as MessageId,
            tenant: "",
            topic,
            deliverAtMs: never,
            acceptedAtMs: never,
            attempt: 0,
          }),
        ),
      );
      return results.map((result) =>
        result.ok ? { ok: true } : { ok: false, code: result.failure.code, detail: result.failure.detail },
      );
    },
    close: () => sink.close(),
  };
};
