import type { Retries, WorkerTask } from "./lab/failing-worker.ts";
import { redisCommand, setFsync } from "./lab/fill.ts";
import { Meter } from "./lab/meter.ts";
import { atRate, pause, until } from "./lab/pace.ts";
import {
  type Contestant,
  type ContestantName,
  openBullmq,
  type Said,
  startFailingWorker,
  startOurs,
} from "./lab/retry-contestants.ts";
import type { Benchmark, Lab, Report } from "./lab/row.ts";

/**
 * Retries side by side with BullMQ, in one run, on the same Redis with the same fsync. Ours is the whole way: consumer,
 * hand-over by the ingest topic, delay server on that Redis, back by RocketMQ; and once more with store and broker in
 * the server's own process. One worker process each, 200 handlers at once.
 *
 * Not like for like in one respect, in BullMQ's favour: its queue is its store, so a failure moves an entry within
 * Redis, while ours leaves one system for another and comes back, on either side acknowledged.
 *
 * - *cycle*: every message fails three times and then succeeds; how many failures a second, at what cost.
 * - *lateness*: the same at a quiet rate; how long after its decided time a retry runs.
 * - *killed*: one message kills its process again and again, with twelve healthy ones in hand beside it. What becomes
 *   of it, and of them. BullMQ with its default (a job may stall once) and with as many crashes allowed as ours.
 * - *outage*: what is called is away for longer than the attempts cover. How many healthy messages are given up.
 */
const concurrency = 200;
const fails = { kind: "fails", times: 3 } as const;
const latenessPerSecond = 200;
const healthyBeside = 12;
const stalledDefault = 1;
/** Given up at the third crash, as ours. */
const stalledAsOurs = 2;

type Opener = { readonly name: ContestantName; open(): Promise<Contestant> };
const titles: Record<ContestantName, string> = {
  bullmq: "BullMQ",
  rocketmq: "Escapement, RocketMQ and Redis",
  embedded: "Escapement, all in one process",
};

export const benchmark: Benchmark = async (lab, report) => {
  for (const fsync of lab.quick ? (["always"] as const) : (["always", "everysec"] as const)) {
    await setFsync(lab, fsync);
    await redisCommand(lab, "flushall");
    const [rocketmq, embedded] = [await startOurs(lab, "rocketmq", fsync), await startOurs(lab, "embedded", fsync)];
    const openers: Opener[] = [
      { name: "bullmq", open: () => openBullmq(lab, stalledDefault) },
      { name: "rocketmq", open: () => rocketmq.open() },
      // Its own file is synced whatever Redis does.
      ...(fsync === "always" ? [{ name: "embedded", open: () => embedded.open() } as const] : []),
    ];
    for (const opener of openers) await cycle(lab, fsync, opener, report);
    for (const opener of openers) await lateness(lab, fsync, opener, report);
    if (fsync === "always") {
      // Nothing here is measured by the processor, so all of it runs at once.
      const patient = { name: "bullmq", open: () => openBullmq(lab, stalledAsOurs) } as const;
      await Promise.all([
        ...openers.map((opener) => killed(opener, report)),
        killed(patient, report, ", crashes allowed as ours"),
        ...openers.map((opener) => outage(lab, opener, report)),
      ]);
    }
    await Promise.all([rocketmq.stop(), embedded.stop()]);
  }
  await redisCommand(lab, "flushall");
  await setFsync(lab, "always");
};

const numbered = (count: number, prefix = "m"): string[] => Array.from({ length: count }, (_, i) => `${prefix}${i}`);

const cycle = async (lab: Lab, fsync: string, { name, open }: Opener, report: Report): Promise<void> => {
  const count = lab.quick ? 1_000 : 20_000;
  const retries: Retries = { attempts: 10, baseMs: 200, jitter: false };
  const contestant = await open();
  await contestant.add(numbered(count), retries);
  const worker = await startFailingWorker({ engine: contestant.engine, concurrency, retries, trouble: fails });
  const failuresAll = count * fails.times;
  await until("the first have failed", 60_000, async () => (await worker.summary()).failures >= failuresAll / 10);
  const meter = new Meter({ consumer: worker.pid, ...contestant.processes });
  const before = (await worker.summary()).failures;
  await until("all have succeeded", 120_000, async () => (await worker.summary()).done >= count);
  const { failures } = await worker.summary();
  const measured = meter.stop(failuresAll - before);
  await worker.kill();
  const dead = await contestant.dead();
  await contestant.close();
  report({
    id: `bullmq retries/cycle ${fsync} ${name}`,
    what: `${titles[name]}: fails 3 times (200, 400, 800 ms), then succeeds; per failure, the rest included`,
    durability: fsync,
    ...measured,
    numbers: { dead: dead.length, "failed more often": failures - failuresAll },
  });
};

const lateness = async (lab: Lab, fsync: string, { name, open }: Opener, report: Report): Promise<void> => {
  const durationMs = lab.quick ? 2_000 : 15_000;
  const count = (durationMs / 1_000) * latenessPerSecond;
  const retries: Retries = { attempts: 10, baseMs: 500, jitter: false };
  const contestant = await open();
  const worker = await startFailingWorker({ engine: contestant.engine, concurrency, retries, trouble: fails });
  await pause(1_000);
  const meter = new Meter({ consumer: worker.pid, ...contestant.processes });
  const adding: Promise<void>[] = [];
  await atRate(latenessPerSecond / 10, durationMs, (i) => {
    adding.push(contestant.add(numbered(10, `m${i}-`), retries));
  });
  await Promise.all(adding);
  await until("all have succeeded", 60_000, async () => (await worker.summary()).done >= count, 50);
  const measured = meter.stop(count * fails.times);
  const { p50Ms, p99Ms, maxMs, early } = await worker.summary();
  await worker.kill();
  await contestant.close();
  const { perSecond: _asGiven, ...kept } = measured;
  report({
    id: `bullmq retries/lateness ${fsync} ${name}`,
    what: `${titles[name]}: lateness of retries at ${latenessPerSecond * fails.times} failures/s`,
    durability: fsync,
    ...kept,
    numbers: { "p50 ms": p50Ms, "p99 ms": p99Ms, "max ms": maxMs, early },
  });
};

const killed = async ({ name, open }: Opener, report: Report, suffix = ""): Promise<void> => {
  const retries: Retries = { attempts: 10, baseMs: 500, jitter: true };
  const contestant = await open();
  const done = new Set<string>();
  let poisonRuns = 0;
  let isOver = false;
  let kills = 0;
  let kill = async (): Promise<void> => {};
  const heard = (said: Said): void => {
    if (said.poison !== undefined) poisonRuns++;
    if (said.done !== undefined) done.add(said.done);
  };
  const task: WorkerTask = { engine: contestant.engine, concurrency, retries, trouble: { kind: "poison" } };
  const names = numbered(healthyBeside, "healthy");
  await contestant.add([...names.slice(0, healthyBeside / 2), "poison", ...names.slice(healthyBeside / 2)], retries);
  const beganMs = performance.now();
  const living = (async () => {
    while (!isOver) {
      const worker = await startFailingWorker(task, heard);
      kill = () => worker.kill();
      if ((await worker.exited) === "SIGKILL" && !isOver) kills++;
    }
  })();
  let dead: string[] = [];
  await until(
    `${name}: each is done or given up`,
    130_000,
    async () => {
      dead = await contestant.dead();
      return new Set([...dead, ...done]).size > healthyBeside;
    },
    250,
  );
  const tookMs = performance.now() - beganMs;
  isOver = true;
  await kill();
  await living;
  await contestant.close();
  report({
    id: `bullmq retries/killed ${name}${suffix}`,
    what: `${titles[name]}${suffix}: a message that kills its process, ${healthyBeside} healthy ones in hand beside it`,
    durability: "always",
    cpuMicros: {},
    numbers: {
      "processes killed": kills,
      "poison was run": poisonRuns,
      "poison given up": dead.includes("poison") ? 1 : 0,
      "healthy done": names.filter((one) => done.has(one)).length,
      "healthy given up": dead.filter((one) => one !== "poison" && !done.has(one)).length,
      "decided after s": tookMs / 1_000,
    },
  });
};

const outage = async (lab: Lab, { name, open }: Opener, report: Report): Promise<void> => {
  const count = lab.quick ? 200 : 1_000;
  const downMs = lab.quick ? 30_000 : 60_000;
  // 0.5 + 1 + 2 + 4 s at most, which no outage of a minute keeps to.
  const retries: Retries = { attempts: 5, baseMs: 500, jitter: true };
  const contestant = await open();
  const trouble = { kind: "outage", downMs } as const;
  const worker = await startFailingWorker({ engine: contestant.engine, concurrency, retries, trouble });
  await contestant.add(numbered(count), retries);
  let dead = 0;
  let summary = await worker.summary();
  await until(
    `${name}: each is done or given up`,
    downMs + 90_000,
    async () => {
      dead = (await contestant.dead()).length;
      summary = await worker.summary();
      return summary.done + dead >= count;
    },
    250,
  );
  await worker.kill();
  await contestant.close();
  report({
    id: `bullmq retries/outage ${name}`,
    what: `${titles[name]}: down for ${downMs / 1_000} s, 5 attempts that cover 4 to 8 s; ${count} healthy messages`,
    durability: "always",
    cpuMicros: {},
    numbers: {
      "healthy given up": dead,
      done: summary.done,
      "calls a message": (summary.done + summary.failures) / count,
      ...(summary.done === 0 ? {} : { "last out after s": summary.drainedMs / 1_000 }),
    },
  });
};
