import { Redis } from "ioredis";
import { RedisDelayStore } from "../src/adapters/redis/redis-delay-store.ts";
import { bayFromMs, bayUntilMs, placeInBay } from "../src/message/bay.ts";
import { epochMs, hour } from "../src/message/time.ts";
import { DependencyGuard } from "../src/retry/dependency-guard.ts";
import { fillStore } from "./lab/fill.ts";
import type { Benchmark } from "./lab/row.ts";
import { uniqueName } from "./lab/server-process.ts";

/**
 * A million parked messages: what each takes in Redis, what it costs to look whether something is parked, to count
 * them and to read a page of a bay; and the decision before each call of a consumer.
 */
export const benchmark: Benchmark = async (lab, report) => {
  const count = lab.quick ? 50_000 : 1_000_000;
  const redis = new Redis(lab.redis.url);
  const used = async (): Promise<number> => Number(/^used_memory:(\d+)/m.exec(await redis.info("memory"))![1]);
  await redis.flushall();
  const before = await used();
  const namespace = uniqueName("parked");
  const bay = 4_711;
  // As an outage parks them: 5,000 a second.
  const startMs = Date.UTC(2027, 0, 1);
  const dueMsOf = (i: number): number => placeInBay(bay, epochMs(startMs + Math.floor(i / 5)));
  await fillStore(lab, { namespace, topic: "ESC_RETRY_g", count, dueMsOf });
  const bytes = ((await used()) - before) / count;

  const clock = { nowMs: () => epochMs(Date.now()), monotonicMs: () => performance.now() };
  const store = await RedisDelayStore.open({
    address: lab.redis.url,
    namespace,
    shardCount: 32,
    clock,
    dedupeWindowMs: hour,
  });
  const timed = async (calls: number, call: (i: number) => Promise<unknown>): Promise<number> => {
    await call(0);
    const fromMs = performance.now();
    for (let i = 0; i < calls; i++) await call(i);
    return (performance.now() - fromMs) / calls;
  };
  const nowMs = epochMs(Date.now());
  const loads = await timed(500, (i) => store.near(i % 32, epochMs(0), epochMs(nowMs + 3_000), undefined, 500));
  const looks = await timed(500, (i) => store.near(i % 32, bayFromMs(0), epochMs(253_402_300_799_999), undefined, 1));
  const pages = await timed(200, (i) => store.near(i % 32, bayFromMs(bay), bayUntilMs(bay), undefined, 200));
  const counts = await timed(100, (i) => store.count(i % 32, bayFromMs(bay), bayUntilMs(bay)));
  const stats = await timed(100, (i) => store.stats(i % 32, nowMs));
  await store.close();
  await redis.flushall();
  redis.disconnect();
  report({
    id: "parked/redis",
    what: `Redis, ${count.toLocaleString("en")} messages of 200 B parked in one bay of 32 shards`,
    durability: "always",
    cpuMicros: {},
    numbers: {
      "B per message": bytes,
      "ms loader's look": loads,
      "ms releaser's look": looks,
      "ms page of 200": pages,
      "ms count of a shard": counts,
      "ms stats of a shard": stats,
    },
  });

  const guard = new DependencyGuard();
  const keys = Array.from({ length: 1_000 }, (_, i) => `acct:${i}`);
  const decisions = lab.quick ? 1_000_000 : 10_000_000;
  const decide = (times: number): void => {
    for (let i = 0; i < times; i++) guard.decide(keys[i % 1_000]!, i % 8 === 0 ? "retry" : "fresh", nowMs + i / 1_000);
  };
  decide(200_000);
  const fromMs = performance.now();
  decide(decisions);
  const perSecond = decisions / ((performance.now() - fromMs) / 1_000);
  report({
    id: "parked/decide",
    what: "may this call go? 1,000 keys, one in eight a retry",
    durability: "none",
    perSecond,
    cpuMicros: { consumer: 1e6 / perSecond },
    numbers: {},
  });
};
