import { SimpleConsumer } from "rocketmq-client-nodejs";

/** `node vanishing-consumer.ts <endpoint> <topic> <group>`: takes messages, prints how many it holds, acknowledges none. */
const [endpoint = "", topic = "", group = ""] = process.argv.slice(2);
const quiet = { info: () => {}, warn: () => {}, error: () => {}, debug: () => {} };
const consumer = new SimpleConsumer({
  endpoints: endpoint,
  namespace: "",
  consumerGroup: group,
  subscriptions: new Map([[topic, "*"]]),
  awaitDuration: 1_000,
  logger: quiet,
});
await consumer.startup();
for (;;) {
  const held = await consumer.receive(8, 3_000);
  process.stdout.write(`${held.length}\n`);
}
