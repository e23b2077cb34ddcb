import definitions from "rocketmq-client-nodejs/proto/apache/rocketmq/v2/definition_pb.js";
import requests from "rocketmq-client-nodejs/proto/apache/rocketmq/v2/service_pb.js";
import { createRemotingAdmin } from "../src/adapters/rocketmq/remoting-admin.ts";
import { createRocketmqSink } from "../src/adapters/rocketmq/rocketmq-sink.ts";
import { createRocketmqSource } from "../src/adapters/rocketmq/rocketmq-source.ts";
import { createMessageIds, createSendEncoder } from "../src/adapters/rocketmq/send-request.ts";
import { aMessage, parts, uniqueName } from "../src/adapters/rocketmq/testing.ts";
import { services } from "../test/services.ts";

/**
 * What a message costs this process on its way to and from a real RocketMQ: CPU µs per message, which survives a busy
 * machine, and messages per second, which does not. `node bench/rocketmq-send.bench.ts [SECONDS]`; start the services
 * first. The last lines compare our encoder with the generated protobuf classes.
 */
const secondsPerCell = Number(process.argv[2] ?? 3);
const { rocketmq } = await services();
const base = { endpoint: rocketmq.endpoint, ...parts };
const topic = uniqueName("bench");
const group = uniqueName("bench_group");
const admin = createRemotingAdmin({ broker: rocketmq.broker, timers: parts.timers });
await admin.createTopic({ name: topic });
await admin.createGroup({ name: group });

const body = Buffer.alloc(256, "x");
const messagesOf = (count: number) =>
  Array.from({ length: count }, (_, n) =>
    aMessage({ topic, tag: "bench", keys: [`key-${n}`], properties: new Map([["kind", "bench"]]), body }),
  );

type Cell = { readonly name: string; readonly messages: number; readonly cpuUs: number; readonly tookMs: number };
const rows: Record<string, { "messages/s": number; "CPU µs per message": number }> = {};
const report = ({ name, messages, cpuUs, tookMs }: Cell) => {
  rows[name] = {
    "messages/s": Math.round(messages / (tookMs / 1000)),
    "CPU µs per message": Math.round((cpuUs / messages) * 10) / 10,
  };
};

/** Runs `work` on `lanes` at once for a while; each call answers how many messages it moved. */
const measure = async (name: string, lanes: number, work: () => Promise<number>): Promise<void> => {
  const run = async (durationMs: number) => {
    const untilMs = performance.now() + durationMs;
    let messages = 0;
    const lane = async () => {
      while (performance.now() < untilMs) {
        const moved = await work(); // apart: "messages += await" would forget what other lanes added meanwhile
        messages += moved;
      }
    };
    await Promise.all(Array.from({ length: lanes }, lane));
    return messages;
  };
  await run(500); // warm up
  const cpu = process.cpuUsage();
  const fromMs = performance.now();
  const messages = await run(secondsPerCell * 1000);
  const tookMs = performance.now() - fromMs;
  const { user, system } = process.cpuUsage(cpu);
  report({ name, messages, cpuUs: user + system, tookMs });
};

const sink = createRocketmqSink(base);
let failed = 0;
for (const [size, lanes] of [
  [1, 64],
  [16, 16],
  [64, 8],
  [128, 8],
] as const) {
  const batch = messagesOf(size);
  await measure(`send, ${size} per call, ${lanes} in flight`, lanes, async () => {
    const results = await sink.send(topic, batch);
    const ok = results.filter((result) => result.ok).length;
    failed += size - ok;
    return ok;
  });
}
await sink.close();

const sources = Array.from({ length: 4 }, () => createRocketmqSource({ ...base, topic, group, pollMs: 1_000 }));
let turn = 0;
await measure("receive 32 + one acknowledgement, 8 polls", 8, async () => {
  const source = sources[turn++ % sources.length]!;
  const messages = await source.receive(new AbortController().signal);
  await source.ack(messages);
  return messages.length;
});
await Promise.all(sources.map((source) => source.close()));

const encode = createSendEncoder({ bornHost: "bench", nextId: createMessageIds(new Uint8Array(8)) });
const batch = messagesOf(128);
await measure("encode 128, ours", 1, async () => {
  for (let n = 0; n < 20; n++) encode(topic, batch, parts.clock.nowMs());
  return 20 * batch.length;
});
await measure("encode 128, generated classes", 1, async () => {
  const request = new requests.SendMessageRequest();
  for (const message of batch) {
    const system = new definitions.SystemProperties()
      .setTag(message.tag!)
      .setKeysList([...message.keys])
      .setMessageId("01AABBCCDDEEFF00112233445566778899")
      .setBodyEncoding(1)
      .setMessageType(1)
      .setBornHost("bench");
    const one = request.addMessages().setSystemProperties(system).setBody(message.body);
    one.setTopic(new definitions.Resource().setName(topic));
    const properties = one.getUserPropertiesMap();
    for (const [name, value] of message.properties) properties.set(name, value);
    properties.set("ESC_ID", message.id);
    properties.set("ESC_ATTEMPT", "1");
    properties.set("ESC_DELIVER_AT", String(message.deliverAtMs));
  }
  Buffer.from(request.serializeBinary());
  return batch.length;
});

console.table(rows);
if (failed > 0) console.log(`${failed} messages were not stored and are not counted`);
