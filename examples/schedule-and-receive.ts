/**
 * Schedules a message for two seconds from now and receives it with the official RocketMQ client. Needs a running
 * server (`npm start`). Prints:
 *   scheduled  scheduled
 *   received   hello, not early
 */
import { SimpleConsumer } from "rocketmq-client-nodejs";
import { EscapementClient } from "../src/sdk/client.ts"; // "escapement" in your own project

const topic = "greetings";
const quiet = { info() {}, warn() {}, error: console.error };
const consumer = new SimpleConsumer({
  endpoints: process.env.ROCKETMQ_ENDPOINT ?? "127.0.0.1:8081",
  namespace: "",
  consumerGroup: "greeters",
  subscriptions: new Map([[topic, "*"]]),
  awaitDuration: 5_000,
  logger: quiet,
});
await consumer.startup();

const escapement = new EscapementClient({ url: process.env.ESCAPEMENT_URL ?? "http://127.0.0.1:7361" });
const { id, state } = await escapement.schedule({ topic, body: "hello", delay: "2s" });
console.log(`scheduled  ${state}`);

for (let done = false; !done; ) {
  for (const message of await consumer.receive(16)) {
    const { body, properties } = message;
    await consumer.ack(message);
    if (properties.get("ESC_ID") !== id) continue; // of an earlier run
    const early = Date.now() < Number(properties.get("ESC_DELIVER_AT"));
    console.log(`received   ${body.toString()}, ${early ? "too early" : "not early"}`);
    done = true;
  }
}
escapement.close();
await consumer.shutdown();
