import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type RocketmqHandle, startRocketmq, stopServices } from "../../scripts/services.mjs";
import { pauseMs, uniqueName } from "../../src/adapters/rocketmq/testing.ts";
import { createTransactionAdmin } from "../../src/adapters/rocketmq/transaction-admin.ts";
import { systemRandom } from "../../src/adapters/system/system-random.ts";
import { machineClock, systemTimers } from "../../src/adapters/system/system-time.ts";
import { runProgram } from "../../src/cli/program.ts";
import { parseConfig } from "../../src/config.ts";
import { connect } from "../../src/connect.ts";
import { silentLog } from "../../src/runtime/log.ts";
import { Metrics } from "../../src/runtime/metrics.ts";
import { Service } from "../../src/service.ts";
import { createTxProducer, fromMysql2, type TxProducer } from "../../src/tx-producer.ts";
import { newTopic, quickTiming, type Witness, witness } from "./half-world.ts";
import { type Lab, openLab } from "./lab.ts";
import { unansweredCommit } from "./unanswered-commit.ts";

// Half mode as users have it: one API for both modes, delays by a delay server, the doctor; on a broker of our own.

type Producer = TxProducer<Awaited<ReturnType<Lab["pool"]["getConnection"]>>>;

let runDir: string;
let rocketmq: RocketmqHandle;
let lab: Lab;
/** The delay server, in this process: on a busy machine one more program is slow to start. */
let server: Service;
let mq: Producer;
let half: string;
let plain: string;
let later: string;
const ingest = uniqueName("IN");
let watching: Record<"half" | "plain" | "later", Witness>;

const open = (over: Partial<Parameters<typeof createTxProducer>[0]> = {}): Promise<Producer> =>
  createTxProducer({
    rocketmq: { endpoint: rocketmq.endpoint },
    db: fromMysql2(lab.pool),
    ingestTopic: ingest,
    half: {
      topics: [half],
      delayedTopics: [later],
      admin: [rocketmq.broker],
      timing: { ...quickTiming, turnMs: 6_000, commitWithinMs: 5_000 },
    },
    mode: "half",
    ...over,
  } as never) as Promise<Producer>;

beforeAll(async () => {
  runDir = mkdtempSync(join(tmpdir(), "escapement-half-mq-"));
  const brokerConfig = {
    transactionTimeOut: 2_000,
    transactionCheckInterval: 1_000,
    transactionCheckMax: 5,
    transactionOpBatchInterval: 200,
  };
  [rocketmq, lab] = await Promise.all([startRocketmq({ runDir, config: brokerConfig }), openLab()]);
  half = await newTopic(rocketmq.broker, "mq_half");
  plain = await newTopic(rocketmq.broker, "mq_plain", "NORMAL");
  later = await newTopic(rocketmq.broker, "mq_later", "NORMAL");
  const config = parseConfig(
    {
      ROCKETMQ_ENDPOINT: rocketmq.endpoint,
      ROCKETMQ_ADMIN: rocketmq.broker,
      DATA_DIR: join(runDir, "data"),
      INGEST_TOPIC: ingest,
      INGEST_GROUP: `${ingest}_G`,
    },
    { pid: process.pid, terminal: false },
  );
  const metrics = new Metrics();
  server = new Service(
    await connect(config, {
      log: silentLog,
      machine: machineClock,
      timers: systemTimers,
      random: systemRandom,
      metrics,
    }),
  );
  await server.start();
  const watch = (topic: string) => witness(rocketmq.endpoint, topic);
  const [a, b, c] = await Promise.all([watch(half), watch(plain), watch(later)]);
  watching = { half: a, plain: b, later: c };
  mq = await open();
});
afterAll(async () => {
  await mq?.close();
  await Promise.all(Object.values(watching ?? {}).map((one) => one.stop()));
  await server?.stop();
  await stopServices({ names: ["rocketmq"], runDir });
  await lab?.[Symbol.asyncDispose]();
  rmSync(runDir, { recursive: true, force: true });
});

const order = (tx: { query(sql: string, values: unknown[]): Promise<unknown> }, id: string) =>
  tx.query("INSERT INTO orders (id) VALUES (?)", [id]);
const orders = async (id: string) => (await lab.rows("SELECT 1 FROM orders WHERE id = ?", [id])).length;
const until = async <T>(read: () => Promise<T>, good: (value: T) => boolean, withinMs = 10_000): Promise<T> => {
  const endMs = performance.now() + withinMs;
  for (;;) {
    const value = await read();
    if (good(value) || performance.now() > endMs) return value;
    await pauseMs(50);
  }
};

describe("one API for both modes", () => {
  it("one transaction sends a half, an ordinary and a delayed message: together, and each in its way", async () => {
    let txId = "";
    const startedAtMs = Date.now();
    await mq.transaction(async (tx, q) => {
      txId = q.txId;
      await order(tx, "o1");
      await q.send({ topic: half, body: "o1 half", tag: "t", properties: { color: "blue" } });
      await q.send({ topic: plain, body: "o1 plain" });
      await q.send({ topic: later, body: "o1 later", delay: 1_500, dedupe: "timeout-o1" });
      expect([watching.half.copies("o1 half"), watching.plain.copies("o1 plain")]).toEqual([0, 0]);
    });
    await Promise.all([watching.half.until("o1 half", 5_000), watching.plain.until("o1 plain", 5_000)]);
    const { properties, atMs } = await watching.later.until("o1 later", 15_000);
    expect(atMs - startedAtMs).toBeGreaterThanOrEqual(1_500);
    for (const name of ["__transactionId__", "TRANSACTION_CHECK_TIMES", "ESC_TX"])
      expect(properties.has(name)).toBe(false);
    const status = await until(
      () => mq.status(txId),
      ({ state }) => state === "visible",
    );
    expect(status.state).toBe("visible");
    expect(status.evidence.filter(({ kind }) => kind === "half")).toHaveLength(2);
    await pauseMs(4_000); // checks that were still to come
    expect([
      watching.half.copies("o1 half"),
      watching.plain.copies("o1 plain"),
      watching.later.copies("o1 later"),
    ]).toEqual([1, 1, 1]);
  });

  it("what throws sends nothing, and what a savepoint takes back is not sent", async () => {
    const failing = mq.transaction(async (tx, q) => {
      await order(tx, "o2");
      await q.send({ topic: half, body: "o2" });
      throw new Error("no stock");
    });
    await expect(failing).rejects.toThrow("no stock");
    await mq.transaction(async (tx, q) => {
      await order(tx, "o3");
      await tx.query("SAVEPOINT here");
      await q.send({ topic: half, body: "o3 taken back" });
      await tx.query("ROLLBACK TO SAVEPOINT here");
      await q.send({ topic: half, body: "o3" });
    });
    await watching.half.until("o3", 5_000);
    await pauseMs(3_500);
    expect([await orders("o2"), await orders("o3")]).toEqual([0, 1]);
    expect([watching.half.copies("o2"), watching.half.copies("o3 taken back")]).toEqual([0, 0]);
  });

  it("joins a transaction of others, and refuses one that is over", async () => {
    const connection = await lab.pool.getConnection();
    await connection.beginTransaction();
    await order(connection, "o4");
    const sender = mq.in(connection);
    await sender.send({ topic: half, body: "o4" });
    await pauseMs(100);
    expect(watching.half.copies("o4")).toBe(0);
    await connection.commit();
    await watching.half.until("o4", 2_000);
    await expect(sender.send({ topic: half, body: "too late" })).rejects.toMatchObject({ code: "not_a_transaction" });
    connection.release();
  });

  it("refuses what half messages cannot do, with codes, and rolls back", async () => {
    const send = (message: object) => mq.transaction((_, q) => q.send({ topic: half, body: "x", ...message }));
    await expect(send({ messageGroup: "g" })).rejects.toMatchObject({ code: "half_with_group" });
    await expect(send({ delay: "1m" })).rejects.toMatchObject({ code: "half_with_delay" });
    await expect(send({ body: Buffer.alloc(70_000) })).rejects.toMatchObject({ code: "half_body_not_kept" });
    await expect(send({ body: Buffer.alloc(4_000_001) })).rejects.toMatchObject({ code: "body_too_large" });
    await expect(send({ body: "" })).rejects.toMatchObject({ code: "empty_body" });
    for (const name of ["CHECK_IMMUNITY_TIME_IN_SECONDS", "TRANSACTION_CHECK_TIMES", "TIMER_DELIVER_MS", "ESC_TX"]) {
      await expect(send({ properties: { [name]: "1" } })).rejects.toMatchObject({ code: "reserved_property" });
    }
    const wrong = await open({ half: { topics: [plain] } });
    const refused = wrong.transaction((_, q) => q.send({ topic: plain, body: "x" }));
    await expect(refused).rejects.toMatchObject({ code: "half_refused" });
    await wrong.close();
  });

  it("is switched by configuration alone, and those on the way are still answered for", async () => {
    const configured = { mode: "outbox", topic: plain } as const;
    const outbox = await open({ mode: configured.mode, fastPath: false, relay: false, outsideTx: "send-now" });
    const before = await lab.waiting();
    await outbox.transaction((_, q) => q.send({ topic: configured.topic, body: "by outbox" }));
    expect(await lab.waiting()).toBe(before + 1);
    // Under the old name it would be refused by the broker after the commit.
    const old = outbox.transaction((_, q) => q.send({ topic: half, body: "never" }));
    await expect(old).rejects.toMatchObject({ code: "half_topic" });
    await expect(outbox.send({ topic: half, body: "never" })).rejects.toMatchObject({ code: "half_topic" });
    await outbox.close();
    await watching.plain.until("by outbox", 10_000); // by the relay of the other producer
  });
});

describe.concurrent("TX-04: COMMIT of a transaction with a half message is sent and the connection is lost", () => {
  const timing = { ...quickTiming, commitWithinMs: 10_000 /* a guess would be made at once */ };
  /** In a topic of its own: what others send there would be seen by the watch and asked about, too. */
  const unanswered = async (lost: "request" | "reply") => {
    const topic = await newTopic(rocketmq.broker, "mq_cut");
    const witnessed = await witness(rocketmq.endpoint, topic);
    const settings = { topics: [topic], admin: [rocketmq.broker], watchGroup: `${topic}_SEEN`, timing };
    const id = uniqueName("tx04");
    const cut = await unansweredCommit({
      lab,
      open: (over) => open({ relay: false, half: settings, ...over } as never),
      topic,
      id,
      lost,
    });
    return { cut, id, witnessed, end: () => Promise.all([cut.end(), witnessed.stop()]) };
  };

  it("after the server got it: visible by a check or the backstop, not by guess, in copies of one id", async ({
    expect,
  }) => {
    const { cut, id, witnessed, end } = await unanswered("reply");
    expect(cut.error).toMatchObject({ code: "commit_outcome_unknown", txId: cut.txId });
    const seen = await witnessed.until(id, 15_000);
    expect(seen.atMs - cut.sentAtMs).toBeGreaterThanOrEqual(quickTiming.turnMs);
    expect(
      (
        await until(
          () => cut.mq.status(cut.txId, { fence: true }),
          ({ state }) => state === "visible",
        )
      ).state,
    ).toBe("visible");
    await pauseMs(4_000);
    expect(witnessed.copies(id)).toBeLessThanOrEqual(2);
    expect(new Set(witnessed.seen.map(({ properties }) => properties.get("ESC_ID")))).toEqual(new Set([cut.messageId]));
    expect(await orders(id)).toBe(1);
    await end();
  });

  it("before the server got it: the check settles it, and it is never visible", async ({ expect }) => {
    const { cut, id, witnessed, end } = await unanswered("request");
    expect(cut.error).toMatchObject({ code: "commit_outcome_unknown", txId: cut.txId });
    // Not fenced by us: the broker asks, since nobody has told it anything.
    const status = await until(
      () => cut.mq.status(cut.txId),
      ({ state }) => state !== "unknown",
    );
    expect(status).toMatchObject({ state: "rolled-back", evidence: [{ kind: "half", state: "rolled-back" }] });
    await pauseMs(6_000); // more checks, and the backstop
    expect(witnessed.seen).toEqual([]);
    expect(await orders(id)).toBe(0);
    await end();
  });
});

describe("the doctor on a live cluster", () => {
  it("finds what is wrong here, and a check that reaches us", async () => {
    const { findings } = await mq.doctor({ waitForCheckMs: 20_000 });
    const of = (wanted: string) =>
      findings.filter(({ code, about }) => code === wanted && !about.startsWith(`${ingest}_TX`));
    expect(of("topic_type")[0]).toMatchObject({ level: "ok" });
    expect(of("mixed_producers")[0]).toMatchObject({ level: "ok" });
    expect(of("transaction_timeout")[0]).toMatchObject({ level: "warning", evidence: "transactionTimeOut=2000" });
    expect(of("check_budget")[0]!.level).toBe("warning");
    expect(of("core_spin")[0]).toMatchObject({ level: "warning" });
    expect(of("core_spin")[0]!.evidence).toBe("V5_5_0, has ended transactions");
    // Round-robin with the application's own producer: the question may have come to that first.
    expect(["ok", "warning"]).toContain(of("check_reachability")[0]!.level);
    expect(of("proxy_memory")[0]!.level).toBe("unknown");
  });

  it("lists what the broker has put aside; resumed, it is asked about again, and what was seen makes no second copy", async () => {
    const admin = createTransactionAdmin({ broker: rocketmq.broker, timers: systemTimers });
    const connection = await lab.pool.getConnection();
    await connection.beginTransaction();
    await mq.in(connection).send({ topic: half, body: "put aside" });
    const { next } = await admin.discarded();
    await until(
      () => admin.discarded(),
      (range) => range.next > next,
      30_000,
    );
    const [found] = (await admin.readDiscarded(next)).filter(({ topic }) => topic === half);
    expect(found).toMatchObject({ topic: half, checks: 5, bodyBytes: "put aside".length });
    expect(found!.id).toMatch(/^[0-9a-f-]{36}$/);
    const said: string[] = [];
    const output = {
      print: (text: string) => said.push(text),
      tell: () => {},
      printJson: () => {},
      style: (_: string, text: string) => text,
      styleErr: (_: string, text: string) => text,
      write: () => {},
    };
    const cli = (...args: string[]) => runProgram([...args, "--broker", rocketmq.broker], output as never);
    expect(await cli("tx", "discarded", "list")).toBe(0);
    expect(said.join("\n")).toContain(found!.offsetId);
    // Resumed while it is open still, then committed: the check that follows makes it visible.
    expect(await cli("tx", "discarded", "resume", found!.offsetId)).toBe(0);
    await connection.commit();
    connection.release();
    await watching.half.until("put aside", 15_000);
    const { properties } = watching.half.seen.find(({ text }) => text === "put aside")!;
    expect(properties.get("ESC_ID")).toBe(found!.id);
    await pauseMs(1_000);
    // Resumed once more, though it has been seen: the barrier says so.
    expect(await cli("tx", "discarded", "resume", found!.offsetId)).toBe(0);
    await pauseMs(5_000);
    expect(watching.half.copies("put aside")).toBe(1);
    expect(await cli("tx", "doctor", "--topic", half)).toBe(0);
    expect(said.at(-1)).toContain("discarded_halves");
  });
});
