import definitions from "rocketmq-client-nodejs/proto/apache/rocketmq/v2/definition_pb.js";
import requests from "rocketmq-client-nodejs/proto/apache/rocketmq/v2/service_pb.js";
import { decodeSend } from "../src/adapters/rocketmq/protocol.ts";
import { createSession } from "../src/adapters/rocketmq/session.ts";
import { parts } from "../src/adapters/rocketmq/testing.ts";
import { method } from "../src/protocol/messaging-service.ts";
import { createTopic } from "./lab/broker.ts";
import { body200 } from "./lab/fill.ts";
import { Meter } from "./lab/meter.ts";
import { inParallel, pause, until } from "./lab/pace.ts";
import type { Benchmark } from "./lab/row.ts";
import { startServer } from "./lab/server-process.ts";

/**
 * Messages handed over on the ingest topic. They lie there before the server starts; timed is from the first that it
 * has accepted and acknowledged to the last. Then the server must find nothing more: what was acknowledged does not
 * come again.
 */
export const benchmark: Benchmark = async (lab, report) => {
  const count = lab.quick ? 6_400 : 51_200;
  const warmUp = lab.quick ? 1_280 : 6_400;
  const { broker, endpoint } = lab.rocketmq;
  const target = await createTopic(broker, "INGESTED");
  const ingest = await createTopic(broker, "INGEST");
  await handOver(endpoint, ingest.topic, target.topic, count + warmUp);

  const server = await startServer(lab, { env: { INGEST_TOPIC: ingest.topic, INGEST_GROUP: ingest.group } });
  const accepted = async (): Promise<number> =>
    (await server.metrics()).get('escapement_accepted_total{door="topic"}') ?? 0;
  let began = 0;
  await until("the first messages are accepted", 20_000, async () => {
    began = await accepted();
    return began >= warmUp;
  });
  const meter = new Meter({ server: server.pid, redis: lab.redis.pid, rocketmq: lab.rocketmq.pid });
  await until("all messages are accepted", 60_000, async () => (await accepted()) >= count + warmUp);
  const measured = meter.stop(count + warmUp - began);
  await pause(500);
  const stored = (JSON.parse(await server.get("/v1/stats")) as { waiting: { total: number } }).waiting.total;
  const again = (await accepted()) - count - warmUp;
  if (stored !== count + warmUp + again) throw new Error(`${stored} messages stored of ${count + warmUp}`);
  report({
    id: "ingest/topic",
    what: "ingest topic to durable and acknowledged",
    durability: "always",
    ...measured,
    numbers: { "received again": again },
  });
  await server.stop();
};

/** 64 messages per call, made by the official client's own classes. */
const handOver = async (endpoint: string, ingest: string, target: string, count: number): Promise<void> => {
  const session = createSession({ endpoint, ...parts });
  await inParallel(Math.ceil(count / 64), 8, async (call) => {
    const request = new requests.SendMessageRequest();
    for (let i = 0; i < 64; i++) {
      const number = (call * 64 + i).toString(16).padStart(8, "0").toUpperCase();
      const system = new definitions.SystemProperties()
        .setMessageId(`01${"0".repeat(24)}${number}`)
        .setBodyEncoding(1)
        .setMessageType(1)
        .setBornHost("bench");
      const message = request.addMessages().setSystemProperties(system).setBody(body200);
      message.setTopic(new definitions.Resource().setName(ingest));
      message.getUserPropertiesMap().set("ESC_TOPIC", target).set("ESC_DELAY", "2h");
    }
    const reply = await session.unary({
      method: method.sendMessage,
      request: Buffer.from(request.serializeBinary()),
      timeoutMs: 10_000,
      decode: decodeSend,
    });
    if (!reply.ok) throw new Error(`the broker refused a batch: ${reply.failure.detail}`);
    const { status } = reply.value;
    if (status.code !== 20_000) throw new Error(`the broker refused a batch: ${status.text}`);
  });
  session.close();
};
