import type { Behaviour } from "../behaviour.ts";
import { type Outgoing, outcomeOf, type Stage } from "../stage.ts";

/** What is refused, and with which code. Clients check some of it themselves and then no broker is asked. */

/** A producer that sent a bad name never gets rid of it, so each refusal has one of its own. */
const refusalOf = (stage: Stage, topic: string, message: Outgoing): Promise<string> =>
  outcomeOf(async () => (await stage.producer([])).send(topic, message));

const refusalsOf = async (stage: Stage, topic: string, cases: Readonly<Record<string, Outgoing>>) => {
  const outcomes = await Promise.all(
    Object.entries(cases).map(async ([name, message]) => [name, await refusalOf(stage, topic, message)] as const),
  );
  return Object.fromEntries(outcomes);
};

export const refusals: readonly Behaviour[] = [
  {
    name: "unknown-topic",
    what: "a topic that does not exist",
    async run(stage) {
      const missing = `MISSING_${Date.now()}_${stage.client}`;
      const group = await stage.group();
      const { stage: elsewhere } = await stage.another();
      const [send, listed, consumer] = await Promise.all([
        refusalOf(elsewhere, missing, {}),
        outcomeOf(() => elsewhere.producer([`${missing}_P`])),
        outcomeOf(async () => (await elsewhere.consumer(group, `${missing}_C`)).receive(1)),
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
        "delayed to a normal topic": await refusalOf(stage, normal!, { deliverAtMs }),
        "with a group to a normal topic": await refusalOf(stage, normal!, { messageGroup: "g" }),
        "plain to a delay topic": await refusalOf(stage, delay!, {}),
        "plain to a FIFO topic": await refusalOf(stage, fifo!, {}),
        "delayed to a FIFO topic": await refusalOf(stage, fifo!, { deliverAtMs }),
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
      const { stage: elsewhere } = await stage.another();
      const names = { "with a blank": "not a topic", "with a dot": "not.a.topic", "128 long": "x".repeat(128) };
      const facts: Record<string, string> = {};
      for (const [what, name] of Object.entries(names)) facts[what] = await refusalOf(elsewhere, name, {});
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
        "a message group of 64 bytes": await refusalOf(stage, fifo, { messageGroup: "g".repeat(64) }),
        "a message group of 63 bytes": await refusalOf(stage, fifo, { messageGroup: "g".repeat(63) }),
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
      const producer = await stage.producer([topic]);
      await producer.send(topic);
      const facts: Record<string, string> = {
        "invisible for 13 h": await outcomeOf(() => consumer.receive(1, 13 * 3_600_000)),
        "invisible for 0 s": await outcomeOf(() => consumer.receive(1, 0)),
      };
      const { stage: elsewhere } = await stage.another();
      facts["an illegal group name"] = await outcomeOf(async () =>
        (await elsewhere.consumer("not a group", topic)).receive(1),
      );
      return facts;
    },
  },
];
