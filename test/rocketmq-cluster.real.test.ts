import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { remotingRequest, requestCodes } from "../scripts/services/rocketmq-wire.mjs";
import {
  clusterState,
  killService,
  type RocketmqClusterHandle,
  startAgain,
  startRocketmqCluster,
  stopServices,
  untilInStep,
} from "../scripts/services.mjs";
import { createRemotingAdmin } from "../src/adapters/rocketmq/remoting-admin.ts";
import { createRocketmqSink } from "../src/adapters/rocketmq/rocketmq-sink.ts";
import { aMessage, eventually, parts, pauseMs, systemClock, uniqueName } from "../src/adapters/rocketmq/testing.ts";
import type { Sink } from "../src/dispatch/sink.port.ts";
import type { DelayedMessage } from "../src/message/message.ts";
import { type Consuming, consumeAll } from "./rocketmq-consumer.ts";

/**
 * The production cluster that docs/operations.md recommends, started from the files of deploy/rocketmq-cluster: does it
 * work, and do its settings hold what they promise? We send through the first proxy, the official client receives
 * through the second. The tests build on each other: one cluster of nine processes is enough to start.
 */

const startMaxMs = 240_000; // a minute of CPU for nine processes, and other work may share the machine
const queues = 4;
const topic = uniqueName("cluster");
const group = uniqueName("witness");

let runDir: string;
let cluster: RocketmqClusterHandle;
let sink: Sink;

const adminOf = (role: string) =>
  createRemotingAdmin({ broker: `127.0.0.1:${cluster.ports[role]}`, timers: parts.timers });
const brokersOf = (name: "a" | "b") => [`broker-${name}-1`, `broker-${name}-2`];
const masterOf = async (name: "a" | "b"): Promise<string> => (await clusterState(cluster))[name].master!;
const replicaOf = async (name: "a" | "b"): Promise<string> => {
  const master = await masterOf(name);
  return brokersOf(name).find((role) => role !== master)!;
};

beforeAll(async () => {
  runDir = mkdtempSync(join(tmpdir(), "escapement-cluster-"));
  cluster = await startRocketmqCluster({ runDir });
  sink = createRocketmqSink({ endpoint: cluster.endpoint, ...parts });
  // At all four: a replica copies topics and groups from its master only every ten seconds or so, and a master that dies
  // before that would leave an heir without them.
  for (const role of [...brokersOf("a"), ...brokersOf("b")]) {
    const admin = adminOf(role);
    await admin.createTopic({ name: topic, queues });
    await admin.createGroup({ name: group });
  }
}, startMaxMs);

afterAll(async () => {
  await sink?.close();
  // Nothing of it is kept, and nine orderly stops take half a minute.
  if (cluster !== undefined) await killService(cluster);
  await stopServices({ names: ["rocketmq-cluster"], runDir });
  rmSync(runDir, { recursive: true, force: true });
});

const idOf = (properties: Map<string, string>): string => properties.get("ESC_ID")!;

/** Receives through the second proxy. */
const receiving = async (): Promise<Consuming & { readonly ids: Set<string> }> => {
  const ids = new Set<string>();
  const consuming = await consumeAll({
    endpoint: cluster.secondEndpoint,
    topic,
    group,
    pollers: 8,
    onMessage: ({ properties }) => void ids.add(idOf(properties)),
  });
  return { ...consuming, ids };
};

const missingOf = (wanted: Iterable<string>, ids: ReadonlySet<string>): string[] =>
  [...wanted].filter((id) => !ids.has(id));

const messages = (count: number): DelayedMessage[] => Array.from({ length: count }, () => aMessage({ topic }));

/** How many messages of the topic one broker has, by its queues' ends. */
const storedAt = async (role: string): Promise<number> => {
  let count = 0;
  for (let queueId = 0; queueId < queues; queueId++) {
    const asked = { topic, queueId: String(queueId) };
    const { header } = await remotingRequest(cluster.ports[role]!, requestCodes.maxOffset, asked);
    count += Number(header.extFields!.offset);
  }
  return count;
};

/**
 * Programs that send without a pause, as the dispatcher does: what was refused, or whose fate is unknown, is sent again.
 */
const sending = () => {
  const acknowledged = new Set<string>();
  const silence = { longestMs: 0, sinceMs: systemClock.monotonicMs() };
  let failures = 0;
  let stopping = false;
  const send = async (): Promise<void> => {
    let waiting = messages(4);
    while (!stopping) {
      const results = await sink.send(topic, waiting);
      const nowMs = systemClock.monotonicMs();
      if (results.some(({ ok }) => ok)) {
        silence.longestMs = Math.max(silence.longestMs, nowMs - silence.sinceMs);
        silence.sinceMs = nowMs;
      }
      const again = waiting.filter(({ id }, index) => {
        if (results[index]!.ok) acknowledged.add(id);
        return !results[index]!.ok;
      });
      failures += again.length;
      waiting = [...again, ...messages(4 - again.length)];
      await pauseMs(100); // enough to be seen, and a witness that can keep up
    }
  };
  const programs = [send(), send()];
  return {
    acknowledged,
    silence,
    failures: () => failures,
    async stop() {
      stopping = true;
      await Promise.all(programs);
    },
  };
};

describe("the production cluster", () => {
  it("delivers through one proxy what was sent through the other, both broker groups sharing", async () => {
    const witness = await receiving();
    try {
      const sender = sending();
      await eventually("100 acknowledged", 20_000, () => sender.acknowledged.size >= 100);
      await sender.stop();
      await eventually("all received", 20_000, () => missingOf(sender.acknowledged, witness.ids).length === 0);
    } finally {
      await witness.stop();
    }
    for (const name of ["a", "b"] as const) expect(await storedAt(await masterOf(name))).toBeGreaterThan(0);
  });

  it("acknowledges nothing that only one machine has", async () => {
    const replicas = [await replicaOf("a"), await replicaOf("b")];
    const freeze = (signal: NodeJS.Signals) =>
      Promise.all(replicas.map((role) => killService(cluster, signal, { role })));
    await freeze("SIGSTOP");
    const results = (await Promise.all(messages(16).map((message) => sink.send(topic, [message])))).flat();
    await freeze("SIGCONT");
    expect(results.map((result) => (result.ok ? "acknowledged" : result.failure.class))).toEqual(
      results.map(() => "unknown"),
    );
    await untilInStep(cluster);
    expect((await sink.send(topic, messages(1))).map(({ ok }) => ok)).toEqual([true]);
  });

  it("loses nothing acknowledged and goes on when a master is killed: its replica takes over", async (context) => {
    const doomed = await masterOf("a");
    const heir = await replicaOf("a");
    const sender = sending();
    await eventually("100 acknowledged before the kill", 20_000, () => sender.acknowledged.size >= 100);
    const killedMs = systemClock.monotonicMs();
    const before = sender.acknowledged.size;
    await killService(cluster, "SIGKILL", { role: doomed });
    while ((await clusterState(cluster).catch(() => undefined))?.a.master !== heir) {
      if (systemClock.monotonicMs() - killedMs > 30_000) throw new Error(`${heir} is not promoted within 30 s`);
      await pauseMs(50);
    }
    const promotedMs = systemClock.monotonicMs() - killedMs;
    const inherited = await storedAt(heir);
    let servingMs = 0;
    while (servingMs === 0) {
      if ((await storedAt(heir)) > inherited) servingMs = systemClock.monotonicMs() - killedMs;
      else if (systemClock.monotonicMs() - killedMs > 40_000) throw new Error(`no sends reach ${heir} within 40 s`);
      else await pauseMs(50);
    }
    await eventually("100 more after it", 20_000, () => sender.acknowledged.size >= before + 100);
    await sender.stop();
    const after = sender.acknowledged.size - before;
    expect(sender.silence.longestMs).toBeLessThan(10_000);

    // What was stored at the dead master and never received is there, at its heir.
    const witness = await receiving();
    try {
      const allThere = () => missingOf(sender.acknowledged, witness.ids).length === 0;
      await eventually("everything acknowledged is received", 90_000, allThere);
    } finally {
      await witness.stop();
    }
    await context.annotate(
      `${before} acknowledged before the kill, ${after} after, ${sender.failures()} sent again; ` +
        `promoted after ${Math.round(promotedMs)} ms, sent to after ${Math.round(servingMs)} ms, ` +
        `no acknowledgement for at most ${Math.round(sender.silence.longestMs)} ms`,
    );
  });

  it("takes the killed broker back as a replica", async () => {
    const heir = await masterOf("a");
    const returned = await replicaOf("a");
    cluster = await startAgain(cluster);
    await untilInStep(cluster);
    expect(await masterOf("a")).toBe(heir);
    // Its log is the heir's; the queues' ends are derived from it a moment later.
    const wanted = await storedAt(heir);
    const endMs = systemClock.monotonicMs() + 30_000;
    while ((await storedAt(returned)) !== wanted) {
      if (systemClock.monotonicMs() > endMs) throw new Error(`${returned} does not have what ${heir} has`);
      await pauseMs(100);
    }
  });
});
