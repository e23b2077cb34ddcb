import { setTimeout as pause } from "node:timers/promises";
import { type Behaviour, must, timing } from "../behaviour.ts";
import { outcomeOf } from "../stage.ts";

/** A message goes in and comes out: once, whole, and with everything that was attached to it. */

const everyByte = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
const unicode = "ключ 鍵 🔑 é\u00a0ø";
const mebibyte = 1_048_576;

/** Not random, so that a wrong body is the same wrong body again, and not compressible by accident. */
const patterned = (bytes: number): Buffer => {
  const body = Buffer.allocUnsafe(bytes);
  let state = bytes | 1;
  for (let at = 0; at < bytes; at++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    body[at] = state >>> 24;
  }
  return body;
};

export const sending: readonly Behaviour[] = [
  {
    name: "send-receive-ack",
    what: "a message is received once, with the id of its receipt, and is gone when acknowledged",
    alsoOverTls: true,
    async run(stage) {
      const topic = await stage.topic();
      const group = await stage.group();
      const consumer = await stage.consumer(group, topic);
      const producer = await stage.producer([topic]);
      const before = Date.now();
      const { messageId } = await producer.send(topic, { body: everyByte });
      const [message, ...more] = await consumer.collect(1, { withinMs: 10_000, invisibleMs: 3_000 });
      must(message !== undefined, "what was sent is received");
      await consumer.ack(message!.handle);
      const later = await consumer.collect(1, { withinMs: 5_000 });
      return {
        received: 1 + more.length,
        "body intact": message!.body.equals(everyByte),
        "id of the receipt": message!.messageId === messageId,
        topic: message!.topic === topic,
        attempt: message!.attempt,
        "born when sent": Math.abs(message!.bornAtMs - before) < 30_000,
        "again after the acknowledgement": later.length,
      };
    },
  },
  {
    name: "two-hundred",
    what: "200 messages sent at once are all received",
    alsoOverTls: true,
    async run(stage) {
      const topic = await stage.topic();
      const group = await stage.group();
      const consumer = await stage.consumer(group, topic);
      const producer = await stage.sender();
      const bodies = Array.from({ length: 200 }, (_, i) => `message ${i}`);
      const sent = await Promise.all(bodies.map((body) => producer.send(topic, { body })));
      const messages = await consumer.collect(200, { withinMs: 60_000, ack: true, different: true });
      const bodiesSeen = new Set(messages.map(({ body }) => body.toString()));
      const idsSeen = new Set(messages.map(({ messageId }) => messageId));
      must(
        bodies.every((body) => bodiesSeen.has(body)),
        "nothing acknowledged is lost",
      );
      return {
        received: bodiesSeen.size,
        "ids of the receipts": sent.every(({ messageId }) => idsSeen.has(messageId)),
      };
    },
  },
  {
    name: "batch",
    what: "64 messages in one call arrive as 64 messages with their own ids, keys and tags",
    clients: ["node"],
    async run(stage) {
      const topic = await stage.topic();
      const group = await stage.group();
      const consumer = await stage.consumer(group, topic);
      const producer = await stage.sender();
      const messages = Array.from({ length: 64 }, (_, i) => ({
        body: `message ${i}`,
        tag: `tag${i % 3}`,
        keys: [`key${i}`],
        properties: { number: String(i) },
      }));
      const { messageIds, receipts } = await producer.sendBatch(topic, messages);
      const seen = await consumer.collect(64, { withinMs: 40_000, ack: true, different: true });
      const byId = new Map(seen.map((message) => [message.messageId, message]));
      return {
        receipts: receipts.length,
        received: byId.size,
        "ids as the sender set them": messageIds.every((id) => byId.has(id)),
        "each with its own": messages.every(({ body, tag, keys, properties }, i) => {
          const message = byId.get(messageIds[i]!);
          const { number } = message?.properties ?? {};
          return (
            message?.body.toString() === body &&
            message.tag === tag &&
            message.keys.join() === keys.join() &&
            number === properties.number
          );
        }),
      };
    },
  },
  {
    name: "fidelity",
    what: "keys, tag, properties and body arrive as sent, Unicode and every byte included",
    async run(stage) {
      const topic = await stage.topic();
      const group = await stage.group();
      const consumer = await stage.consumer(group, topic);
      const producer = await stage.sender();
      const properties = { plain: "value", [unicode]: unicode, "a.b-c_d": "1 2  3", json: '{"a":[1,"\\"]}' };
      await producer.send(topic, { body: everyByte, tag: "tag-é", keys: ["k1", "k2", "клю́ч"], properties });
      await producer.send(topic, { body: unicode });
      const messages = await consumer.collect(2, { withinMs: 20_000, ack: true, different: true });
      const full = messages.find(({ body }) => body.equals(everyByte));
      const bare = messages.find(({ body }) => body.toString() === unicode);
      must(full !== undefined && bare !== undefined, "both bodies arrive as sent");
      const seen = full!.properties;
      const sorted = (of: Readonly<Record<string, string>>) => JSON.stringify(Object.entries(of).sort());
      return {
        tag: full!.tag ?? "none",
        keys: full!.keys.join(" "),
        "properties as sent": sorted(seen) === sorted(properties) ? "yes" : `no: ${sorted(seen)}`,
        "without a tag": bare!.tag ?? "none",
        "without keys": bare!.keys.length,
        "without properties": sorted(bare!.properties),
      };
    },
  },
  {
    name: "body-sizes",
    what: "bodies of 1 byte, 1 MiB and nearly 4 MiB arrive whole",
    async run(stage) {
      const facts: Record<string, string> = {};
      const producer = await stage.sender();
      for (const bytes of [1, mebibyte, 4_000_000, 4 * mebibyte]) {
        const topic = await stage.topic();
        const consumer = await stage.consumer(await stage.group(), topic);
        const body = patterned(bytes);
        const sent = await outcomeOf(() => producer.send(topic, { body }));
        let received = "not sent";
        if (sent === "ok") {
          received = "not received";
          const outcome = await outcomeOf(async () => {
            const [message] = await consumer.collect(1, { withinMs: bytes > 4_000_000 ? 8_000 : 25_000, ack: true });
            if (message !== undefined) received = message.body.equals(body) ? "received whole" : "received damaged";
          });
          if (outcome !== "ok") received = outcome;
        }
        facts[`${bytes} B`] = sent === "ok" ? received : sent;
      }
      return facts;
    },
  },
  {
    name: "long-poll",
    what: "a message that arrives during an open poll ends it; a poll of nothing ends in time",
    async run(stage) {
      const topic = await stage.topic();
      const group = await stage.group();
      const consumer = await stage.consumer(group, topic, { awaitMs: 3_000 });
      const producer = await stage.sender();
      // What is said once at the beginning (routes, connections) belongs to neither time.
      await producer.send(topic, { body: "first" });
      await consumer.collect(1, { withinMs: 10_000, ack: true });
      let emptyAt = Date.now();
      const empty = await consumer.receive(16);
      const emptyMs = Date.now() - emptyAt;
      emptyAt = Date.now();
      const open = consumer.receive(16);
      await pause(1_000);
      const sentAt = Date.now();
      await producer.send(topic, { body: "second" });
      const messages = await open;
      return {
        "received by the empty poll": empty.length,
        "the empty poll of 3 s took": timing(emptyMs, { from: 2_500, to: 8_000 }),
        "received by the open poll": messages.length,
        "after the sending": timing((messages[0]?.atMs ?? Number.POSITIVE_INFINITY) - sentAt, { to: 2_000 }),
      };
    },
  },
];
