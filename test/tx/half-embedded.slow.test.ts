import { PassThrough } from "node:stream";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";

import { pauseMs } from "../../src/adapters/rocketmq/testing.ts";
import { Output } from "../../src/cli/output.ts";
import { runProgram } from "../../src/cli/program.ts";
import { examineCluster } from "../../src/half-doctor.ts";
import { silentLog } from "../../src/runtime/log.ts";
import { type RunningBroker, startBroker } from "../../src/start-broker.ts";
import { createMemoryBarrier, type MemoryBarrier, type MemoryTx } from "../../src/tx/half/testing/memory-barrier.ts";
import { newTopic, newTxId, outgoing, startInstance, type Witness, witness } from "./half-world.ts";

// Half messages at the embedded broker, over its sockets, with the barrier as a model. It asks every 400 ms, up to 15
// times, and unlike RocketMQ it takes one answer and not several.

let broker: RunningBroker;
let topic: string;
let barrier: MemoryBarrier;
let watching: Witness;

beforeAll(async () => {
  broker = await startBroker({ transactionCheckMs: 400 });
  topic = await newTopic(broker.endpoint);
  barrier = createMemoryBarrier(() => performance.now());
  watching = await witness(broker.endpoint, topic);
});
afterAll(async () => {
  await watching.stop();
  await broker.stop();
});

const timing = {
  turnMs: 600,
  commitWithinMs: 400,
  backstopAfterMs: 1_500,
  backstopLatestMs: 30_000,
  keepSettledMs: 1e9,
};
const instance = () =>
  startInstance<MemoryTx>({ barrier, endpoint: broker.endpoint, topics: [topic], admin: [broker.endpoint], timing });

describe("half messages at the embedded broker", () => {
  it("are visible once after COMMIT and never after ROLLBACK", async () => {
    const app = await instance();
    const transact = async (text: string, ending: "commit" | "rollback") => {
      const tx = barrier.begin();
      const scope = app.transactions.begin(newTxId());
      await scope.add(tx, outgoing(topic, text));
      await scope.beforeCommit(tx);
      barrier[ending](tx);
      await scope.ended(ending === "commit" ? "committed" : "rolled-back");
    };
    for (let i = 0; i < 20; i++) await transact(`c${i}`, "commit");
    for (let i = 0; i < 5; i++) await transact(`r${i}`, "rollback");
    for (let i = 0; i < 20; i++) await watching.until(`c${i}`, 3_000);
    await pauseMs(1_200); // three more rounds of checks
    expect(watching.seen.length).toBe(20);
    await app.stop();
  });

  it("TX-19: another instance answers for one that has died, by the barrier and not by the broker's word", async () => {
    const [app, dying] = await Promise.all([instance(), instance()]);
    const committed = barrier.begin();
    const rolledBack = barrier.begin();
    for (const [tx, text] of [
      [committed, "orphan"],
      [rolledBack, "ghost"],
    ] as const) {
      const scope = dying.transactions.begin(newTxId());
      await scope.add(tx, outgoing(topic, text));
      await scope.beforeCommit(tx);
    }
    await dying.stop();
    barrier.commit(committed);
    barrier.rollback(rolledBack);
    await watching.until("orphan", 5_000);
    await pauseMs(1_500);
    expect([watching.copies("orphan"), watching.copies("ghost")]).toEqual([1, 0]);
    await app.stop();
  });

  it("TX-17, TX-22: a transaction that stays open past the checks is visible after its COMMIT", async () => {
    const app = await instance();
    const tx = barrier.begin();
    const txId = newTxId();
    await app.transactions.sendJoined(tx, txId, outgoing(topic, "slow"), (_, { write }) => write());
    await pauseMs(1_500);
    expect(watching.copies("slow")).toBe(0);
    barrier.commit(tx);
    await watching.until("slow", 5_000);
    await pauseMs(1_000);
    expect(watching.copies("slow")).toBe(1);
    expect(await barrier.ofTransaction(txId)).toMatchObject([{ state: "committed", seen: true }]);
    await app.stop();
  });

  it("what never reached the broker is sent by the backstop", async () => {
    const app = await instance();
    const tx = barrier.begin();
    const scope = app.transactions.begin(newTxId());
    await scope.add(tx, outgoing(topic, "never sent"));
    barrier.commit(tx); // the process died between the row and the half
    await watching.until("never sent", 8_000);
    await pauseMs(2_500);
    expect(watching.copies("never sent")).toBe(1);
    await app.stop();
  });

  it("the doctor says of a broker that tells little that it does not know, and finds nothing bad", async () => {
    const { findings, healthy } = await examineCluster({
      topics: [topic],
      brokers: [broker.endpoint],
      session: { endpoint: broker.endpoint },
      log: silentLog,
      waitForCheckMs: 5_000,
    });
    const levels = Object.fromEntries(findings.map(({ code, level }) => [code, level]));
    expect(levels).toMatchObject({
      topic_type: "ok",
      check_reachability: "ok",
      mixed_producers: "unknown",
      discarded_halves: "unknown",
    });
    expect(healthy).toBe(true);
  });

  it("the doctor's command gets in as the server does: with ROCKETMQ_TLS it does not speak plainly to the proxy", async () => {
    const reachability = async (): Promise<string> => {
      const out = new PassThrough();
      const line = `tx doctor --json --topic ${topic} --broker ${broker.endpoint} --endpoint ${broker.endpoint} --wait-for-check 2s`;
      await runProgram(line.split(" "), new Output(out, new PassThrough()));
      const { findings } = JSON.parse(String(out.read())) as { findings: { code: string; level: string }[] };
      return findings.find(({ code }) => code === "check_reachability")!.level;
    };
    expect(await reachability()).toBe("ok");
    vi.stubEnv("ROCKETMQ_TLS", "true");
    try {
      expect(await reachability()).not.toBe("ok");
    } finally {
      vi.unstubAllEnvs();
    }
  }, 30_000);
});
