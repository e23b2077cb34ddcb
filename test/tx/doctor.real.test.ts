// The doctor on a live cluster on which something is wrong: each probe finds it, by itself. On one where all is well:
// half-producer.real.test.ts.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Producer } from "rocketmq-client-nodejs";
import { afterAll, beforeAll, expect, it } from "vitest";
import { type RocketmqHandle, startRocketmq, stopServices } from "../../scripts/services.mjs";
import { examineCluster, type TxDoctorOptions } from "../../src/half-doctor.ts";
import { silentLog } from "../../src/runtime/log.ts";
import { newTopic } from "./half-world.ts";

let runDir: string;
let rocketmq: RocketmqHandle;
let topic: string;

beforeAll(async () => {
  runDir = mkdtempSync(join(tmpdir(), "escapement-doctor-"));
  rocketmq = await startRocketmq({
    runDir,
    // It does not ask while these tests run, and its proxy forgets.
    config: { transactionTimeOut: 60_000, transactionCheckInterval: 20_000, transactionCheckMax: 15 },
    proxyConfig: { transactionDataExpireMillis: 2_000 },
  });
  topic = await newTopic(rocketmq.broker);
});
afterAll(async () => {
  await stopServices({ names: ["rocketmq"], runDir });
  rmSync(runDir, { recursive: true, force: true });
});

const examined = async (of: string, options: TxDoctorOptions = {}, brokers = [rocketmq.broker]) => {
  const { endpoint } = rocketmq;
  const report = await examineCluster({ topics: [of], brokers, session: { endpoint }, log: silentLog, ...options });
  const finding = (code: string) => report.findings.find((one) => one.code === code);
  return { ...report, finding };
};

it("a topic that is there and well is well; that nobody produces to it is said", async () => {
  const { healthy, finding } = await examined(topic);
  expect(finding("topic_type")).toMatchObject({ level: "ok" });
  expect(finding("transaction_timeout")).toMatchObject({ level: "ok" });
  expect(finding("check_budget")).toMatchObject({ level: "ok" });
  expect(finding("mixed_producers")).toMatchObject({ level: "warning", evidence: "no producer is connected" });
  expect(healthy).toBe(true);
});

it("a topic of another type, one that is missing, and an address where no broker is, are bad", async () => {
  const ordinary = await newTopic(rocketmq.broker, "doctor", "NORMAL");
  const wrong = await examined(ordinary);
  expect(wrong.finding("topic_type")).toMatchObject({ level: "bad", evidence: "type NORMAL" });
  expect(wrong.healthy).toBe(false);
  const missing = await examined("nobody_made_this");
  expect(missing.finding("topic_type")).toMatchObject({ level: "bad", evidence: "there is no such topic" });
  const elsewhere = await examined(topic, {}, [rocketmq.endpoint]);
  expect(elsewhere.finding("broker_unreachable")).toMatchObject({ level: "bad", about: rocketmq.endpoint });
});

it("a producer that answers no checks is named", async () => {
  const logger = { info: () => {}, warn: () => {}, error: () => {}, debug: () => {} };
  const producer = new Producer({ endpoints: rocketmq.endpoint, namespace: "", topic, logger });
  await producer.startup();
  try {
    const found = await examined(topic);
    expect(found.finding("mixed_producers")).toMatchObject({ level: "bad" });
    expect(found.finding("mixed_producers")!.evidence).toMatch(/^0 of ours, 1 others: \S+@/);
    expect(found.healthy).toBe(false);
  } finally {
    await producer.shutdown();
  }
});

it("a proxy that forgets before the longest transaction ends, and checks that do not come, are found by waiting", async () => {
  const found = await examined(topic, { proxyMemoryMs: 8_000, waitForCheckMs: 2_000 });
  expect(found.finding("proxy_memory")).toMatchObject({ level: "warning" });
  expect(found.finding("proxy_memory")!.evidence).toMatch(/^a half was forgotten after 8000 ms/);
  expect(found.finding("proxy_memory")!.advice).toContain("transactionDataExpireMillis");
  expect(found.finding("check_reachability")).toMatchObject({ level: "bad" });
});
