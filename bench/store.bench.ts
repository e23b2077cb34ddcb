import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { Redis } from "ioredis";
import { RedisDelayStore } from "../src/adapters/redis/redis-delay-store.ts";
import { timeOrderedId } from "../src/message/id.ts";
import type { DelayedMessage } from "../src/message/message.ts";
import { durationMs, epochMs } from "../src/message/time.ts";
import { claimsInDueOrder, type Job } from "./lab/claims.ts";

/**
 * How fast the Redis store accepts, and claims and settles, and what a message costs there: CPU of this process and of
 * redis-server, and memory. It needs a Redis of its own, because it sets `appendfsync`, and the process number is
 * asked from Redis itself, so it runs on the same machine.
 *
 *   node bench/store.bench.ts [--redis redis://127.0.0.1:6379] [--messages 200000] [--batch 100] [--in-flight 8]
 *
 * The generator is this process: a run in which it used more than 80 % of a core says so, because then it may have
 * measured itself. Targets: schedule 75 k/s (always) and 120 k/s (everysec), claim and settle 80 and 120 k/s.
 */
const { values: options } = parseArgs({
  options: {
    redis: { type: "string", default: "redis://127.0.0.1:6379" },
    messages: { type: "string", default: "200000" },
    batch: { type: "string", default: "100" },
    "in-flight": { type: "string", default: "8" },
    shards: { type: "string", default: "32" },
    body: { type: "string", default: "200" },
    spread: { type: "string", default: "3600000" },
    rounds: { type: "string", default: "1" },
    fsync: { type: "string", default: "always,everysec" },
    shapes: { type: "string", default: "" },
  },
});
const messageCount = Number(options.messages);
const batch = Number(options.batch);
const inFlight = Number(options["in-flight"]);
const shardCount = Number(options.shards);
const spreadMs = Number(options.spread);
const body = randomBytes(Number(options.body));
const nowMs = epochMs(Date.now());

const admin = new Redis(options.redis);
const redisInfo = async (name: string): Promise<number> =>
  Number(new RegExp(`^${name}:(\\d+)`, "m").exec(await admin.info())?.[1]);
const redisPid = await redisInfo("process_id");

/** User and system time of a process so far, in µs; the kernel counts in ticks of 10 ms. */
const cpuMicros = (pid: number): number => {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) * 10_000;
};

type Row = { what: string; "k/s": string; "node µs": string; "redis µs": string; "node core %": string };

const measured = async (what: string, count: number, work: () => Promise<void>): Promise<Row> => {
  const [beganMs, node, redis] = [performance.now(), process.cpuUsage(), cpuMicros(redisPid)];
  await work();
  const tookMs = performance.now() - beganMs;
  const used = process.cpuUsage(node);
  const nodeMicros = used.user + used.system;
  const share = nodeMicros / 10 / tookMs;
  return {
    what,
    "k/s": (count / tookMs).toFixed(1),
    "node µs": (nodeMicros / count).toFixed(2),
    "redis µs": ((cpuMicros(redisPid) - redis) / count).toFixed(2),
    "node core %": `${share.toFixed(0)}${share > 80 ? " (measured itself)" : ""}`,
  };
};

/** Works through `jobs` with so many in flight. */
const inParallel = async <T>(jobs: readonly T[], work: (job: T) => Promise<void>): Promise<void> => {
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < jobs.length) await work(jobs[next++]!);
  };
  await Promise.all(Array.from({ length: inFlight }, worker));
};

const jobs = (dueOf: (i: number) => number, keys: boolean): Job[] =>
  Array.from({ length: messageCount / batch }, (_, job) => {
    const shard = job % shardCount;
    const messages = Array.from({ length: batch }, (_, i): DelayedMessage => {
      const id = timeOrderedId(nowMs + job, randomBytes(10), shard);
      return {
        id,
        tenant: "default",
        topic: "orders-evt",
        keys: [],
        ...(keys ? { key: id } : {}),
        properties: new Map(),
        body,
        deliverAtMs: epochMs(nowMs + dueOf(job * batch + i)),
        acceptedAtMs: nowMs,
        attempt: 0,
      };
    });
    return { shard, messages };
  });

const round = async (fsync: string): Promise<void> => {
  await admin.config("SET", "appendfsync", fsync);
  const shapes = {
    "random dues": () => Math.floor(Math.random() * spreadMs),
    "one fixed delay": (i: number) => Math.floor((i / messageCount) * spreadMs),
    "one millisecond": () => 60_000,
    "random dues, own keys": () => Math.floor(Math.random() * spreadMs),
  };
  const rows: Row[] = [];
  for (const [shape, dueOf] of Object.entries(shapes)) {
    if (!shape.startsWith(options.shapes)) continue;
    const namespace = `bench${randomBytes(4).toString("hex")}`;
    const clock = { nowMs: () => epochMs(Date.now()), monotonicMs: () => performance.now() };
    const store = await RedisDelayStore.open({ address: options.redis, namespace, shardCount, clock });
    const epochs: number[] = [];
    for (let shard = 0; shard < shardCount; shard++) {
      const taken = await store.acquire(shard, "bench", durationMs(600_000));
      epochs.push(taken.outcome === "acquired" ? taken.epoch : 0);
    }
    const hasKeys = shape.includes("keys");
    const work = jobs(dueOf, hasKeys);
    const memoryBefore = await redisInfo("used_memory");
    rows.push(
      await measured(`schedule, ${shape}`, messageCount, () =>
        inParallel(work, async ({ shard, messages }) => {
          const items = messages.map((message) => (hasKeys ? { message, onConflict: "keep" as const } : { message }));
          await store.schedule(shard, items, nowMs);
        }),
      ),
    );
    const bytes = ((await redisInfo("used_memory")) - memoryBefore) / messageCount;
    const dueTogether = claimsInDueOrder(work, shardCount, batch);
    const laterMs = epochMs(nowMs + spreadMs);
    rows.push(
      await measured(`claim + settle, ${shape}`, messageCount, () =>
        inParallel(dueTogether, async ({ shard, ids }) => {
          const { claimed } = await store.claim(shard, epochs[shard]!, ids, laterMs, 1e9);
          if (claimed.length !== ids.length) throw new Error(`${claimed.length} of ${ids.length} claimed`);
          await store.settle(
            shard,
            epochs[shard]!,
            claimed.map(({ id }) => ({ kind: "delivered", id })),
            laterMs,
          );
        }),
      ),
    );
    console.log(`${shape}: ${bytes.toFixed(1)} B of Redis memory per waiting message`);
    await store.close();
    await admin.flushall();
  }
  console.log(`\nappendfsync ${fsync}, batches of ${batch}, ${inFlight} in flight, ${body.length} B bodies`);
  console.table(rows);
};

for (let i = 0; i < Number(options.rounds); i++) {
  for (const fsync of options.fsync.split(",")) await round(fsync);
}
await admin.quit();
