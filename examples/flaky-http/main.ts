/**
 * A consumer of an HTTP service that is down more often than up. Needs a running server (`npm start`). Sends 20 orders
 * a second to the topic `charges`, consumes them, and prints once a second how it goes. While the service is down a
 * breaker keeps the calls away and the messages are parked, without spending attempts; when it is back they are let
 * out again. Look from outside with:
 *
 *   npx escapement dependencies watch
 *
 * Stops with ctrl+c, or after as many seconds as are given: `node examples/flaky-http/main.ts 60`. At the end it waits
 * until everything is charged and says whether anything was lost.
 */
import { setTimeout as pause } from "node:timers/promises";
import { EscapementClient } from "../../src/sdk/client.ts"; // "escapement" in your own project
import { startConsumer } from "../../src/start-consumer.ts"; // "escapement/consumer"
import { startFlakyService } from "./service.ts";

const topic = "charges";
const url = process.env.ESCAPEMENT_URL ?? "http://127.0.0.1:7361";
const endpoint = process.env.ROCKETMQ_ENDPOINT ?? "127.0.0.1:8081";
const seconds = Number(process.argv[2] ?? Number.POSITIVE_INFINITY);
const drainSeconds = 120;

const service = await startFlakyService();
const escapement = new EscapementClient({ url });

const consumer = await startConsumer(
  { endpoint, url, group: "charging", topic, concurrency: 32, dependency: () => "http:charges" },
  async (message, { signal }) => {
    const headers = { "idempotency-key": message.id };
    const reply = await fetch(service.url, { method: "POST", headers, body: new Uint8Array(message.body), signal });
    // Status and headers are all that the consumer needs to decide.
    if (!reply.ok)
      throw Object.assign(new Error(`answered ${reply.status}`), { status: reply.status, headers: reply.headers });
  },
);

let isStopping = false;
process.once("SIGINT", () => {
  isStopping = true;
});

let sent = 0;
console.log("service  sent  charged  calls refused  retried  parked  dead");
const report = () => {
  const { retried, parked, dead } = consumer.stats();
  const columns = [sent, service.charged.size, service.calls.refused, retried, parked, dead];
  const widths = [6, 9, 15, 9, 8, 6];
  console.log((service.isUp() ? "up  " : "DOWN") + columns.map((n, i) => String(n).padStart(widths[i]!)).join(""));
};
for (let second = 0; second < seconds && !isStopping; second++) {
  const orders = Array.from({ length: 20 }, () => ({ topic, body: `order ${++sent}`, delay: 0 }));
  for await (const _ of escapement.scheduleBatch(orders));
  report();
  await pause(1_000);
}
for (let second = 0; second < drainSeconds && service.charged.size < sent; second++) {
  report();
  await pause(1_000);
}
report();
await consumer.stop();
escapement.close();
service.close();
console.log(
  service.charged.size === sent ? "every order is charged" : `${sent - service.charged.size} orders are missing`,
);
