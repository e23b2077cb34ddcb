import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Job, Queue } from "bullmq";
import { createRocketmqSink } from "../../src/adapters/rocketmq/rocketmq-sink.ts";
import { createRocketmqSource } from "../../src/adapters/rocketmq/rocketmq-source.ts";
import { aMessage, parts } from "../../src/adapters/rocketmq/testing.ts";
import type { DeadList } from "../../src/wire/dead.ts";
import { createTopic } from "./broker.ts";
import type { Retries, WorkerSummary, WorkerTask } from "./failing-worker.ts";
import type { Processes } from "./meter.ts";
import { inParallel } from "./pace.ts";
import type { Lab } from "./row.ts";
import { freePort, startServer, uniqueName } from "./server-process.ts";
import { noteStarted } from "./started.ts";

/** What retries: BullMQ, and Escapement on Redis with RocketMQ, and Escapement with everything in its own process. */
export const contestantNames = ["bullmq", "rocketmq", "embedded"] as const;
export type ContestantName = (typeof contestantNames)[number];

/** One queue of a contestant, on services that stay up. */
export type Contestant = {
  readonly processes: Processes;
  readonly engine: WorkerTask["engine"];
  /** Bodies of 200 B that begin with the names. */
  add(names: readonly string[], retries: Retries): Promise<void>;
  /** The names of those that were given up. */
  dead(): Promise<string[]>;
  close(): Promise<void>;
};

const batch = 64;
const batchesInFlight = 4;
const bodyBytes = 200;
const bodyOf = (name: string): string => `${name} `.padEnd(bodyBytes, "x");
const inBatches = (names: readonly string[], add: (some: readonly string[]) => Promise<unknown>): Promise<void> =>
  inParallel(Math.ceil(names.length / batch), batchesInFlight, (i) => add(names.slice(i * batch, (i + 1) * batch)));

export const openBullmq = async (lab: Lab, maxStalledCount: number): Promise<Contestant> => {
  const { hostname, port } = new URL(lab.redis.url);
  const name = uniqueName("failing");
  const queue = new Queue(name, {
    connection: { host: hostname, port: Number(port) },
    defaultJobOptions: { removeOnComplete: true },
  });
  await queue.waitUntilReady();
  return {
    processes: { redis: lab.redis.pid },
    engine: { kind: "bullmq", redisUrl: lab.redis.url, queue: name, maxStalledCount },
    add: (names, { attempts, baseMs, jitter }) =>
      inBatches(names, (some) => {
        const backoff = { type: "exponential", delay: baseMs, ...(jitter ? { jitter: 0.5 } : {}) };
        return queue.addBulk(
          some.map((one) => ({ name: "job", data: { body: bodyOf(one) }, opts: { attempts, backoff } })),
        );
      }),
    dead: async () => (await queue.getFailed()).map(({ data }: Job<{ body: string }>) => data.body.split(" ")[0]!),
    close: () => queue.close(),
  };
};

/** The service, which outlives the queues. */
export type Ours = { open(): Promise<Contestant>; stop(): Promise<void> };

export const startOurs = async (lab: Lab, on: "rocketmq" | "embedded", fsync: string): Promise<Ours> => {
  const ingest = uniqueName("INGEST");
  mkdirSync(lab.runDir, { recursive: true });
  const folder = mkdtempSync(join(lab.runDir, "retries-"));
  const own = `127.0.0.1:${await freePort()}`;
  const alone = { REDIS_URL: "", ROCKETMQ_ENDPOINT: "", ROCKETMQ_ADMIN: "", BROKER_ADDR: own, DATA_DIR: folder };
  const isAlone = on === "embedded";
  const env = { INGEST_TOPIC: ingest, INGEST_GROUP: `${ingest}_G`, ...(isAlone ? alone : { DURABILITY: fsync }) };
  const server = await startServer(lab, { env });
  const [endpoint, admin] = isAlone ? [own, own] : [lab.rocketmq.endpoint, lab.rocketmq.broker];
  const sink = createRocketmqSink({ endpoint, ...parts });
  const open = async (): Promise<Contestant> => {
    const { topic, group } = await createTopic(admin, "FAILING");
    // A new group begins with what comes after its first poll.
    const first = createRocketmqSource({ ...parts, endpoint, topic, group, pollMs: 1_000 });
    await first.receive(AbortSignal.timeout(2_000));
    await first.close();
    const url = `http://127.0.0.1:${server.port}`;
    return {
      processes: {
        server: server.pid,
        ...(isAlone ? {} : { redis: lab.redis.pid, rocketmq: lab.rocketmq.pid }),
      },
      engine: { kind: "ours", endpoint, url, group, topic },
      add: (names) =>
        inBatches(names, async (some) => {
          const messages = some.map((one) => aMessage({ topic, keys: [one], body: Buffer.from(bodyOf(one)) }));
          if ((await sink.send(topic, messages)).some(({ ok }) => !ok)) throw new Error("a message was not sent");
        }),
      dead: async () => {
        const { items } = JSON.parse(await server.get(`/v1/dead?group=${group}&limit=1000`)) as DeadList;
        return items.map(({ keys }) => keys?.[0] ?? "");
      },
      close: async () => {},
    };
  };
  return {
    open,
    stop: async () => {
      await sink.close();
      await server.stop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
};

/** A worker process; `heard` gets what it says by itself. */
export const startFailingWorker = async (task: WorkerTask, heard: (said: Said) => void = () => {}) => {
  const child: ChildProcess = fork(script, [JSON.stringify(task)], {
    env: { ...process.env, LOG_LEVEL: "fatal" },
    stdio: ["ignore", "ignore", "inherit", "ipc"],
  });
  noteStarted(child.pid!);
  const exited = once(child, "exit").then(([, signal]) => signal as string | null);
  let answer: ((summary: WorkerSummary) => void) | undefined;
  const ready = new Promise<void>((resolve) => {
    child.on("message", (said: "ready" | Said) => {
      if (said === "ready") resolve();
      else if (said.summary !== undefined) answer?.(said.summary);
      else heard(said);
    });
  });
  await Promise.race([ready, exited]);
  return {
    pid: child.pid!,
    exited,
    summary: () =>
      new Promise<WorkerSummary>((resolve, reject) => {
        answer = resolve;
        child.send("summary", (error) => error && reject(error));
      }),
    kill: async () => {
      child.kill("SIGKILL");
      await exited;
    },
  };
};

export type Said = { readonly summary?: WorkerSummary; readonly poison?: number; readonly done?: string };

const script = fileURLToPath(new URL("failing-worker.ts", import.meta.url));
