import { setTimeout as pause } from "node:timers/promises";
import { type Behaviour, must } from "../behaviour.ts";
import { type Stage, until } from "../stage.ts";

/** Transactional messages: visible when committed, never when rolled back, asked about when left open. */

const checkMaxMs = 20_000;

const prepared = async (stage: Stage, check: "commit" | "rollback" | "unknown") => {
  const topic = await stage.topic("TRANSACTION");
  const consumer = await stage.consumer(await stage.group(), topic);
  const producer = await stage.producer([topic], { check });
  return { topic, consumer, producer };
};

const phase = "transactions";

export const transactions: readonly Behaviour[] = [
  {
    name: "transaction-commit",
    what: "committed messages are received once each",
    phase,
    async run(stage) {
      const { topic, consumer, producer } = await prepared(stage, "unknown");
      for (let i = 0; i < 5; i++) {
        const body = `committed ${i}`;
        await producer.sendTransaction(topic, "commit", { body, tag: "t", keys: ["k"], properties: { p: "v" } });
      }
      const messages = await consumer.collect(6, { withinMs: 7_000, ack: true });
      const bodies = new Set(messages.map(({ body }) => body.toString()));
      must(bodies.size === 5, "what was committed is received");
      return {
        received: messages.length,
        "with tag, key and property": messages.every(
          ({ tag, keys, properties }) => tag === "t" && keys.join() === "k" && properties.p === "v",
        ),
        "other properties": Object.keys(messages[0]!.properties)
          .filter((name) => name !== "p")
          .sort()
          .join(" "),
      };
    },
  },
  {
    name: "transaction-rollback",
    what: "messages that were rolled back are not received",
    phase,
    async run(stage) {
      const { topic, consumer, producer } = await prepared(stage, "rollback");
      for (let i = 0; i < 5; i++) await producer.sendTransaction(topic, "rollback", { body: `rolled back ${i}` });
      const messages = await consumer.collect(1, { withinMs: 8_000 });
      must(messages.length === 0, "what was rolled back is not received");
      return { received: messages.length };
    },
  },
  {
    name: "transaction-check-commit",
    what: "a transaction that was left open is asked about, and received when the answer is commit",
    phase,
    async run(stage) {
      const { topic, consumer, producer } = await prepared(stage, "commit");
      const { messageId } = await producer.sendTransaction(topic, "leave", { body: "left", properties: { p: "v" } });
      const early = await consumer.receive(1, 30_000);
      await until(() => producer.checks.length > 0, checkMaxMs);
      const asked = producer.checks[0];
      const [message] = await consumer.collect(1, { withinMs: 10_000, ack: true });
      return {
        // The first check may come while the first poll is still open.
        "received before it was asked about": early.length > 0 && asked === undefined,
        "asked about": asked === undefined ? "no" : "yes",
        "by its id": asked?.messageId === messageId,
        "with its property": asked?.properties.p ?? "none",
        received: (early[0] ?? message)?.body.toString() ?? "nothing",
      };
    },
  },
  {
    name: "transaction-check-rollback",
    what: "a transaction that was left open is asked about, and never received when the answer is rollback",
    phase,
    async run(stage) {
      const { topic, consumer, producer } = await prepared(stage, "rollback");
      await producer.sendTransaction(topic, "leave", { body: "left" });
      await until(() => producer.checks.length > 0, checkMaxMs);
      const messages = await consumer.collect(1, { withinMs: 6_000 });
      must(messages.length === 0, "what was rolled back is not received");
      return { "asked about": producer.checks.length > 0, received: messages.length };
    },
  },
  {
    name: "transaction-check-unknown",
    what: "a transaction whose check has no answer is not received, and asked about again",
    phase,
    async run(stage) {
      const { topic, consumer, producer } = await prepared(stage, "unknown");
      await producer.sendTransaction(topic, "leave", { body: "left" });
      await until(() => producer.checks.length > 1, checkMaxMs);
      await pause(500);
      const messages = await consumer.collect(1, { withinMs: 2_000 });
      must(messages.length === 0, "what was not committed is not received");
      return { "asked about more than once": producer.checks.length > 1, received: messages.length };
    },
  },
];
