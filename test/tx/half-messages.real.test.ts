import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Producer } from "rocketmq-client-nodejs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { killService, type RocketmqHandle, startAgain, startRocketmq, stopServices } from "../../scripts/services.mjs";
import { eventually, parts, pauseMs } from "../../src/adapters/rocketmq/testing.ts";
import { createTransactionAdmin } from "../../src/adapters/rocketmq/transaction-admin.ts";
import { systemTimers } from "../../src/adapters/system/system-time.ts";
import type { HalfMode } from "../../src/half-mode.ts";
import { epochMs } from "../../src/message/time.ts";
import { services } from "../services.ts";
import {
  type HalfDatabase,
  newTopic,
  newTxId,
  type OpenTx,
  openDatabase,
  outgoing,
  quickTiming,
  type Said,
  startInstance,
  warmUp,
  witness,
} from "./half-world.ts";

import { until } from "./lab.ts";

// Half messages between a real database and a broker of our own, which asks early and often, remembers transactions for
// 3 s instead of 30, and gives up after five checks. It has a core to itself once a transaction has ended (5.5.0 spins),
// so what only waits runs together.

let runDir: string;
let rocketmq: RocketmqHandle;
let database: HalfDatabase;

beforeAll(async () => {
  runDir = mkdtempSync(join(tmpdir(), "escapement-half-"));
  database = await openDatabase((await services()).mysql.url);
  rocketmq = await startRocketmq({
    runDir,
    config: {
      transactionTimeOut: 2_000,
      transactionCheckInterval: 1_000,
      transactionCheckMax: 5,
      transactionOpBatchInterval: 200,
    },
    proxyConfig: { transactionDataExpireMillis: 3_000 },
  });
});
afterAll(async () => {
  await stopServices({ names: ["rocketmq"], runDir });
  rmSync(runDir, { recursive: true, force: true });
  await database.drop();
});

const instance = (topic: string, over: Partial<Parameters<typeof startInstance<OpenTx>>[0]> = {}) =>
  startInstance<OpenTx>({
    barrier: database.barrier,
    endpoint: rocketmq.endpoint,
    topics: [topic],
    admin: [rocketmq.broker],
    ...over,
  });

const world = async (over: Parameters<typeof instance>[1] = {}) => {
  const topic = await newTopic(rocketmq.broker);
  const [app, watching] = await Promise.all([instance(topic, over), witness(rocketmq.endpoint, topic)]);
  // On a busy machine it takes a new broker many seconds until those who ask it for messages get some.
  const txId = await transact(app, [[topic, warmUp]], "commit");
  const areReceiving = async () => {
    const [row] = await database.barrier.ofTransaction(txId);
    return watching.isWarm() && row?.seen === true;
  };
  await until("both receive", areReceiving, 60_000);
  (app.said as Said[]).length = 0;
  return { topic, app, watching, stop: () => Promise.all([app.stop(), watching.stop()]) };
};

/** As `mq.transaction` does it; answers the transaction's name. */
const transact = async (
  app: HalfMode<OpenTx>,
  messages: readonly Parameters<typeof outgoing>[],
  ending: "commit" | "rollback",
) => {
  const tx = await database.begin();
  const txId = newTxId();
  const scope = app.transactions.begin(txId);
  for (const message of messages) await scope.add(tx, outgoing(...message));
  await scope.beforeCommit(tx);
  await database[ending](tx);
  await scope.ended(ending === "commit" ? "committed" : "rolled-back");
  return txId;
};

/** A transaction of somebody else's, still open, whose half is at the broker. */
const joined = async (app: HalfMode<OpenTx>, topic: string, text: string) => {
  const tx = await database.begin();
  const txId = newTxId();
  await app.transactions.sendJoined(tx, txId, outgoing(topic, text), (_, { write }) => write());
  return { tx, txId };
};

describe.concurrent("half messages at a real broker", () => {
  it("are visible once after COMMIT, with their own properties, and never after ROLLBACK", async ({ expect }) => {
    const { topic, app, watching, stop } = await world({
      timing: { ...quickTiming, turnMs: 6_000, commitWithinMs: 5_000 },
    });
    const texts = Array.from({ length: 20 }, (_, i) => `c${i}`);
    for (const text of texts) await transact(app, [[topic, text]], "commit");
    for (let i = 0; i < 10; i++) await transact(app, [[topic, `r${i}`]], "rollback");
    await transact(
      app,
      [
        [topic, "m1"],
        [topic, "m2"],
      ],
      "commit",
    );
    for (const text of [...texts, "m1", "m2"]) await watching.until(text, 5_000);
    const { properties } = watching.seen[0]!;
    expect(properties.get("color")).toBe("blue");
    expect(properties.get("ESC_ID")).toMatch(/^[0-9a-f-]{36}$/);
    // Long enough for three rounds of checks: one that is answered wrongly would be a second copy.
    await pauseMs(5_000);
    expect(watching.seen.map(({ text }) => text).toSorted()).toEqual([...texts, "m1", "m2"].toSorted());
    await stop();
  });

  it("a transaction that others commit is committed at the broker soon after", async ({ expect }) => {
    // It is looked for as long as our turn lasts; a busy machine may take a second for the send alone.
    const { topic, app, watching, stop } = await world({
      timing: { ...quickTiming, turnMs: 6_000, commitWithinMs: 5_000 },
    });
    const { tx } = await joined(app, topic, "orm");
    await pauseMs(150);
    expect(watching.copies("orm")).toBe(0);
    await database.commit(tx);
    await watching.until("orm", 2_000);
    await stop();
  });

  it("TX-17, TX-22: a transaction that outlasts the checks and the proxy's memory is visible after its COMMIT", async ({
    expect,
  }) => {
    const { topic, app, watching, stop } = await world();
    const { tx, txId } = await joined(app, topic, "slow");
    await pauseMs(11_000); // five checks, all of them answered with "not known"
    expect(watching.copies("slow")).toBe(0);
    expect(app.said.filter(({ text }) => text.startsWith("not known yet")).length).toBeGreaterThanOrEqual(3);
    await database.commit(tx);
    await watching.until("slow", 8_000); // by one check more, or by the backstop when there was none left
    await pauseMs(3_000);
    expect(watching.copies("slow")).toBe(1);
    expect(await database.barrier.ofTransaction(txId)).toMatchObject([{ state: "committed", seen: true }]);
    await stop();
  });

  it("TX-18: after a check was told of a rollback, the business transaction cannot commit", async ({ expect }) => {
    const { topic, app, watching, stop } = await world();
    const { tx, txId } = await joined(app, topic, "cut off");
    // The connection dies; the half is at the broker, and the check fences.
    await database.pool.query(`KILL ${tx.connection.threadId}`);
    const rows = async () => database.barrier.ofTransaction(txId);
    for (let i = 0; i < 50 && (await rows()).length === 0; i++) await pauseMs(200);
    expect(await rows()).toMatchObject([{ state: "rolled-back" }]);
    await expect(tx.connection.commit()).rejects.toThrow();
    tx.connection.destroy();
    await pauseMs(3_000);
    expect(watching.copies("cut off")).toBe(0);
    await stop();
  });

  it("TX-19: any other instance answers for one that has died after COMMIT", async ({ expect }) => {
    const { topic, app, watching, stop } = await world();
    const dying = await instance(topic);
    const tx = await database.begin();
    const scope = dying.transactions.begin(newTxId());
    await scope.add(tx, outgoing(topic, "orphan"));
    await scope.beforeCommit(tx);
    await dying.stop();
    await database.commit(tx);
    await watching.until("orphan", 6_000);
    expect(app.said.some(({ text }) => text.includes("was sent again"))).toBe(false); // by the check, not by the backstop
    await pauseMs(2_000);
    expect(watching.copies("orphan")).toBe(1);
    await stop();
  });

  it("TX-19: with all instances down for more than the broker's last check, the backstop sends it", async ({
    expect,
  }) => {
    const { topic, app, watching } = await world();
    const tx = await database.begin();
    const scope = app.transactions.begin(newTxId());
    await scope.add(tx, outgoing(topic, "given up"));
    await scope.beforeCommit(tx);
    await app.stop();
    await database.commit(tx);
    await pauseMs(10_000);
    expect(watching.copies("given up")).toBe(0);
    const later = await instance(topic);
    await watching.until("given up", 8_000);
    await pauseMs(3_000);
    expect(watching.copies("given up")).toBe(1);
    await Promise.all([later.stop(), watching.stop()]);
  });

  it("TX-20: producers that answer no checks delay a message, and do not lose it", async ({ expect }) => {
    const { topic, app, watching, stop } = await world();
    const quiet = { info: () => {}, warn: () => {}, error: () => {}, debug: () => {} };
    const plain = await Promise.all(
      Array.from({ length: 4 }, async () => {
        const producer = new Producer({ endpoints: rocketmq.endpoint, namespace: "", topic, logger: quiet });
        await producer.startup();
        return producer;
      }),
    );
    // The broker asks those it knows in turn: of five, one answers.
    const admin = createTransactionAdmin({ broker: rocketmq.broker, timers: systemTimers });
    expect((await admin.producersOf(topic)).filter(({ ours }) => !ours)).toHaveLength(4);
    const tx = await database.begin();
    const scope = app.transactions.begin(newTxId());
    for (let i = 0; i < 8; i++) await scope.add(tx, outgoing(topic, `eaten ${i}`));
    await scope.beforeCommit(tx);
    await database.commit(tx);
    await scope.ended("unknown"); // nobody commits the halves
    for (let i = 0; i < 8; i++) await watching.until(`eaten ${i}`, 15_000);
    await pauseMs(3_000);
    for (let i = 0; i < 8; i++) expect(watching.copies(`eaten ${i}`)).toBeLessThanOrEqual(2);
    await stop();
    await Promise.all(plain.map((producer) => producer.shutdown()));
  });

  it("TX-23: a commit that the broker took and did not carry out is made up for", async ({ expect }) => {
    const { topic, app, watching, stop } = await world({
      timing: { ...quickTiming, turnMs: 3_000, commitWithinMs: 2_500 },
    });
    const message = outgoing(topic, "refused");
    const tx = await database.begin();
    const scope = app.transactions.begin(newTxId());
    await scope.add(tx, message);
    // With an immunity of its own, which half mode never sets, a later commit is refused and answered with OK.
    const send = app.broker.send.bind(app.broker);
    const immune = "CHECK_IMMUNITY_TIME_IN_SECONDS";
    (app.broker as { send: typeof send }).send = (half) =>
      send({ ...half, properties: new Map([...half.properties, [immune, "1"]]) });
    await scope.beforeCommit(tx);
    (app.broker as { send: typeof send }).send = send;
    await database.commit(tx);
    await pauseMs(1_500);
    await scope.ended("committed");
    expect(app.said.filter(({ text }) => text.startsWith("the commit of a half"))).toEqual([]); // it said OK
    await watching.until("refused", 12_000);
    await pauseMs(3_000);
    expect(watching.copies("refused")).toBe(1);
    await stop();
  });
});

describe("half messages and a broker that is away", () => {
  it("TX-24: of a half that was sent without an answer nothing is lost, and its copies have one id", async () => {
    const { topic, app, watching, stop } = await world();
    const hurried = await instance(topic, { sendTimeoutMs: 400 });
    const tx = await database.begin();
    const scope = hurried.transactions.begin(newTxId());
    await scope.add(tx, outgoing(topic, "no answer"));
    await killService(rocketmq, "SIGSTOP", { role: "proxy" });
    await scope.beforeCommit(tx);
    await database.commit(tx);
    await scope.ended("committed");
    await killService(rocketmq, "SIGCONT", { role: "proxy" });
    expect(hurried.said.some(({ fields }) => fields.code === "send_timeout")).toBe(true);
    await watching.until("no answer", 15_000);
    await pauseMs(1_500);
    expect(watching.copies("no answer")).toBe(1);
    await hurried.stop();
    await stop();
    expect(app.said.filter(({ text }) => text.includes("could not be answered"))).toEqual([]);
  });

  it("TX-21: the proxy dies between half and commit, and comes back: visible, and all copies have one id", async () => {
    const { topic, app, watching, stop } = await world();
    const tx = await database.begin();
    const scope = app.transactions.begin(newTxId());
    const message = outgoing(topic, "restarted");
    await scope.add(tx, message);
    await scope.beforeCommit(tx);
    await killService(rocketmq, "SIGKILL", { role: "proxy" });
    await database.commit(tx);
    await scope.ended("committed");
    const other = await database.begin();
    const second = app.transactions.begin(newTxId());
    await second.add(other, outgoing(topic, "while it was away"));
    await second.beforeCommit(other); // the business does not stop
    await database.commit(other);
    await second.ended("committed");
    rocketmq = await startAgain(rocketmq);
    await watching.until("restarted", 60_000);
    await watching.until("while it was away", 30_000);
    await pauseMs(1_500);
    expect(watching.copies("restarted")).toBeLessThanOrEqual(2);
    const ids = watching.seen
      .filter(({ text }) => text === "restarted")
      .map(({ properties }) => properties.get("ESC_ID"));
    expect(new Set(ids)).toEqual(new Set([message.id]));
    await stop();
  });
});

// By themselves: three more at once are too many for two cores.
describe("half messages of an application whose clock is wrong", () => {
  // When to ask the broker counts from the sender's own time: at once when that is wrong, and never when it is longer ago
  // than messages are kept (fileReservedTime, 12 h on the tests' broker).
  it.concurrent.for([
    ["a day ahead", 86_400_000, "asked"],
    ["an hour behind", -3_600_000, "asked"],
    ["a day behind", -86_400_000, "never asked"],
  ] as const)(
    "TX-25: the application's clock is %s: nothing is lost, or visible before its COMMIT",
    async ([, skewMs, isAsked], { expect }) => {
      const clock = { ...parts.clock, nowMs: () => epochMs(parts.clock.nowMs() + skewMs) };
      const { topic, app, watching, stop } = await world({
        clock,
        timing: { ...quickTiming, turnMs: 3_000, commitWithinMs: 2_500 },
      });
      const { tx } = await joined(app, topic, "open");
      await transact(app, [[topic, "committed"]], "commit");
      await transact(app, [[topic, "ghost"]], "rollback");
      for (const [text, ending] of [
        ["left", "commit"],
        ["left ghost", "rollback"],
      ] as const) {
        const left = await database.begin();
        const scope = app.transactions.begin(newTxId());
        await scope.add(left, outgoing(topic, text));
        await scope.beforeCommit(left);
        await database[ending](left);
        await scope.ended("unknown");
      }
      await watching.until("committed", 8_000);
      await watching.until("left", 20_000);
      const says = (wanted: string) => app.said.some(({ text }) => text.includes(wanted));
      if (isAsked === "asked") await eventually("asked while it is open", 10_000, () => says("not known yet"));
      else expect([says("not known yet"), says("was sent again")]).toEqual([false, true]);
      expect(watching.copies("open")).toBe(0);
      await database.commit(tx);
      await watching.until("open", 20_000);
      await pauseMs(3_000);
      for (const text of ["open", "committed", "left"]) expect(watching.copies(text), text).toBe(1);
      expect(watching.seen).toHaveLength(3);
      await stop();
    },
  );
});
