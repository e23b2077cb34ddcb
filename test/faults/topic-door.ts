import { setTimeout as pause } from "node:timers/promises";
import { type ILogger, Producer } from "rocketmq-client-nodejs";
import { surviving } from "../surviving-client.ts";
import type { PlannedMessage } from "./load-plan.ts";

/**
 * The way in by RocketMQ topic, with the official producer: what any RocketMQ user's program would do. After a failed
 * send a new producer takes over, because the official one does not always find back to a broker that was restarted.
 */
export type TopicDoor = {
  send(message: PlannedMessage, topic: string, dueMs: number): Promise<{ readonly ok: boolean; readonly why?: string }>;
  close(): Promise<void>;
};

/** Without a logger of ours the client writes into the user's home folder. */
const quiet: ILogger = { info: () => {}, warn: () => {}, error: () => {}, debug: () => {} };
const startMaxMs = 10_000;

const startProducer = async (endpoint: string, ingestTopic: string): Promise<Producer> => {
  const producer = surviving(
    new Producer({
      endpoints: endpoint,
      namespace: "",
      topic: ingestTopic,
      maxAttempts: 1,
      requestTimeout: 5_000,
      logger: quiet,
    }),
  );
  // The client waits for ever for a proxy that is not there.
  const started = await Promise.race([producer.startup().then(() => true), pause(startMaxMs, false)]);
  if (!started) throw new Error(`the official producer did not start within ${startMaxMs} ms`);
  return producer;
};

export const openTopicDoor = async (endpoint: string, ingestTopic: string): Promise<TopicDoor> => {
  let producer = await startProducer(endpoint, ingestTopic);
  let renewing: Promise<void> | undefined;
  const renew = async (broken: Producer): Promise<void> => {
    try {
      const fresh = await startProducer(endpoint, ingestTopic);
      producer = fresh;
      await broken.shutdown().catch(() => {});
    } catch {} // the next failed send tries again
  };
  return {
    async send({ body, properties, key }, topic, dueMs) {
      const all = new Map(Object.entries(properties)).set("ESC_TOPIC", topic).set("ESC_DELIVER_AT", String(dueMs));
      if (key !== undefined) all.set("ESC_KEY", key);
      const used = producer;
      try {
        await used.send({ topic: ingestTopic, body, properties: all });
        return { ok: true };
      } catch (error) {
        if (used === producer) {
          renewing ??= renew(used).finally(() => {
            renewing = undefined;
          });
        }
        return { ok: false, why: error instanceof Error ? error.message : String(error) };
      }
    },
    async close() {
      await renewing;
      await Promise.race([producer.shutdown().catch(() => {}), pause(startMaxMs)]); // rejects when the proxy is gone
    },
  };
};
