import { type ILogger, Producer } from "rocketmq-client-nodejs";
import type { PlannedMessage } from "./load-plan.ts";

/** The way in by RocketMQ topic, with the official producer: what any RocketMQ user's program would do. */
export type TopicDoor = {
  send(message: PlannedMessage, topic: string, dueMs: number): Promise<{ readonly ok: boolean; readonly why?: string }>;
  close(): Promise<void>;
};

/** Without a logger of ours the client writes into the user's home folder. */
const quiet: ILogger = { info: () => {}, warn: () => {}, error: () => {}, debug: () => {} };

export const openTopicDoor = async (endpoint: string, ingestTopic: string): Promise<TopicDoor> => {
  const producer = new Producer({
    endpoints: endpoint,
    namespace: "",
    topic: ingestTopic,
    maxAttempts: 1,
    requestTimeout: 5_000,
    logger: quiet,
  });
  await producer.startup();
  return {
    async send({ body, properties, key }, topic, dueMs) {
      const all = new Map(Object.entries(properties)).set("ESC_TOPIC", topic).set("ESC_DELIVER_AT", String(dueMs));
      if (key !== undefined) all.set("ESC_KEY", key);
      try {
        await producer.send({ topic: ingestTopic, body, properties: all });
        return { ok: true };
      } catch (error) {
        return { ok: false, why: error instanceof Error ? error.message : String(error) };
      }
    },
    async close() {
      await producer.shutdown().catch(() => {}); // rejects when the proxy is gone
    },
  };
};
