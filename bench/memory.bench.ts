import { Queue } from "bullmq";
import { Redis } from "ioredis";
import { fillStore } from "./lab/fill.ts";
import type { Benchmark } from "./lab/row.ts";
import { uniqueName } from "./lab/server-process.ts";

/**
 * What a waiting message with a 200 B body takes in Redis: all that `used_memory` grows by, and of it the due index
 * (the buckets and their directory, by MEMORY USAGE with every entry sampled). BullMQ's delayed jobs with the same
 * body in the same Redis.
 */
export const benchmark: Benchmark = async (lab, report) => {
  const count = lab.quick ? 20_000 : 200_000;
  const redis = new Redis(lab.redis.url);
  const used = async (): Promise<number> => Number(/^used_memory:(\d+)/m.exec(await redis.info("memory"))![1]);
  const spreads = [
    ["hour", "an hour", 3_600_000],
    ["30 days", "30 days", 30 * 24 * 3_600_000],
  ] as const;

  for (const [id, what, spreadMs] of spreads) {
    await redis.flushall();
    const before = await used();
    const namespace = uniqueName("bench");
    const startMs = Date.now() + 10_000;
    await fillStore(lab, {
      namespace,
      topic: "orders",
      count,
      dueMsOf: () => startMs + Math.floor(Math.random() * spreadMs),
    });
    const total = (await used()) - before;
    let index = 0;
    // Names of buckets hold raw bytes.
    for await (const keys of redis.scanBufferStream({ match: `${namespace}:{*}:*`, count: 1_000 })) {
      const ours = (keys as Buffer[]).filter((key) => /\}:[bd]/.test(key.toString("latin1")));
      const sizes = await Promise.all(ours.map((key) => redis.memory("USAGE", key, "SAMPLES", 0)));
      for (const size of sizes) index += size ?? 0;
    }
    report({
      id: `memory/${id}`,
      what: `Redis memory, ${count.toLocaleString("en")} messages of 200 B over ${what}`,
      durability: "always",
      cpuMicros: {},
      numbers: { "B per message": total / count, "index B per message": index / count },
    });
  }

  await redis.flushall();
  const before = await used();
  const { hostname, port } = new URL(lab.redis.url);
  const queue = new Queue("memory", { connection: { host: hostname, port: Number(port) } });
  const data = { body: "x".repeat(200) };
  for (let done = 0; done < count; done += 1_000) {
    const jobs = Array.from({ length: Math.min(1_000, count - done) }, () => ({
      name: "orders",
      data,
      opts: { delay: 10_000 + Math.floor(Math.random() * 3_600_000) },
    }));
    await queue.addBulk(jobs);
  }
  report({
    id: "memory/bullmq",
    what: `Redis memory, BullMQ, ${count.toLocaleString("en")} delayed jobs of 200 B over an hour`,
    durability: "always",
    cpuMicros: {},
    numbers: { "B per message": ((await used()) - before) / count },
  });
  await queue.close();
  await redis.flushall();
  redis.disconnect();
};
