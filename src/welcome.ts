import type { Config } from "./config.ts";
import { shownAddress } from "./listen-address.ts";

/** What a newcomer needs to see once: where things are, a message to send, and a program that receives it. */
export const welcome = (config: Config): string => {
  const url = `http://${shownAddress(config.http)}`;
  const endpoint = config.rocketmq?.endpoint ?? shownAddress(config.embeddedBroker);
  return `
API    ${url}/v1
Docs   ${url}/docs
Topic  "demo" of the RocketMQ at ${endpoint} (${config.rocketmq === undefined ? "in this process, for development" : "to be made with: escapement topics create demo"})

Send a message that is due in 5 s:

  curl -s ${url}/v1/messages -H 'content-type: application/json' -d '{"topic":"demo","body":"hello","delay":"5s"}'

Receive it with any RocketMQ 5 client; in a folder after \`npm install rocketmq-client-nodejs\`, as consume.mjs:

  import { SimpleConsumer } from "rocketmq-client-nodejs";
  const consumer = new SimpleConsumer({
    endpoints: "${endpoint}", namespace: "", consumerGroup: "demo-consumer", subscriptions: new Map([["demo", "*"]]),
  });
  await consumer.startup();
  for (;;)
    for (const message of await consumer.receive(16)) {
      console.log(message.body.toString());
      await consumer.ack(message);
    }

`;
};
