import { setTimeout as pause } from "node:timers/promises";
import type { Behaviour } from "../behaviour.ts";
import { outcomeOf, type Received, until } from "../stage.ts";

/** Who gets what: consumers of one group share, groups do not; filters; push consumers. */

const bodiesOf = (messages: readonly Received[]): string =>
  messages
    .map(({ body }) => body.toString())
    .sort()
    .join(" ");

export const groups: readonly Behaviour[] = [
  {
    name: "one-group-shares",
    what: "two consumers of one group get each message once between them",
    async run(stage) {
      const topic = await stage.topic();
      const group = await stage.group();
      const [a, b] = await Promise.all([stage.consumer(group, topic), stage.consumer(group, topic)]);
      const producer = await stage.sender();
      const sent = Array.from({ length: 40 }, (_, i) => `message ${i}`);
      await Promise.all(sent.map((body) => producer.send(topic, { body })));
      const left = new Set(sent);
      const take = async (consumer: typeof a): Promise<Received[]> => {
        const all: Received[] = [];
        const endMs = Date.now() + 40_000;
        while (left.size > 0 && Date.now() < endMs) {
          const messages = await consumer.receive(4);
          for (const { body } of messages) left.delete(body.toString());
          all.push(...messages);
          await Promise.all(messages.map(({ handle }) => consumer.ack(handle)));
        }
        return all;
      };
      const [byA, byB] = await Promise.all([take(a), take(b)]);
      const all = [...byA, ...byB];
      return {
        received: new Set(all.map(({ body }) => body.toString())).size,
        "both got some": byA.length > 0 && byB.length > 0,
      };
    },
  },
  {
    name: "two-groups-each-all",
    what: "two groups each get every message",
    async run(stage) {
      const topic = await stage.topic();
      const [a, b] = await Promise.all([
        stage.consumer(await stage.group(), topic),
        stage.consumer(await stage.group(), topic),
      ]);
      const producer = await stage.sender();
      for (let i = 0; i < 20; i++) await producer.send(topic, { body: `message ${i}` });
      const [byA, byB] = await Promise.all(
        [a, b].map((consumer) => consumer.collect(20, { withinMs: 30_000, ack: true, different: true })),
      );
      return { "first group": byA!.length, "second group": byB!.length, "the same": bodiesOf(byA!) === bodiesOf(byB!) };
    },
  },
  {
    name: "a-later-group",
    what: "a group that comes after the messages",
    async run(stage) {
      const topic = await stage.topic();
      const producer = await stage.sender();
      for (let i = 0; i < 10; i++) await producer.send(topic, { body: `message ${i}` });
      const late = await stage.consumer(await stage.group(), topic);
      const before = await late.collect(10, { withinMs: 4_000, ack: true });
      await producer.send(topic, { body: "afterwards" });
      const after = await late.collect(1, { withinMs: 5_000, ack: true });
      return { "gets of the 10 before it": before.length, "gets what follows": bodiesOf(after) };
    },
  },
  {
    name: "tag-filter",
    what: "a tag filter passes its tags and no others, and what it keeps back is not delivered later",
    async run(stage) {
      const topic = await stage.topic();
      const filters = ["A", "A || B", "*", "none-has-this"];
      const consumers = await Promise.all(
        filters.map(async (filter) => stage.consumer(await stage.group(), topic, { filter })),
      );
      const producer = await stage.sender();
      for (const tag of ["A", "B", "C", undefined]) {
        await producer.send(topic, { body: tag ?? "untagged", ...(tag === undefined ? {} : { tag }) });
      }
      const seen = await Promise.all(
        consumers.map((consumer) => consumer.collect(5, { withinMs: 5_000, ack: true }).then(bodiesOf)),
      );
      return Object.fromEntries(filters.map((filter, i) => [`filter ${filter}`, seen[i] || "nothing"]));
    },
  },
  {
    name: "sql-filter",
    what: "an SQL92 filter on properties",
    async run(stage) {
      const topic = await stage.topic();
      const group = await stage.group();
      const producer = await stage.sender();
      let seen = "";
      const outcome = await outcomeOf(async () => {
        const consumer = await stage.consumer(group, topic, { filter: "price > 10", filterType: "sql" });
        await producer.send(topic, { body: "cheap", properties: { price: "5" } });
        await producer.send(topic, { body: "dear", properties: { price: "15" } });
        seen = bodiesOf(await consumer.collect(2, { withinMs: 5_000, ack: true }));
      });
      return { "a consumer with a filter": outcome === "ok" ? seen || "nothing" : outcome };
    },
  },
  {
    name: "push",
    what: "a push consumer is handed every message once",
    alsoOverTls: true,
    async run(stage) {
      const topic = await stage.topic();
      const group = await stage.group();
      const producer = await stage.sender();
      const pushed = await stage.push(group, topic);
      for (let i = 0; i < 20; i++) await producer.send(topic, { body: `message ${i}`, tag: "t", keys: ["k"] });
      await until(() => pushed.length >= 20, 20_000);
      await pause(3_000);
      return {
        pushed: new Set(pushed.map(({ body }) => body.toString())).size,
        "with tag and key": pushed.every(({ tag, keys }) => tag === "t" && keys.join() === "k"),
        attempts: [...new Set(pushed.map(({ attempt }) => attempt))].join(", "),
      };
    },
  },
  {
    name: "push-fails",
    what: "what a push consumer's listener refuses is handed to it again",
    isLong: true,
    async run(stage) {
      const topic = await stage.topic();
      const group = await stage.group();
      const producer = await stage.sender();
      const pushed = await stage.push(group, topic, { failFirst: 1 });
      await producer.send(topic, { body: "once refused" });
      // The clients make very different things of the group's schedule: 3 s, 20 s and 40 s were seen.
      await until(() => pushed.length >= 2, 70_000);
      await pause(1_000);
      return {
        attempts: pushed.map(({ attempt }) => attempt).join(", "),
        "the same message": new Set(pushed.map(({ messageId }) => messageId)).size === 1,
      };
    },
  },
];
