import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { RowDataPacket } from "mysql2/promise";
import { createTxProducer, fromMysql2 } from "../../src/tx-producer.ts";
import { Embedded } from "../e2e/embedded.ts";
import { type SeededRandom, seededRandom } from "../faults/seeded-random.ts";
import {
  addedCells,
  type Begun,
  bodiesOf,
  booksOf,
  type CellReport,
  type Committed,
  type Events,
  emptyCell,
} from "./crash-books.ts";
import { embeddedBroker, realBroker } from "./crash-broker.ts";
import { type Cell, canceledDelayMs, cells, type Life, lifeOf, type World } from "./crash-plan.ts";
import { type Collector, collect, type Lab, openLab, pauseMs, uniqueName, until } from "./lab.ts";

/**
 * Kills sending programs at every labelled step, again and again, and hands what was committed and what was received to
 * crash-books.ts. One instance that survives and clears up lives in this process, and the embedded broker if no RocketMQ
 * is given; the delay server is a process with its own store, the database a real MariaDB.
 *
 * From a shell: `npm run faults -- --transactions --kills 10000 [--rocketmq]`. Most of a program's life is its start, a third of
 * which is left when what its files compile to is kept.
 */
export type CrashReport = {
  readonly kills: number;
  /** Programs that did not come to their step in time, four times in a row. */
  readonly survivors: number;
  readonly cells: readonly CellReport[];
};

export type CrashOptions = {
  readonly kills: number;
  readonly seed: number;
  /** Default: the test services' MariaDB. */
  readonly serverUrl?: string;
  /** A real one, started with crash-broker.ts's settings. Default: the embedded broker, a new one each round. */
  readonly rocketmq?: { readonly endpoint: string; readonly broker: string };
  /** Programs at once. Those in half mode mostly wait. */
  readonly parallel?: number;
  readonly signal?: AbortSignal;
};

const child = fileURLToPath(new URL("crash-child.ts", import.meta.url));
const preload = fileURLToPath(new URL("../faults/preload/failpoint.ts", import.meta.url));
const compileCache = fileURLToPath(new URL("../../.run/compile-cache", import.meta.url));
const lifeMaxMs = 60_000;
const triesMax = 4;
/** Tables and the broker's memory stay small, and what is wrong shows early. */
const killsARoundMax = 500;

/** In rounds, each with a database and a broker of its own. */
export const runCrashes = async (
  { kills, seed, serverUrl, rocketmq, parallel = 6, signal }: CrashOptions,
  afterRound: (soFar: CrashReport) => void = () => {},
): Promise<CrashReport> => {
  const random = seededRandom(seed);
  await load();
  let report: CrashReport = { kills: 0, survivors: 0, cells: cells.map(emptyCell) };
  while (report.kills + report.survivors < kills && !isOver(signal)) {
    const from = report.kills + report.survivors;
    const to = Math.min(kills, from + killsARoundMax);
    const round = { from, to, random: random.fork(), parallel, serverUrl, rocketmq, signal };
    report = added(report, await runRound(round));
    afterRound(report);
  }
  return report;
};

type Round = {
  readonly from: number;
  readonly to: number;
  readonly random: SeededRandom;
  readonly parallel: number;
  readonly serverUrl: string | undefined;
  readonly rocketmq: CrashOptions["rocketmq"];
  readonly signal: AbortSignal | undefined;
};

const runRound = async ({ from, to, random, parallel, serverUrl, rocketmq, signal }: Round): Promise<CrashReport> => {
  await using lab = await openLab(serverUrl === undefined ? {} : { serverUrl });
  await lab.run("CREATE TABLE cancels (target VARCHAR(64) PRIMARY KEY, tx_id BINARY(16)) ENGINE=InnoDB");
  await lab.run("CREATE TABLE turns (name VARCHAR(8) PRIMARY KEY, turn INT) ENGINE=InnoDB");
  await lab.run("INSERT INTO turns VALUES ('k0', 0), ('k1', 0), ('k2', 0)");
  await using broker = rocketmq === undefined ? await embeddedBroker() : realBroker(rocketmq);
  const topics = {
    outbox: uniqueName("crash"),
    half: uniqueName("half_crash"),
    ordered: uniqueName("ordered_crash"),
    delayed: uniqueName("delayed_crash"),
  };
  await broker.createTopic({ name: topics.outbox, type: "NORMAL" });
  await broker.createTopic({ name: topics.half, type: "TRANSACTION" });
  await broker.createTopic({ name: topics.ordered, type: "NORMAL", queues: 1 });
  await broker.createTopic({ name: topics.delayed, type: "NORMAL" });
  const ingestTopic = uniqueName("INGEST");
  await using delayServer = new Embedded();
  await delayServer.start({
    ROCKETMQ_ENDPOINT: broker.endpoint,
    ROCKETMQ_ADMIN: broker.admin,
    INGEST_TOPIC: ingestTopic,
    INGEST_GROUP: `${ingestTopic}_GROUP`,
    INGEST_RECEIVERS: "1",
    LOG_LEVEL: "warn",
    NODE_COMPILE_CACHE: compileCache,
  });
  const collectors: Collector[] = [];
  for (const topic of Object.values(topics)) {
    const group = `${topic}_books`;
    await broker.createGroup(group);
    collectors.push(await collect(broker.endpoint, topic, group));
  }
  const { endpoint } = broker;
  const world: World = {
    mysql: lab.url,
    rocketmq: { endpoint },
    escapement: { url: delayServer.url },
    ingestTopic,
    topics,
  };
  const survivor = await createTxProducer({
    rocketmq: world.rocketmq,
    escapement: world.escapement,
    ingestTopic,
    db: fromMysql2(lab.pool),
    order: "strict",
    relay: { idlePollMs: [20, 40], leaseMs: 600 },
    mode: "half",
    half: {
      topics: [topics.half],
      delayedTopics: [topics.delayed],
      admin: [broker.admin],
      timing: { turnMs: 2_000, commitWithinMs: 1_000, backstopAfterMs: 4_000, backstopLatestMs: 8_000 },
    },
  });
  const cancels = watchCancels(lab);
  const begun: Begun[] = [];
  let kills = 0;
  let survivors = 0;
  const killed: Cell[] = [];
  let next = from;
  const worker = async (): Promise<void> => {
    for (let n = next++; n < to && !isOver(signal); n = next++) {
      // On a busy machine another may get all the work, and a program never comes to its step; what it did counts.
      let wasKilled = false;
      for (let round = 0; round < triesMax && !wasKilled && !isOver(signal); round++) {
        const life = lifeOf(n, round, random);
        wasKilled = await live(life, { world, begun, signal });
        if (wasKilled) killed.push(life);
      }
      if (wasKilled) kills++;
      else if (!isOver(signal)) survivors++;
    }
  };
  try {
    await Promise.all(Array.from({ length: parallel }, worker));
    await until("the outbox is empty", async () => (await lab.waiting()) === 0, 60_000);
    const unseen = "SELECT COUNT(*) AS n FROM escapement_half WHERE state = 1 AND seen = 0";
    await until("all halves are seen", async () => Number((await lab.rows(unseen))[0]!.n) === 0, 90_000);
    const canceled = await cancels.stop();
    const committed = new Map((await lab.rows("SELECT id, note FROM orders")).map(committedOf));
    const received = () => collectors.flatMap(({ messages }) => messages);
    // What comes now and is not wanted would be canceled or early; the rest has to come.
    await pauseMs(canceledDelayMs + 500);
    const wanted = [...committed.keys()].flatMap((id) => bodiesOf(id, canceled));
    const isAllHere = () => {
      const here = new Set(collectors.flatMap((one) => one.bodies()));
      return wanted.every((text) => here.has(text));
    };
    // What is not here after that is lost, and the books say so.
    await until("all is received", isAllHere, 30_000).catch(() => {});
    return { kills, survivors, cells: booksOf({ begun, committed, canceled, received: received(), killed }) };
  } finally {
    await cancels.stop();
    await survivor.close();
    for (const one of collectors) await one.stop();
    // In order, so that it leaves its part of the compile cache.
    await delayServer.stop();
  }
};

/** Sees when committed cancels have left the outbox, and so were answered by the delay server. */
const watchCancels = (lab: Lab) => {
  const doneAtMs = new Map<string, number>();
  const abort = new AbortController();
  const look = async (): Promise<void> => {
    const isDone =
      "SELECT target FROM cancels WHERE NOT EXISTS (SELECT 1 FROM escapement_outbox o WHERE o.tx_id = cancels.tx_id AND o.kind = 1)";
    const rows = await lab.rows(isDone);
    // After the look, so that it is never said too early.
    const nowMs = Date.now();
    for (const { target } of rows) if (!doneAtMs.has(target)) doneAtMs.set(target, nowMs);
  };
  const looking = (async () => {
    while (!abort.signal.aborted) {
      await look();
      await pauseMs(100);
    }
  })();
  return {
    async stop(): Promise<Events["canceled"]> {
      abort.abort();
      await looking;
      const rows = await lab.rows("SELECT target FROM cancels");
      return new Map(rows.map(({ target }) => [target, { doneAtMs: doneAtMs.get(target) }]));
    },
  };
};

const committedOf = ({ id, note }: RowDataPacket): [string, Committed] => {
  const [key, turn, notBeforeMs] = (note as string).split(" ");
  return [id, { key: key!, turn: Number(turn), notBeforeMs: Number(notBeforeMs) }];
};

const added = (a: CrashReport, b: CrashReport): CrashReport => ({
  kills: a.kills + b.kills,
  survivors: a.survivors + b.survivors,
  cells: addedCells(a.cells, b.cells),
});

const isOver = (signal: AbortSignal | undefined): boolean => signal?.aborted === true;

// --- the programs -----------------------------------------------------------------------------------------------------

const start = (env: Record<string, string>): ChildProcess =>
  spawn(process.execPath, ["--import", preload, child], {
    env: { PATH: process.env.PATH, NODE_COMPILE_CACHE: compileCache, ...env },
    stdio: ["pipe", "pipe", "inherit"],
  });

/** Fills the compile cache: a program that is killed leaves nothing in it. */
const load = async (): Promise<void> => void (await once(start({}), "exit"));

type Place = { readonly world: World; readonly begun: Begun[]; readonly signal: AbortSignal | undefined };

/** Whether it was killed at its step. */
const live = async (life: Life, { world, begun, signal }: Place): Promise<boolean> => {
  const program = start({
    TX_WORLD: JSON.stringify(world),
    TX_LIFE: JSON.stringify(life),
    ESC_FAILPOINT: `${life.step}:${life.nth}`,
  });
  let said = "";
  program.stdout!.setEncoding("utf8").on("data", (text: string) => {
    said += text;
  });
  const end = (): void => void program.kill("SIGTERM");
  const timer = setTimeout(end, lifeMaxMs);
  signal?.addEventListener("abort", end, { once: true });
  const [, how] = (await once(program, "close")) as [number | null, string | null];
  clearTimeout(timer);
  signal?.removeEventListener("abort", end);
  for (const line of said.split("\n").filter((one) => one !== "")) {
    const [sign, id, cancels] = line.split(" ");
    begun.push({ id: id!, rollsBack: sign === "-", cancels: cancels === "" ? undefined : cancels });
  }
  return how === "SIGKILL";
};
