import { setTimeout as pause } from "node:timers/promises";
import { type Behaviour, must, timing } from "../behaviour.ts";
import { ClientRefusal } from "../driver-process.ts";
import { type ConsumerOnStage, outcomeOf, type Received, type Stage } from "../stage.ts";

/** What is not acknowledged comes again, when its invisible time is over and not before. */

/** The real broker redelivers two to six seconds late, and later on a busy machine. */
const invisibleMs = 2_000;
const lateMaxMs = 12_000;
/** What is seen late the first time and at once the second seems to have come back sooner than it did. */
const seenLateMs = 500;
const deadLetterMaxMs = 30_000;

const oneMessage = async (stage: Stage, firstInvisibleMs: number) => {
  const topic = await stage.topic();
  const group = await stage.group();
  const consumer = await stage.consumer(group, topic);
  const producer = await stage.sender();
  await producer.send(topic, { body: "again", tag: "t", keys: ["k"], properties: { p: "v" } });
  const [first] = await consumer.collect(1, { withinMs: 20_000, invisibleMs: firstInvisibleMs });
  must(first !== undefined, "what was sent is received");
  return { topic, group, consumer, first: first! };
};

const next = async (
  consumer: ConsumerOnStage,
  withinMs: number,
  nextInvisibleMs = 30_000,
): Promise<Received | undefined> => (await consumer.collect(1, { withinMs, invisibleMs: nextInvisibleMs }))[0];

/**
 * The dead letter topic exists from its first message on, and the Go client cannot start on a topic that does not
 * exist yet. It is a poll that moves the message there, so whoever waits for it must go on polling.
 */
const readerOfDeadLetters = async (
  stage: Stage,
  group: string,
  poll: () => Promise<void>,
): Promise<ConsumerOnStage> => {
  const readers = await stage.group();
  const endMs = Date.now() + deadLetterMaxMs;
  for (;;) {
    try {
      return await stage.consumer(readers, `%DLQ%${group}`);
    } catch (error) {
      if (!(error instanceof ClientRefusal) || Date.now() > endMs) throw error;
      await poll();
    }
  }
};

const sinceMs = (message: Received | undefined, atMs: number) => (message?.atMs ?? Number.POSITIVE_INFINITY) - atMs;

export const redelivery: readonly Behaviour[] = [
  {
    name: "redelivery",
    what: "a message that was not acknowledged comes again after its invisible time, the same, with the attempt counted",
    alsoOverTls: true,
    async run(stage) {
      const { consumer, first } = await oneMessage(stage, invisibleMs);
      const second = await next(consumer, 20_000, invisibleMs);
      const third = await next(consumer, 20_000);
      const same = (a: Received, b: Received | undefined) =>
        b?.messageId === a.messageId && b.body.equals(a.body) && b.tag === a.tag && b.properties.p === a.properties.p;
      return {
        attempts: [first, second, third].map((one) => one?.attempt ?? "none").join(", "),
        "the same message": same(first, second) && same(first, third),
        "after 2 s": timing(sinceMs(second, first.atMs), {
          from: invisibleMs - seenLateMs,
          to: invisibleMs + lateMaxMs,
        }),
        "again after 2 s": timing(sinceMs(third, second?.atMs ?? 0), {
          from: invisibleMs - seenLateMs,
          to: invisibleMs + lateMaxMs,
        }),
      };
    },
  },
  {
    name: "change-invisible-longer",
    what: "a longer invisible time holds the message back for that long",
    async run(stage) {
      const { consumer, first } = await oneMessage(stage, invisibleMs);
      const changedAtMs = Date.now();
      await consumer.changeInvisible(first.handle, 5_000);
      const second = await next(consumer, 20_000);
      return {
        "attempt of the next": second?.attempt ?? "none",
        "after 5 s": timing(sinceMs(second, changedAtMs), { from: 5_000 - seenLateMs, to: 5_000 + lateMaxMs }),
      };
    },
  },
  {
    name: "change-invisible-shorter",
    what: "a shorter invisible time brings the message again sooner",
    async run(stage) {
      const { consumer, first } = await oneMessage(stage, 60_000);
      const changedAtMs = Date.now();
      await consumer.changeInvisible(first.handle, 1_000);
      const second = await next(consumer, 20_000);
      return {
        "attempt of the next": second?.attempt ?? "none",
        "after 1 s instead of 60": timing(sinceMs(second, changedAtMs), {
          from: 1_000 - seenLateMs,
          to: 1_000 + lateMaxMs,
        }),
      };
    },
  },
  {
    name: "change-then-ack",
    what: "a message whose invisible time was changed can be acknowledged",
    async run(stage) {
      const { consumer, first } = await oneMessage(stage, 10_000);
      await consumer.changeInvisible(first.handle, 3_000);
      const acknowledged = await outcomeOf(() => consumer.ack(first.handle));
      return { acknowledged, "comes again": (await next(consumer, 9_000)) !== undefined };
    },
  },
  {
    name: "ack-of-an-outdated-handle",
    what: "the handle of an earlier delivery does not acknowledge the later one",
    async run(stage) {
      const { consumer, first } = await oneMessage(stage, invisibleMs);
      const second = await next(consumer, 20_000, 3_000);
      const outdated = await outcomeOf(() => consumer.ack(first.handle));
      const third = await next(consumer, 20_000, 4_000);
      const valid = third === undefined ? "nothing came" : await outcomeOf(() => consumer.ack(third.handle));
      return {
        "the outdated handle": outdated,
        attempts: [first, second, third].map((one) => one?.attempt ?? "none").join(", "),
        "the valid handle": valid,
        "comes again after that": (await next(consumer, 8_000)) !== undefined,
      };
    },
  },
  {
    name: "ack-twice",
    what: "acknowledging again, or changing the invisible time of what is acknowledged",
    async run(stage) {
      const [twice, changed] = await Promise.all([oneMessage(stage, 5_000), oneMessage(stage, 5_000)]);
      const facts = {
        acknowledged: await outcomeOf(() => twice.consumer.ack(twice.first.handle)),
        "acknowledged again": await outcomeOf(() => twice.consumer.ack(twice.first.handle)),
      };
      await changed.consumer.ack(changed.first.handle);
      const change = await outcomeOf(() => changed.consumer.changeInvisible(changed.first.handle, 3_000));
      const [afterAgain, afterChange] = await Promise.all(
        [twice, changed].map(async ({ consumer }) => (await next(consumer, 9_000)) !== undefined),
      );
      return {
        ...facts,
        "comes again": afterAgain!,
        "change after an acknowledgement": change,
        "comes again after the change": afterChange!,
      };
    },
  },
  {
    name: "dead-letter",
    what: "after the group's last attempt a message goes to the group's dead letter topic",
    async run(stage) {
      const topic = await stage.topic();
      const group = await stage.group({ maxAttempts: 2 });
      const consumer = await stage.consumer(group, topic);
      const producer = await stage.sender();
      await producer.send(topic, { body: "poison", properties: { p: "v" } });
      const messages = await consumer.collect(2, { withinMs: 40_000, invisibleMs: 1_500 });
      const more = async (withinMs: number) => {
        messages.push(...(await consumer.collect(1, { withinMs, invisibleMs: 1_500 })));
      };
      await more(10_000);
      const reader = await readerOfDeadLetters(stage, group, () => more(2_000));
      const [dead] = await reader.collect(1, { withinMs: 20_000 });
      return {
        attempts: messages.map(({ attempt }) => attempt).join(", "),
        "in the dead letter topic": dead?.body.toString() ?? "nothing",
        "with its property": dead?.properties.p ?? "none",
      };
    },
  },
  {
    name: "client-vanishes",
    what: "what a consumer held when it was killed comes to another one of its group",
    async run(stage) {
      const topic = await stage.topic();
      const group = await stage.group();
      const { stage: elsewhere, vanish } = await stage.another();
      const doomed = await elsewhere.consumer(group, topic);
      const producer = await stage.sender();
      const bodies = Array.from({ length: 10 }, (_, i) => `message ${i}`);
      for (const body of bodies) await producer.send(topic, { body });
      const held = await doomed.collect(10, { withinMs: 20_000, invisibleMs: 5_000, different: true });
      // One more poll is open when the process dies: nothing may be delivered into it for long.
      const open = doomed.receive(16, 3_000).catch(() => []);
      await pause(300);
      await vanish();
      await open;
      const late = await producer.send(topic, { body: "sent after" }).then(() => "sent after");
      const survivor = await stage.consumer(group, topic);
      // Shortly invisible: a reply that a busy client gives up waiting for must not cost half of the time.
      const messages = await survivor.collect(11, {
        withinMs: 120_000,
        invisibleMs: 10_000,
        ack: true,
        different: true,
      });
      const seen = new Set(messages.map(({ body }) => body.toString()));
      must(
        [...bodies, late].every((body) => seen.has(body)),
        "nothing acknowledged is lost",
      );
      const again = messages.filter(({ body }) => body.toString() !== late);
      return {
        held: new Set(held.map(({ messageId }) => messageId)).size,
        "came to the other": seen.size,
        "first attempt of what was held": Math.min(...again.map(({ attempt }) => attempt)),
      };
    },
  },
];
