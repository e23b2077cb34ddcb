import { setTimeout as pause } from "node:timers/promises";
import { type MessageView, Producer, SimpleConsumer } from "rocketmq-client-nodejs";
import { TransactionResolution } from "rocketmq-client-nodejs/proto/apache/rocketmq/v2/definition_pb.js";
import { afterAll, beforeAll, expect, it } from "vitest";
import { startTestServer } from "./testing/start.ts";

/** The official Node client against our doors, with a fake broker behind: does it start, and is it understood? */
let server: Awaited<ReturnType<typeof startTestServer>>;
const logger = { info: () => {}, warn: () => {}, error: () => {}, debug: () => {} };

beforeAll(async () => {
  server = await startTestServer();
});
afterAll(() => server.stop());

const options = () => ({ endpoints: server.endpoint, namespace: "", logger });

const consume = async (consumer: SimpleConsumer, count: number): Promise<MessageView[]> => {
  const views: MessageView[] = [];
  for (let i = 0; i < 20 && views.length < count; i++) views.push(...(await consumer.receive(32, 15_000)));
  return views;
};

it("starts a producer and a consumer, and brings messages with everything that was sent", async () => {
  const producer = new Producer({ ...options(), topic: "orders" });
  await producer.startup();
  const consumer = new SimpleConsumer({
    ...options(),
    consumerGroup: "billing",
    subscriptions: new Map([["orders", "*"]]),
    awaitDuration: 3_000,
  });
  await consumer.startup();
  const body = Buffer.from([0, 1, 2, 255, 254]);
  const receipt = await producer.send({
    topic: "orders",
    body,
    tag: "new",
    keys: ["k1", "k2"],
    properties: new Map([["colour", "grün"]]),
  });
  const [view] = await consume(consumer, 1);
  expect(view).toMatchObject({
    messageId: receipt.messageId,
    topic: "orders",
    tag: "new",
    keys: ["k1", "k2"],
    deliveryAttempt: 1,
  });
  expect(view!.corrupted).toBeFalsy();
  expect(view!.properties.get("colour")).toBe("grün");
  expect(view!.body).toEqual(body);
  await consumer.ack(view!);
  await expect(consumer.ack(view!)).rejects.toThrow();
  await consumer.shutdown();
  await producer.shutdown();
});

it("starts with three topics", async () => {
  const producer = new Producer({ ...options(), topics: ["a", "b", "c"] });
  await producer.startup();
  await producer.shutdown();
});

it("changes invisibility, and the message comes again", async () => {
  const producer = new Producer({ ...options(), topic: "again" });
  await producer.startup();
  const subscriptions = new Map([["again", "x || y"]]);
  const consumer = new SimpleConsumer({ ...options(), consumerGroup: "g", subscriptions, awaitDuration: 3_000 });
  await consumer.startup();
  await producer.send({ topic: "again", body: Buffer.from("no"), tag: "z" });
  await producer.send({ topic: "again", body: Buffer.from("yes"), tag: "y" });
  const [first] = await consume(consumer, 1);
  expect(first!.body.toString()).toBe("yes");
  await consumer.changeInvisibleDuration(first!, 100);
  const [second] = await consume(consumer, 1);
  expect(second).toMatchObject({ messageId: first!.messageId, deliveryAttempt: 2 });
  await consumer.ack(second!);
  await consumer.shutdown();
  await producer.shutdown();
});

it("delays a message, and recalls another", async () => {
  const producer = new Producer({ ...options(), topic: "later" });
  await producer.startup();
  const subscriptions = new Map([["later", "*"]]);
  const consumer = new SimpleConsumer({ ...options(), consumerGroup: "g", subscriptions, awaitDuration: 3_000 });
  await consumer.startup();
  const recalled = await producer.send({ topic: "later", body: Buffer.from("never"), delay: 60_000 });
  expect(await producer.recallMessage("later", recalled.recallHandle)).toBeTruthy();
  await producer.send({ topic: "later", body: Buffer.from("soon"), delay: 300 });
  const [view] = await consume(consumer, 1);
  expect(view!.body.toString()).toBe("soon");
  expect(view!.deliveryTimestamp).toBeInstanceOf(Date);
  await consumer.shutdown();
  await producer.shutdown();
});

it("commits a transaction, rolls one back, and asks about one that was left open", async () => {
  const asked: MessageView[] = [];
  const checker = {
    check: async (view: MessageView) => {
      asked.push(view);
      return TransactionResolution.COMMIT;
    },
  };
  const producer = new Producer({ ...options(), topic: "accounts", checker });
  await producer.startup();
  const subscriptions = new Map([["accounts", "*"]]);
  const consumer = new SimpleConsumer({ ...options(), consumerGroup: "g", subscriptions, awaitDuration: 3_000 });
  await consumer.startup();
  for (const end of ["commit", "rollback", "open"] as const) {
    const transaction = producer.beginTransaction();
    await producer.send({ topic: "accounts", body: Buffer.from(end) }, transaction);
    if (end !== "open") await transaction[end]();
  }
  expect(server.broker.checkNow()).toBe(1);
  const bodies = (await consume(consumer, 2)).map(({ body }) => body.toString());
  expect(bodies.sort()).toEqual(["commit", "open"]);
  expect(asked.map(({ body }) => body.toString())).toEqual(["open"]);
  await consumer.shutdown();
  await producer.shutdown();
});

it("a consumer that leaves does not wait for its long poll", async () => {
  const subscriptions = new Map([["quiet", "*"]]);
  const consumer = new SimpleConsumer({ ...options(), consumerGroup: "g", subscriptions, awaitDuration: 20_000 });
  await consumer.startup();
  const begun = performance.now();
  const polled = consumer.receive();
  await pause(200);
  await consumer.shutdown();
  expect(await polled).toEqual([]);
  expect(performance.now() - begun).toBeLessThan(5_000);
});
