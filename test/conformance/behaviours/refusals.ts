import type { Behaviour } from "../behaviour.ts";
import { type Outgoing, outcomeOf, type Stage } from "../stage.ts";

/** What is refused, and with which code. Clients check some of it themselves and then no broker is asked. */

const refusalsOf = async (stage: Stage, topic: string, cases: Readonly<Record<string, Outgoing>>) => {
  const sender = await stage.sender();
  const facts: Record<string, string> = {};
  for (const [name, message] of Object.entries(cases)) {
    facts[name] = await outcomeOf(() => sender.send(topic, message));
  }
  return facts;
};

export const refusals: readonly Behaviour[] = [
  {
    name: "unknown-topic",
    what: "a topic that does not exist",
    async run(stage) {
      const missing = `MISSING_${Date.now()}_${stage.client}`;
      const group = await stage.group();
      const [send, listed, consumer] = await Promise.all([
        outcomeOf(async () => (await stage.producer([])).send(missing)),
        outcomeOf(() => stage.producer([`${missing}_P`])),
        outcomeOf(async () => (await stage.consumer(group, `${missing}_C`)).receive(1)),
      ]);
      return { "send to it": send, "producer that lists it": listed, "consumer of it": consumer };
    },
  },
  {
    name: "wrong-type",
    what: "a message of another type than its topic's",
    async run(stage) {
      const [normal, fifo, delay] = await Promise.all([
        stage.topic("NORMAL"),
        stage.topic("FIFO"),
        stage.topic("DELAY"),
      ]);
      const deliverAtMs = Date.now() + 60_000;
      return {
        ...(await refusalsOf(stage, normal!, {
          "delayed to a normal topic": { deliverAtMs },
          "with a group to a normal topic": { messageGroup: "g" },
        })),
        ...(await refusalsOf(stage, delay!, { "plain to a delay topic": {} })),
        ...(await refusalsOf(stage, fifo!, {
          "plain to a FIFO topic": {},
          "delayed to a FIFO topic": { deliverAtMs },
        })),
        "transaction to a normal topic": await outcomeOf(async () =>
          (await stage.producer([], { check: "commit" })).sendTransaction(normal!, "commit"),
        ),
      };
    },
  },
  {
    name: "illegal-topic-names",
    what: "names that no topic can have",
    async run(stage) {
      const names = { "with a blank": "not a topic", "with a dot": "not.a.topic", "128 long": "x".repeat(128) };
      const facts: Record<string, string> = {};
      for (const [what, name] of Object.entries(names)) {
        // A client that was once given a bad name asks for it for ever: each name has a producer of its own.
        facts[what] = await outcomeOf(async () => (await stage.producer([])).send(name));
      }
      return facts;
    },
  },
  {
    name: "body-refused",
    what: "bodies that are empty or too large",
    async run(stage) {
      const topic = await stage.topic();
      return await refusalsOf(stage, topic, {
        empty: { body: "" },
        "4 MiB and one byte": { body: Buffer.alloc(4_194_305, 1) },
      });
    },
  },
  {
    name: "properties-refused",
    what: "properties, tags, keys and groups beyond what is allowed",
    async run(stage) {
      const topic = await stage.topic();
      const fifo = await stage.topic("FIFO");
      const many = Object.fromEntries(Array.from({ length: 129 }, (_, i) => [`p${i}`, "v"]));
      return {
        ...(await refusalsOf(stage, topic, {
          "a reserved property": { properties: { TAGS: "x" } },
          "129 properties": { properties: many },
          "properties of 17 KiB": { properties: { p: "v".repeat(17 * 1_024) } },
          "a control character in a value": { properties: { p: "a\u0001b" } },
          "a tag with |": { tag: "a|b" },
          "a blank tag": { tag: " " },
          "a blank key": { keys: [" "] },
        })),
        ...(await refusalsOf(stage, fifo, {
          "a message group of 64 bytes": { messageGroup: "g".repeat(64) },
          "a message group of 63 bytes": { messageGroup: "g".repeat(63) },
        })),
      };
    },
  },
  {
    name: "consumer-refused",
    what: "polls and invisible times beyond what is allowed",
    async run(stage) {
      const topic = await stage.topic();
      const group = await stage.group();
      const consumer = await stage.consumer(group, topic);
      const producer = await stage.sender();
      await producer.send(topic);
      const facts: Record<string, string> = {
        "invisible for 13 h": await outcomeOf(() => consumer.receive(1, 13 * 3_600_000)),
        "invisible for 0 s": await outcomeOf(() => consumer.receive(1, 0)),
      };
      facts["an illegal group name"] = await outcomeOf(async () =>
        (await stage.consumer("not a group", topic)).receive(1),
      );
      return facts;
    },
  },
];
