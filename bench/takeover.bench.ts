import { createTopic } from "./lab/broker.ts";
import { startWitness } from "./lab/consumer.ts";
import { fillStore, setFsync } from "./lab/fill.ts";
import { Meter } from "./lab/meter.ts";
import { pause } from "./lab/pace.ts";
import type { Benchmark, Lab } from "./lab/row.ts";
import { startServer, uniqueName } from "./lab/server-process.ts";

/**
 * What a user notices when a server goes: two share the shards, one is killed or told to stop, and an ordinary
 * consumer sees how late the latest message was and whether any came twice. And when one comes: how long after its
 * start it delivers, with a large backlog waiting far out.
 */
const perSecond = 500;

export const benchmark: Benchmark = async (lab, report) => {
  await handOver(lab, report, "SIGTERM");
  await handOver(lab, report, "SIGKILL");
  await coldStart(lab, report);
};

const handOver = async (lab: Lab, report: Parameters<Benchmark>[1], signal: "SIGKILL" | "SIGTERM"): Promise<void> => {
  // The default lease is 10 s. A short run has a short one, so it is no measure of the default.
  const leaseMs = lab.quick ? 1_500 : 10_000;
  const lastsMs = signal === "SIGTERM" ? 4_000 : leaseMs + 5_000;
  const { broker, endpoint } = lab.rocketmq;
  const at = await createTopic(broker, "TAKEOVER");
  const namespace = uniqueName("bench");
  const env = { LEASE_MS: String(leaseMs) };
  const [one, other] = [await startServer(lab, { namespace, env }), await startServer(lab, { namespace, env })];
  const witness = await startWitness(endpoint, at);
  const owners = async (): Promise<Map<string, number>> => {
    const { shards } = JSON.parse(await one.get("/v1/stats")) as { shards: { owner?: string }[] };
    const counts = new Map<string, number>();
    for (const { owner = "" } of shards) counts.set(owner, (counts.get(owner) ?? 0) + 1);
    return counts;
  };
  const endMs = Date.now() + 3 * leaseMs;
  while ([...(await owners()).values()].some((shards) => shards !== 16)) {
    if (Date.now() > endMs) throw new Error("two servers did not share the shards");
    await pause(50);
  }
  const beginMs = Date.now() + 2_000;
  const count = (lastsMs / 1000) * perSecond;
  const dueMsOf = (i: number): number => beginMs + Math.floor((i * 1000) / perSecond);
  await fillStore(lab, { namespace, topic: at.topic, count, dueMsOf });
  await pause(beginMs + 1_000 - Date.now());
  const meter = new Meter({ server: one.pid, redis: lab.redis.pid, rocketmq: lab.rocketmq.pid });
  const signalAtMs = Date.now();
  other.kill(signal);
  await pause(beginMs + lastsMs - Date.now());
  let summary = await witness.summary();
  const quietMs = Date.now() + leaseMs + 4_000;
  while (summary.count < count && Date.now() < quietMs) {
    await pause(100);
    summary = await witness.summary();
  }
  await pause(500);
  const { maxMs, early, duplicates, count: seen } = await witness.summary();
  report({
    id: signal === "SIGKILL" ? "takeover/kill -9" : "takeover/planned",
    what:
      signal === "SIGKILL"
        ? `one of two servers killed, lease ${leaseMs / 1000} s, ${perSecond} messages/s`
        : `one of two servers told to stop, ${perSecond} messages/s`,
    durability: "always",
    cpuMicros: meter.stop(seen).cpuMicros,
    numbers: { "latest ms": maxMs, "lease ms": leaseMs, duplicates, early, lost: count - seen },
  });
  if (signalAtMs > beginMs + lastsMs) throw new Error("the signal came too late to be seen");
  await other.exited;
  await witness.stop();
  await one.stop();
};

const coldStart = async (lab: Lab, report: Parameters<Benchmark>[1]): Promise<void> => {
  const backlog = lab.quick ? 50_000 : 1_000_000;
  const { broker, endpoint } = lab.rocketmq;
  const at = await createTopic(broker, "START");
  const namespace = uniqueName("bench");
  const witness = await startWitness(endpoint, at);
  await setFsync(lab, "no"); // only while the backlog is put there
  const farMs = Date.now() + 24 * 3_600_000;
  await fillStore(lab, {
    namespace,
    topic: at.topic,
    count: backlog,
    dueMsOf: () => farMs + Math.floor(Math.random() * 30 * 24 * 3_600_000),
  });
  await setFsync(lab, "always");
  await fillStore(lab, { namespace, topic: at.topic, count: 100, dueMsOf: () => Date.now() });
  const startedAtMs = Date.now();
  const server = await startServer(lab, { namespace, eager: true });
  let summary = await witness.summary();
  while (summary.count < 100 && Date.now() < startedAtMs + 20_000) {
    await pause(10);
    summary = await witness.summary();
  }
  if (summary.count < 100) throw new Error(`${summary.count} of 100 due messages came within 20 s of the start`);
  report({
    id: "takeover/cold start",
    what: `first start with ${backlog.toLocaleString("en")} messages waiting, until 100 due ones are received`,
    durability: "always",
    cpuMicros: {},
    numbers: { "last after ms": summary.lastAtMs - startedAtMs },
  });
  await witness.stop();
  await server.stop();
};
