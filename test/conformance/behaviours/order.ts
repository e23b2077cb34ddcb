import type { Behaviour } from "../behaviour.ts";
import type { ConsumerOnStage, Received } from "../stage.ts";

/** Message groups, read by an orderly consumer group. */

/** A send that was late is sent again by the client, with the same id: what counts is when a message comes first. */
const firstDeliveries = (messages: readonly Received[]): Received[] =>
  messages.filter((message, i) => messages.findIndex(({ messageId }) => messageId === message.messageId) === i);

const perGroup = (messages: readonly Received[]): Map<string, string[]> => {
  const lists = new Map<string, string[]>();
  for (const { messageGroup = "none", body } of firstDeliveries(messages)) {
    lists.set(messageGroup, [...(lists.get(messageGroup) ?? []), body.toString()]);
  }
  return lists;
};

/** Polls one by one for so long and acknowledges what `isKept` does not keep. */
const drain = async (
  consumer: ConsumerOnStage,
  options: { withinMs: number; invisibleMs: number; isKept?: (message: Received) => boolean; until?: number },
): Promise<Received[]> => {
  const { withinMs, invisibleMs, isKept = () => false, until = Number.POSITIVE_INFINITY } = options;
  const endMs = Date.now() + withinMs;
  const all: Received[] = [];
  while (Date.now() < endMs && all.length < until) {
    for (const message of await consumer.receive(1, invisibleMs)) {
      all.push(message);
      if (!isKept(message)) await consumer.ack(message.handle);
    }
  }
  return all;
};

const inOrder = (bodies: readonly string[]): boolean => bodies.every((body, i) => Number(body) === i);

export const order: readonly Behaviour[] = [
  {
    name: "fifo-order",
    what: "messages of a group come in the order in which they were sent",
    async run(stage) {
      const topic = await stage.topic("FIFO");
      const group = await stage.group({ orderly: true });
      const consumer = await stage.consumer(group, topic);
      const producer = await stage.sender();
      const names = ["a", "b", "c"];
      for (let i = 0; i < 10; i++) {
        await Promise.all(names.map((messageGroup) => producer.send(topic, { body: String(i), messageGroup })));
      }
      const messages: Received[] = [];
      const endMs = Date.now() + 40_000;
      while (firstDeliveries(messages).length < 30 && Date.now() < endMs) {
        // The first poll takes several at once, as a consumer would; what it took is acknowledged in order.
        for (const message of await consumer.receive(messages.length === 0 ? 8 : 1)) {
          messages.push(message);
          await consumer.ack(message.handle);
        }
      }
      const lists = perGroup(messages);
      return {
        received: firstDeliveries(messages).length,
        groups: [...lists.keys()].sort().join(" "),
        "in order": names.every((name) => inOrder(lists.get(name) ?? [])),
      };
    },
  },
  {
    name: "fifo-redelivery",
    what: "the next of a group waits for the one before, also through its redelivery",
    async run(stage) {
      const topic = await stage.topic("FIFO");
      const group = await stage.group({ orderly: true });
      const consumer = await stage.consumer(group, topic);
      const producer = await stage.sender();
      for (let i = 0; i < 3; i++) await producer.send(topic, { body: String(i), messageGroup: "a" });
      const [first] = await consumer.collect(1, { withinMs: 10_000, max: 1, invisibleMs: 3_000 });
      const rest = await drain(consumer, { withinMs: 20_000, invisibleMs: 10_000, until: 3 });
      const all = first === undefined ? rest : [first, ...rest];
      return {
        "came as": all.map(({ body }) => body.toString()).join(" "),
        "attempt of the second": rest[0]?.attempt ?? "none",
      };
    },
  },
  {
    name: "fifo-blocked-group",
    what: "a group whose head is not acknowledged does not hold up other groups",
    async run(stage) {
      const facts: Record<string, string> = {};
      await Promise.all(
        [8, 1].map(async (queues) => {
          const topic = await stage.topic("FIFO", queues);
          const group = await stage.group({ orderly: true });
          const consumer = await stage.consumer(group, topic, { awaitMs: 1_000 });
          const producer = await stage.sender();
          // With eight queues some of these groups are in other queues than the blocked one, whatever the hash.
          const names = ["blocked", ...Array.from({ length: 12 }, (_, i) => `free${i}`)];
          for (const messageGroup of names) {
            for (let i = 0; i < 2; i++) await producer.send(topic, { body: String(i), messageGroup });
          }
          const isKept = ({ messageGroup }: Received) => messageGroup === "blocked";
          const lists = perGroup(await drain(consumer, { withinMs: 12_000, invisibleMs: 60_000, isKept, until: 25 }));
          const label = queues === 1 ? "in its queue too" : "in other queues";
          const others = names.filter((name) => name !== "blocked" && lists.has(name)).length;
          const free = queues === 1 ? (others === 12 ? "all move on" : others === 0 ? "wait" : "some wait") : undefined;
          facts[`other groups ${label}`] = free ?? (others > 0 ? "move on" : "wait");
          facts[`of the blocked group, ${queues} queue${queues > 1 ? "s" : ""}`] = (lists.get("blocked") ?? []).join(
            " ",
          );
          facts[`order of the others, ${queues} queue${queues > 1 ? "s" : ""}`] = [...lists]
            .filter(([name]) => name !== "blocked")
            .every(([, bodies]) => inOrder(bodies))
            ? "kept"
            : "broken";
        }),
      );
      return Object.fromEntries(Object.entries(facts).sort());
    },
  },
];
