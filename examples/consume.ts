/**
 * An ordinary RocketMQ consumer, in ten lines of the official Node client: it knows nothing of Escapement.
 * Prints every message of the topic `demo`, from the broker of `npm start` or from ROCKETMQ_ENDPOINT.
 */
import { SimpleConsumer } from "rocketmq-client-nodejs";

const quiet = { info() {}, warn() {}, error: console.error };

const consumer = new SimpleConsumer({
  endpoints: process.env.ROCKETMQ_ENDPOINT ?? "127.0.0.1:8081",
  namespace: "",
  consumerGroup: "demo-consumer",
  subscriptions: new Map([["demo", "*"]]),
  awaitDuration: 5_000,
  logger: quiet,
});
await consumer.startup();
console.log("waiting for messages on topic demo");
for (;;) {
  for (const message of await consumer.receive(16)) {
    const { body, properties } = message;
    const lateMs = Date.now() - Number(properties.get("ESC_DELIVER_AT"));
    console.log(`${body.toString()}  (${properties.get("ESC_ID")}, here ${lateMs} ms after it was due)`);
    await consumer.ack(message);
  }
}
