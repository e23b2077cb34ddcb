import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { createRemotingAdmin } from "../src/adapters/rocketmq/remoting-admin.ts";
import { createRocketmqSink } from "../src/adapters/rocketmq/rocketmq-sink.ts";
import { createRocketmqSource } from "../src/adapters/rocketmq/rocketmq-source.ts";
import { aMessage, parts } from "../src/adapters/rocketmq/testing.ts";
import { retryTopicOf } from "../src/message/retry-topic.ts";
import { startConsumer } from "../src/start-consumer.ts";
import { createTopic } from "./lab/broker.ts";
import { startEmbeddedBroker } from "./lab/embedded-broker.ts";
import { body200 } from "./lab/fill.ts";
import { Meter } from "./lab/meter.ts";
import { inParallel, until } from "./lab/pace.ts";
import type { Benchmark, Lab, Report } from "./lab/row.ts";

/**
 * Every message fails at once: how many failures a second can one consumer process take from its topic, hand over with
 * their envelope to the ingest topic, and acknowledge? On the real broker and on the embedded one, which has each on
 * its disk before it answers. Nobody reads the ingest topic meanwhile. The messages lie there before the consumer
 * starts; timed is from a tenth of them handed over to the last.
 */
export const benchmark: Benchmark = async (lab, report) => {
  mkdirSync(lab.runDir, { recursive: true });
  const folder = mkdtempSync(join(lab.runDir, "handoff-"));
  const embedded = await startEmbeddedBroker(folder);
  await measure(
    lab,
    { name: "embedded", role: "server", ...embedded, admin: embedded.endpoint, durability: "always" },
    report,
  );
  await embedded.stop();
  rmSync(folder, { recursive: true, force: true });
  const { rocketmq } = lab;
  await measure(
    lab,
    { name: "rocketmq", role: "rocketmq", ...rocketmq, admin: rocketmq.broker, durability: "none" },
    report,
  );
};

type Target = {
  readonly name: string;
  readonly role: "server" | "rocketmq";
  readonly endpoint: string;
  readonly admin: string;
  readonly pid: number;
  readonly durability: string;
};

const measure = async (
  lab: Lab,
  { name, role, endpoint, admin, pid, durability }: Target,
  report: Report,
): Promise<void> => {
  const count = lab.quick ? 6_400 : 51_200;
  const base = { endpoint, ...parts };
  const { topic, group } = await createTopic(admin, "FAILING");
  const ingest = await createTopic(admin, "INGEST");
  await createRemotingAdmin({ broker: admin, timers: parts.timers }).createTopic({ name: retryTopicOf(group) });
  const first = createRocketmqSource({ ...base, topic, group, pollMs: 1_000 });
  await first.receive(AbortSignal.timeout(2_000));
  await first.close();
  const sink = createRocketmqSink(base);
  const batch = Array.from({ length: 64 }, (_, n) => aMessage({ topic, keys: [`key-${n}`], body: body200 }));
  await inParallel(count / 64, 8, () => sink.send(topic, batch));
  await sink.close();

  const warmUp = count / 10;
  const error = Object.assign(new Error("the service that is called is down"), { status: 503 });
  const consumer = await startConsumer(
    { endpoint, url: null, group, topic, ingestTopic: ingest.topic, concurrency: 256, policy: "default" },
    () => {
      throw error;
    },
  );
  await until("the first are handed over", 30_000, () => consumer.stats().retried >= warmUp, 2);
  const meter = new Meter({ consumer: process.pid, [role]: pid });
  const before = consumer.stats().retried;
  await until("all are handed over", 120_000, () => consumer.stats().retried >= count, 2);
  const measured = meter.stop(count - before);
  await until("all are acknowledged", 10_000, () => consumer.stats().held === 0);
  const { notHandedOver, notAcknowledged, cameAgain } = consumer.stats();
  await consumer.stop();
  report({
    id: `retry/hand-over ${name}`,
    what: `${name}: fail, hand over durably, acknowledge; one consumer process`,
    durability,
    ...measured,
    numbers: { "not handed over": notHandedOver, "not acknowledged": notAcknowledged, "came again": cameAgain },
  });
};
