import { randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { SqliteDelayStore } from "../src/adapters/sqlite/sqlite-delay-store.ts";
import { machineClock, systemTimers } from "../src/adapters/system/system-time.ts";
import { timeOrderedId } from "../src/message/id.ts";
import type { DelayedMessage } from "../src/message/message.ts";
import { durationMs, epochMs } from "../src/message/time.ts";
import { claimsInDueOrder, type Job } from "./lab/claims.ts";
import { body200 } from "./lab/fill.ts";
import { Meter } from "./lab/meter.ts";
import { inParallel } from "./lab/pace.ts";
import type { Benchmark, Report } from "./lab/row.ts";

/**
 * The embedded store alone, as a service runs it: the file on a thread of its own, every commit on disk before it is
 * answered. CPU is that of the process; `main µs` is the share of the thread that in a service also serves HTTP and
 * sends, and `loop max ms` how long it was held up. `one fixed delay` is what a shop does with its orders; `random
 * dues` within an hour write all over the due index and are the worst that can be.
 */
export const benchmark: Benchmark = async (lab, report) => {
  mkdirSync(lab.runDir, { recursive: true });
  const folder = mkdtempSync(join(lab.runDir, "sqlite-"));
  const scale = lab.quick ? 10 : 1;
  try {
    const fixed = new SqliteRun(join(folder, "fixed"), report);
    await fixed.open();
    await fixed.singles(64, 60_000 / scale);
    await fixed.passThrough("one fixed delay", 400_000 / scale, (i) => Math.floor(i / 100));
    await fixed.close();
    const random = new SqliteRun(join(folder, "random"), report);
    await random.open();
    await random.passThrough("random dues", 200_000 / scale, () => Math.floor(Math.random() * spreadMs));
    await random.close();
    await restart(join(folder, "restart"), report, 1_000_000 / scale);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
};

const shards = 32;
const batch = 200;
const spreadMs = 3_600_000;

class SqliteRun {
  readonly folder: string;
  readonly #report: Report;
  readonly #nowMs = epochMs(Date.now());
  readonly #loop = monitorEventLoopDelay({ resolution: 1 });
  readonly #epochs: number[] = [];
  store!: SqliteDelayStore;

  constructor(folder: string, report: Report) {
    this.folder = folder;
    this.#report = report;
  }

  async open(): Promise<void> {
    this.store = await SqliteDelayStore.open({ folder: this.folder, clock: machineClock, timers: systemTimers });
    for (let shard = 0; shard < shards; shard++) {
      const taken = await this.store.acquire(shard, "bench", durationMs(600_000));
      this.#epochs.push(taken.outcome === "acquired" ? taken.epoch : 0);
    }
  }

  async close(): Promise<void> {
    await this.store.close();
  }

  async singles(inFlight: number, count: number): Promise<void> {
    const jobs = this.jobs(count, 1, (i) => Math.floor(i / 100));
    const accept = () => inParallel(jobs.length, inFlight, (i) => this.accept(jobs[i]!));
    await this.#measured("sqlite/accept single", `SQLite: accept one by one, ${inFlight} at a time`, count, accept);
  }

  async passThrough(shape: string, count: number, dueOf: (i: number) => number): Promise<void> {
    const jobs = this.jobs(count, batch, dueOf);
    const accept = () => inParallel(jobs.length, 8, (i) => this.accept(jobs[i]!));
    await this.#measured(`sqlite/accept batch, ${shape}`, `SQLite: accept, calls of ${batch}, ${shape}`, count, accept);
    const claims = claimsInDueOrder(jobs, shards, batch);
    const laterMs = epochMs(this.#nowMs + 2 * spreadMs);
    const pass = () =>
      inParallel(claims.length, 8, async (i) => {
        const { shard, ids } = claims[i]!;
        const epoch = this.#epochs[shard]!;
        const { claimed } = await this.store.claim(shard, epoch, ids, laterMs, 1e9);
        if (claimed.length !== ids.length) throw new Error(`${claimed.length} of ${ids.length} claimed`);
        const outcomes = claimed.map(({ id }) => ({ kind: "delivered", id }) as const);
        await this.store.settle(shard, epoch, outcomes, laterMs);
      });
    const what = `SQLite: claim and settle, calls of ${batch}, ${shape}`;
    await this.#measured(`sqlite/claim + settle, ${shape}`, what, count, pass);
  }

  async accept({ shard, messages }: Job): Promise<void> {
    await this.store.schedule(
      shard,
      messages.map((message) => ({ message })),
      this.#nowMs,
    );
  }

  jobs(count: number, perCall: number, dueOf: (i: number) => number): Job[] {
    return Array.from({ length: Math.floor(count / perCall) }, (_, job) => {
      const shard = job % shards;
      const messages = Array.from({ length: perCall }, (_, i): DelayedMessage => {
        const number = job * perCall + i;
        return {
          id: timeOrderedId(this.#nowMs + Math.floor(number / 100), randomBytes(10), shard),
          tenant: "default",
          topic: "orders-evt",
          keys: [],
          properties: new Map(),
          body: body200,
          deliverAtMs: epochMs(this.#nowMs + spreadMs + dueOf(number)),
          acceptedAtMs: this.#nowMs,
          attempt: 0,
        };
      });
      return { shard, messages };
    });
  }

  async #measured(id: string, what: string, count: number, work: () => Promise<void>): Promise<void> {
    const meter = new Meter({ server: process.pid });
    const main = process.threadCpuUsage();
    this.#loop.enable();
    this.#loop.reset();
    await work();
    const { user, system } = process.threadCpuUsage(main);
    this.#loop.disable();
    const numbers = { "main µs": (user + system) / count, "loop max ms": this.#loop.max / 1e6 };
    this.#report({ id, what, durability: "always", ...meter.stop(count), numbers });
  }
}

/** A million wait; the process ends, and the next one opens the file and reads what is near, shard by shard. */
const restart = async (folder: string, report: Report, count: number): Promise<void> => {
  const before = new SqliteRun(folder, report);
  await before.open();
  const slice = 50_000;
  for (let done = 0; done < count; done += slice) {
    const jobs = before.jobs(slice, batch, () => Math.floor(Math.random() * spreadMs));
    await inParallel(jobs.length, 8, (i) => before.accept(jobs[i]!));
  }
  await before.close();
  const meter = new Meter({ server: process.pid });
  const beganMs = performance.now();
  const store = await SqliteDelayStore.open({ folder, clock: machineClock, timers: systemTimers });
  const from = epochMs(0);
  const until = epochMs(Date.now() + 2 * spreadMs);
  for (let shard = 0; shard < shards; shard++) await store.near(shard, from, until, undefined, 1_000);
  const openMs = performance.now() - beganMs;
  const measured = meter.stop(count, openMs);
  const statsBeganMs = performance.now();
  for (let shard = 0; shard < shards; shard++) await store.stats(shard, epochMs(Date.now()));
  const numbers = {
    "open ms": openMs,
    "B per message": statSync(join(folder, "escapement.db")).size / count,
    "stats of all shards ms": performance.now() - statsBeganMs,
  };
  await store.close();
  const { perSecond: _none, ...cost } = measured;
  const what = `SQLite: start with ${count.toLocaleString("en-US")} waiting, until every shard has been read`;
  report({ id: "sqlite/restart", what, durability: "always", ...cost, numbers });
};
