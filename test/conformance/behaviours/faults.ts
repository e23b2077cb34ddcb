import { setTimeout as pause } from "node:timers/promises";
import { type Behaviour, must, timing } from "../behaviour.ts";
import { type ConsumerOnStage, type Received, refusalText } from "../stage.ts";

/** The broker is killed in the middle and started again with the same data. */

/** The real proxy answers as if topics were missing until its broker has registered again. */
const recoverMaxMs = 60_000;
/** Node, Java and Go go on within seconds; Python, with the real broker, after nearly nine minutes. */
const receivesAgainMaxMs = 30_000;

export const faults: readonly Behaviour[] = [
  {
    name: "restart",
    what: "the broker is killed and started again: nothing acknowledged is lost, and the client finds it again by itself",
    phase: "restart",
    async run(stage) {
      const topic = await stage.topic();
      const delayed = await stage.topic("DELAY");
      const group = await stage.group();
      const delayedGroup = await stage.group();
      const producer = await stage.producer([topic]);
      const delayedProducer = await stage.producer([delayed]);
      const consumer = await stage.consumer(group, topic);
      const delayedConsumer = await stage.consumer(delayedGroup, delayed);
      const before = Array.from({ length: 100 }, (_, i) => `before ${i}`);
      await Promise.all(before.map((body) => producer.send(topic, { body, tag: "t", properties: { p: "v" } })));
      await delayedProducer.send(delayed, { body: "due later", deliverAtMs: Date.now() + 15_000 });
      const taken = await consumer.collect(40, { withinMs: 15_000, invisibleMs: 8_000, max: 10 });
      const acknowledged = taken.slice(0, 20);
      await Promise.all(acknowledged.map(({ handle }) => consumer.ack(handle)));
      await pause(1_000); // what the broker wrote just before is in the page cache, and this is no power cut

      await stage.restart();
      const upAtMs = Date.now();
      const insist = async <T>(act: () => Promise<T>, withinMs = recoverMaxMs): Promise<T> => {
        const endMs = Date.now() + withinMs;
        for (;;) {
          try {
            return await act();
          } catch (error) {
            if (Date.now() > endMs) throw error;
            await pause(250);
          }
        }
      };
      await insist(() => producer.send(topic, { body: "after" }));
      const sendsAgainMs = Date.now() - upAtMs;
      const seen = new Set(acknowledged.map(({ body }) => body.toString()));
      const messages: Received[] = [];
      const take = async (from: ConsumerOnStage): Promise<void> => {
        for (const message of await from.receive(16, 30_000)) {
          messages.push(message);
          seen.add(message.body.toString());
          await from.ack(message.handle).catch(() => {}); // it comes again, then
        }
      };
      // A client that does not find its broker again is not left at that: a new consumer shows whether all is there.
      const goesOn = await insist(() => take(consumer), receivesAgainMaxMs).then(() => "ok", refusalText);
      const [receiving, delayedReceiving] =
        goesOn === "ok"
          ? [consumer, delayedConsumer]
          : [await stage.consumer(group, topic), await stage.consumer(delayedGroup, delayed)];
      const isComplete = () => [...before, "after"].every((body) => seen.has(body));
      while (!isComplete() && Date.now() - upAtMs < recoverMaxMs + receivesAgainMaxMs) {
        await insist(() => take(receiving));
      }
      must(isComplete(), `nothing acknowledged is lost (${101 - seen.size} of 101 messages did not come)`);
      const [late] = await insist(() => delayedReceiving.collect(1, { withinMs: 30_000, ack: true }));
      must(late?.body.toString() === "due later", "a delayed message survives the restart");
      return {
        lost: 0,
        "tags kept": messages.every(({ body, tag }) => body.toString() === "after" || tag === "t"),
        "sends again": timing(sendsAgainMs, { to: recoverMaxMs }),
        "the open consumer goes on": goesOn === "ok" ? "yes" : `no: ${goesOn}`,
        "a delayed message": "delivered",
      };
    },
  },
];
