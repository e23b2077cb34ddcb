import { type Behaviour, must, timing } from "../behaviour.ts";
import { outcomeOf } from "../stage.ts";

/** Messages with a delivery time, and their recall. */

/** The finest timer of the real broker is about 100 ms late; here many clients share its machine. */
const lateMaxMs = 8_000;

export const time: readonly Behaviour[] = [
  {
    name: "delay",
    what: "a message with a delivery time is received at that time, never before",
    alsoOverTls: true,
    async run(stage) {
      const topic = await stage.topic("DELAY");
      const consumer = await stage.consumer(await stage.group(), topic);
      const producer = await stage.sender();
      const dueAtMs = [3_000, 3_500, 4_250, 6_000].map((delayMs) => Date.now() + delayMs);
      for (const [i, deliverAtMs] of dueAtMs.entries()) {
        await producer.send(topic, { body: String(i), deliverAtMs, tag: "t", keys: ["k"], properties: { p: "v" } });
      }
      const messages = await consumer.collect(4, { withinMs: 25_000, ack: true, different: true });
      const lateness = messages.map(({ body, atMs }) => atMs - dueAtMs[Number(body.toString())]!);
      must(Math.min(...lateness) >= 0, "nothing is delivered early");
      return {
        received: new Set(messages.map(({ messageId }) => messageId)).size,
        latest: timing(Math.max(...lateness), { to: lateMaxMs }),
        "with tag, key and property": messages.every(
          ({ tag, keys, properties }) => tag === "t" && keys.join() === "k" && properties.p === "v",
        ),
        "delivery time shown": messages.every(
          ({ body, deliverAtMs }) => deliverAtMs === dueAtMs[Number(body.toString())],
        )
          ? "as asked"
          : messages.every(({ deliverAtMs }) => deliverAtMs === undefined)
            ? "none"
            : "another",
        attempts: [...new Set(messages.map(({ attempt }) => attempt))].join(", "),
      };
    },
  },
  {
    name: "delay-in-the-past",
    what: "a delivery time in the past means at once; one that is too far away is refused",
    async run(stage) {
      const topic = await stage.topic("DELAY");
      const consumer = await stage.consumer(await stage.group(), topic);
      const producer = await stage.sender();
      const sentAtMs = Date.now();
      const sent = await outcomeOf(() => producer.send(topic, { body: "late", deliverAtMs: sentAtMs - 60_000 }));
      const [message] = await consumer.collect(1, { withinMs: 10_000, ack: true });
      const farAtMs = Date.now() + 400 * 86_400_000;
      return {
        "in the past": sent,
        received: message?.body.toString() ?? "nothing",
        after: timing((message?.atMs ?? Number.POSITIVE_INFINITY) - sentAtMs, { to: lateMaxMs }),
        "in 400 days": await outcomeOf(() => producer.send(topic, { body: "far", deliverAtMs: farAtMs })),
      };
    },
  },
  {
    name: "recall",
    what: "a delayed message that was recalled in time is never delivered",
    async run(stage) {
      const topic = await stage.topic("DELAY");
      const normal = await stage.topic();
      const consumer = await stage.consumer(await stage.group(), topic);
      const producer = await stage.sender();
      const other = await stage.sender();
      const deliverAtMs = Date.now() + 5_000;
      const recalled = await producer.send(topic, { body: "recalled", deliverAtMs });
      const kept = await producer.send(topic, { body: "kept", deliverAtMs });
      const plain = await other.send(normal, { body: "plain" });
      let idShown = "";
      const recall = await outcomeOf(async () => {
        const { messageId } = await producer.recall(topic, recalled.recallHandle ?? "");
        idShown = messageId === recalled.messageId ? "its own" : messageId === undefined ? "none" : "another";
      });
      const messages = await consumer.collect(2, { withinMs: 11_000, ack: true });
      const due = messages.map(({ body }) => body.toString());
      must(recall !== "ok" || !due.includes("recalled"), "nothing is delivered after its recall was confirmed");
      return {
        "handle of a delayed message": recalled.recallHandle === undefined ? "none" : "given",
        "handle of another message": plain.recallHandle === undefined ? "none" : "given",
        "recall in time": recall,
        "id in the answer": idShown,
        delivered: due.join(" "),
        "recall after the delivery": await outcomeOf(() => producer.recall(topic, kept.recallHandle ?? "")),
        "recall again": await outcomeOf(() => producer.recall(topic, recalled.recallHandle ?? "")),
        "recall of nonsense": await outcomeOf(() => producer.recall(topic, "bm9uc2Vuc2U=")),
        "recall under another topic": await outcomeOf(async () => {
          const { recallHandle } = await producer.send(topic, { body: "x", deliverAtMs: Date.now() + 60_000 });
          await producer.recall(normal, recallHandle ?? "");
        }),
      };
    },
  },
  {
    name: "delay-through-redelivery",
    what: "a delayed message that is not acknowledged comes again by its invisible time",
    async run(stage) {
      const topic = await stage.topic("DELAY");
      const consumer = await stage.consumer(await stage.group(), topic);
      const producer = await stage.sender();
      await producer.send(topic, { body: "x", deliverAtMs: Date.now() + 2_000 });
      const [first] = await consumer.collect(1, { withinMs: 12_000, invisibleMs: 2_000 });
      const firstAtMs = Date.now();
      const [second] = await consumer.collect(1, { withinMs: 20_000 });
      return {
        attempts: `${first?.attempt ?? "none"}, ${second?.attempt ?? "none"}`,
        "after 2 s": timing((second?.atMs ?? Number.POSITIVE_INFINITY) - firstAtMs, { from: 1_500, to: 14_000 }),
      };
    },
  },
];
