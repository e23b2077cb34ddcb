import { Queue, Worker } from "bullmq";
import type { Sink } from "../src/dispatch/sink.port.ts";
import { embeddedService } from "./lab/embedded-service.ts";
import { fillStore, redisCommand, setFsync } from "./lab/fill.ts";
import { batchRequest, bodyText200, HttpConnection } from "./lab/http-connection.ts";
import { type Measured, Meter } from "./lab/meter.ts";
import { atRate, inParallel, pause, until } from "./lab/pace.ts";
import type { Benchmark, Lab, Row } from "./lab/row.ts";
import { median, Samples } from "./lab/samples.ts";
import { startNoopServer, uniqueName } from "./lab/server-process.ts";

/**
 * Side by side with BullMQ: the same Redis with the same fsync, the same bodies, in turns (A/B/A/B), medians. Adding is
 * compared inside one process, as BullMQ is used: theirs is `Queue.add` and `addBulk` with a delay, ours the service
 * without HTTP. Going out is compared up to an empty worker function and an empty sink. Theirs runs at the settings
 * its manual names for throughput: a bounded number of adds in flight, bulks, 200 jobs at a time, jobs removed when done.
 */
const hourMs = 3_600_000;
const single = { inFlight: 100 };
const bulk = { size: 100, inFlight: 4 };
const workerConcurrency = 200;
const latenessPerSecond = 1_000;

type Cell = { readonly measured: Measured; readonly numbers?: Readonly<Record<string, number>> };
type Contestant = Readonly<Record<Discipline, () => Promise<Cell>>>;
type Discipline = "add" | "bulk" | "fire" | "lateness" | "burst";

const disciplines: Record<Discipline, string> = {
  add: "add delayed, one by one, 100 in flight",
  bulk: "add delayed, 100 per call, 4 in flight",
  fire: "due backlog out, to an empty function",
  lateness: "lateness at 1,000 messages/s",
  burst: "10,000 due at once",
};

export const benchmark: Benchmark = async (lab, report) => {
  const rounds = lab.quick ? 1 : 3;
  for (const fsync of lab.quick ? (["always"] as const) : (["always", "everysec"] as const)) {
    await setFsync(lab, fsync);
    const contestants: Record<"bullmq" | "ours", Contestant> = { bullmq: bullmq(lab), ours: ours(lab, fsync) };
    for (const discipline of Object.keys(disciplines) as Discipline[]) {
      const cells: Record<"bullmq" | "ours", Cell[]> = { bullmq: [], ours: [] };
      for (let round = 0; round < rounds; round++) {
        for (const name of ["bullmq", "ours"] as const) {
          await redisCommand(lab, "flushall");
          cells[name].push(await contestants[name][discipline]());
        }
      }
      for (const name of ["bullmq", "ours"] as const) {
        report({
          id: `bullmq/${discipline} ${fsync} ${name}`,
          what: `${name === "ours" ? "Escapement" : "BullMQ"}: ${disciplines[discipline]}`,
          durability: fsync,
          ...medians(cells[name]),
        });
      }
    }
  }
  await redisCommand(lab, "flushall");
  await setFsync(lab, "always");
};

const medians = (cells: readonly Cell[]): Pick<Row, "cpuMicros" | "numbers" | "perSecond"> => {
  const first = cells[0]!;
  const each = (names: readonly string[], pick: (cell: Cell, name: string) => number): Record<string, number> =>
    Object.fromEntries(names.map((name) => [name, median(cells.map((cell) => pick(cell, name)))]));
  const numbers = first.numbers ?? {};
  const hasRate = !("p99 ms" in numbers);
  const voided = cells.find(({ measured }) => measured.void !== undefined);
  return {
    ...(hasRate ? { perSecond: median(cells.map(({ measured }) => measured.perSecond ?? 0)) } : {}),
    cpuMicros: each(Object.keys(first.measured.cpuMicros), (cell, name) =>
      Number(cell.measured.cpuMicros[name as keyof Row["cpuMicros"]]),
    ),
    numbers: each(Object.keys(numbers), (cell, name) => cell.numbers?.[name] ?? Number.NaN),
    ...(voided === undefined ? {} : { void: voided.measured.void! }),
  };
};

// --- BullMQ -------------------------------------------------------------------------------------------------------

const bullmq = (lab: Lab): Contestant => {
  const { hostname, port } = new URL(lab.redis.url);
  const connection = { host: hostname, port: Number(port) };
  const data = { body: bodyText200 };
  const processes = { server: process.pid, redis: lab.redis.pid };
  const addCount = lab.quick ? 5_000 : 30_000;
  const bulkCount = lab.quick ? 10_000 : 60_000;

  const withQueue = async (work: (queue: Queue) => Promise<Cell>): Promise<Cell> => {
    const queue = new Queue(uniqueName("bull"), { connection, defaultJobOptions: { removeOnComplete: true } });
    await queue.waitUntilReady();
    const cell = await work(queue);
    await queue.close();
    return cell;
  };

  const bulkAt = (queue: Queue, count: number, dueMsOf: (i: number) => number): Promise<void> =>
    inParallel(count / bulk.size, bulk.inFlight, (call) => {
      const jobs = Array.from({ length: bulk.size }, (_, i) => {
        const dueMs = dueMsOf(call * bulk.size + i);
        return { name: "job", data: { ...data, dueMs }, opts: { delay: Math.max(1, dueMs - Date.now()) } };
      });
      return queue.addBulk(jobs);
    });

  /** Starts a worker now; resolves when `count` jobs have run. */
  const work = async (queue: Queue, count: number) => {
    const lateness = new Samples();
    let firstAtMs = 0;
    let lastAtMs = 0;
    const worker = new Worker(
      queue.name,
      async (job) => {
        const nowMs = Date.now();
        if (firstAtMs === 0) firstAtMs = nowMs;
        lastAtMs = nowMs;
        lateness.push(nowMs - (job.data as { dueMs: number }).dueMs);
      },
      { connection, concurrency: workerConcurrency },
    );
    await worker.waitUntilReady();
    return {
      done: async () => {
        await until("all jobs have run", 90_000, () => lateness.length >= count, 5);
        const summary = lateness.summary();
        await worker.close();
        return { ...summary, firstAtMs, lastAtMs };
      },
    };
  };

  return {
    add: () =>
      withQueue(async (queue) => {
        await inParallel(1_000, single.inFlight, () => queue.add("job", data, { delay: hourMs }));
        const meter = new Meter(processes);
        await inParallel(addCount, single.inFlight, (i) => queue.add("job", data, { delay: hourMs + i }));
        return { measured: meter.stop(addCount) };
      }),
    bulk: () =>
      withQueue(async (queue) => {
        await bulkAt(queue, 1_000, () => Date.now() + hourMs);
        const meter = new Meter(processes);
        await bulkAt(queue, bulkCount, (i) => Date.now() + hourMs + i);
        return { measured: meter.stop(bulkCount) };
      }),
    fire: () =>
      withQueue(async (queue) => {
        const count = addCount;
        await bulkAt(queue, count, () => Date.now());
        await pause(50);
        const meter = new Meter(processes);
        const worker = await work(queue, count);
        const { firstAtMs, lastAtMs } = await worker.done();
        return { measured: meter.stop(count, lastAtMs - firstAtMs) };
      }),
    lateness: () =>
      withQueue(async (queue) => {
        const durationMs = lab.quick ? 1_500 : 5_000;
        const count = (durationMs / 1000) * latenessPerSecond;
        const worker = await work(queue, count);
        const meter = new Meter(processes);
        await atRate(latenessPerSecond / 10, durationMs, () => {
          const dueMs = Date.now() + 1_000;
          const jobs = Array.from({ length: 10 }, (_, i) => ({
            name: "job",
            data: { ...data, dueMs: dueMs + i },
            opts: { delay: dueMs + i - Date.now() },
          }));
          void queue.addBulk(jobs);
        });
        return { ...latenessCell(await worker.done(), meter.stop(count)) };
      }),
    burst: () =>
      withQueue(async (queue) => {
        const dueMs = Date.now() + 2_500;
        await bulkAt(queue, 10_000, () => dueMs);
        const worker = await work(queue, 10_000);
        await pause(dueMs - Date.now() - 50);
        const meter = new Meter(processes);
        const done = await worker.done();
        return latenessCell(done, meter.stop(10_000));
      }),
  };
};

const latenessCell = (
  { p50Ms, p99Ms, maxMs, early }: { p50Ms: number; p99Ms: number; maxMs: number; early: number },
  measured: Measured,
): Cell => ({ measured, numbers: { "p50 ms": p50Ms, "p99 ms": p99Ms, "max ms": maxMs, early } });

// --- ours ---------------------------------------------------------------------------------------------------------

const nowhere: Sink = {
  send: async (_topic, messages) => messages.map(() => ({ ok: true, brokerMessageId: "none" })),
  close: async () => {},
};

const ours = (lab: Lab, fsync: "always" | "everysec"): Contestant => {
  const addCount = lab.quick ? 10_000 : 60_000;
  const bulkCount = lab.quick ? 20_000 : 120_000;
  const inProcess = { server: process.pid, redis: lab.redis.pid };
  const topic = "jobs";
  const env = { DURABILITY: fsync };

  const adding = async (count: number, inFlight: number, work: (service: Intake, i: number) => Promise<number>) => {
    const service = await embeddedService(lab.redis.url, uniqueName("bench"), fsync, nowhere);
    const add = async (i: number): Promise<void> => {
      if ((await work(service.intake, i)) > 0) throw new Error("a message was refused");
    };
    await inParallel(Math.min(count, 1_000), inFlight, add);
    const meter = new Meter(inProcess);
    await inParallel(count, inFlight, add);
    const cell = (messages: number): Cell => ({ measured: meter.stop(messages) });
    return { cell, stop: () => service.stop() };
  };

  const withServer = async (
    work: (server: Awaited<ReturnType<typeof startNoopServer>>, namespace: string) => Promise<Cell>,
  ): Promise<Cell> => {
    const namespace = uniqueName("bench");
    const server = await startNoopServer(lab, { namespace, env });
    const cell = await work(server, namespace);
    server.kill("SIGKILL");
    await server.exited;
    return cell;
  };

  return {
    add: async () => {
      const { cell, stop } = await adding(addCount, single.inFlight, async (intake, i) => {
        await intake.schedule({ topic, body: bodyText200, delay: hourMs + i }, "default");
        return 0;
      });
      const done = cell(addCount);
      await stop();
      return done;
    },
    bulk: async () => {
      const { cell, stop } = await adding(bulkCount / bulk.size, bulk.inFlight, async (intake, call) => {
        const items = Array.from({ length: bulk.size }, (_, i) => ({
          topic,
          body: bodyText200,
          delay: hourMs + call * bulk.size + i,
        }));
        const replies = await intake.scheduleBatch(items, "default");
        return replies.filter((reply) => "error" in reply).length;
      });
      const done = cell(bulkCount);
      await stop();
      return done;
    },
    fire: async () => {
      const namespace = uniqueName("bench");
      const count = bulkCount;
      await fillStore(lab, { namespace, topic, count, dueMsOf: () => Date.now() });
      const server = await startNoopServer(lab, { namespace, env, eager: true });
      const meter = new Meter({ server: server.pid, redis: lab.redis.pid });
      await until("all are out", 60_000, async () => (await server.count(topic)) >= count, 20);
      const { firstAtMs, lastAtMs } = (await server.sunk())[topic]!;
      const measured = meter.stop(count, lastAtMs - firstAtMs);
      server.kill("SIGKILL");
      await server.exited;
      return { measured };
    },
    lateness: () =>
      withServer(async (server) => {
        const durationMs = lab.quick ? 1_500 : 5_000;
        const count = (durationMs / 1000) * latenessPerSecond;
        const connection = new HttpConnection(server.port);
        const request = batchRequest(() => topic, 10, 1_000, 10);
        const waiting: Buffer[] = [];
        let isBusy = false;
        const next = (): void => {
          isBusy = waiting.length > 0;
          if (isBusy) connection.send(waiting.shift()!, next);
        };
        const meter = new Meter({ server: server.pid, redis: lab.redis.pid });
        await atRate(latenessPerSecond / 10, durationMs, () => {
          waiting.push(request);
          if (!isBusy) next();
        });
        await until("all are out", 30_000, async () => (await server.count(topic)) >= count, 50);
        const measured = meter.stop(count);
        connection.close();
        return latenessCell((await server.sunk())[topic]!, measured);
      }),
    burst: () =>
      withServer(async (server, namespace) => {
        const dueMs = Date.now() + 2_500;
        await fillStore(lab, { namespace, topic, count: 10_000, dueMsOf: () => dueMs });
        await pause(dueMs - Date.now() - 50);
        const meter = new Meter({ server: server.pid, redis: lab.redis.pid });
        await until("all are out", 30_000, async () => (await server.count(topic)) >= 10_000, 20);
        return latenessCell((await server.sunk())[topic]!, meter.stop(10_000));
      }),
  };
};

type Intake = Awaited<ReturnType<typeof embeddedService>>["intake"];
