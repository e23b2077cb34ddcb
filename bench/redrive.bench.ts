import { randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { RedisDelayStore } from "../src/adapters/redis/redis-delay-store.ts";
import { RedisDocumentStore } from "../src/adapters/redis/redis-document-store.ts";
import { SqliteDelayStore } from "../src/adapters/sqlite/sqlite-delay-store.ts";
import { machineClock, systemTimers } from "../src/adapters/system/system-time.ts";
import type { DelayStore } from "../src/delay/delay-store.port.ts";
import type { Sink } from "../src/dispatch/sink.port.ts";
import type { DocumentStore } from "../src/documents/document-store.port.ts";
import { shardOf, timeOrderedId } from "../src/message/id.ts";
import type { DelayedMessage } from "../src/message/message.ts";
import { epochMs } from "../src/message/time.ts";
import { Service } from "../src/service.ts";
import { plainParts } from "../src/testing/plain-parts.ts";
import { body200 } from "./lab/fill.ts";
import { Meter } from "./lab/meter.ts";
import { inParallel, pause } from "./lab/pace.ts";
import type { Benchmark, Lab, Report } from "./lab/row.ts";

/**
 * Redrives of 100,000 at a chosen rate, by the whole service on a real store, to a sink that answers at once: what is
 * measured is whether the job holds its rate, and not how fast a broker is. `rate off %` is the rate over all, from the
 * first send to the last; `worst second off %` the same for each whole second in between. And looking: the first page
 * of a list, and one filtered page that finds nothing, with many dead.
 */
export const benchmark: Benchmark = async (lab, report) => {
  mkdirSync(lab.runDir, { recursive: true });
  const folder = mkdtempSync(join(lab.runDir, "redrive-"));
  const count = lab.quick ? 20_000 : 100_000;
  const many = lab.quick ? 100_000 : 1_000_000;
  try {
    for (const rate of [2_000, 10_000]) {
      await redrive(lab, report, "sqlite", () => openSqlite(join(folder, `at-${rate}`)), rate, count);
      await redrive(lab, report, "redis", () => openRedis(lab), rate, count);
    }
    await look(report, "sqlite", () => openSqlite(join(folder, "many")), many);
    await look(report, "redis", () => openRedis(lab), many);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
};

type Stores = { readonly store: DelayStore; readonly documents: DocumentStore };

const clock = { nowMs: () => epochMs(Date.now()), monotonicMs: () => performance.now() };
const shardCount = 32;

const openSqlite = async (folder: string): Promise<Stores> => {
  const store = await SqliteDelayStore.open({ folder, clock: machineClock, timers: systemTimers, shardCount });
  return { store, documents: store.documents };
};

const openRedis = async (lab: Lab): Promise<Stores> => {
  const address = { address: lab.redis.url, namespace: `redrive-${randomBytes(4).toString("hex")}` };
  const documents = await RedisDocumentStore.open(address);
  return { store: await RedisDelayStore.open({ ...address, clock, shardCount, durability: "always" }), documents };
};

const redrive = async (
  lab: Lab,
  report: Report,
  name: string,
  open: () => Promise<Stores>,
  rate: number,
  count: number,
): Promise<void> => {
  const stores = await open();
  await bury(stores.store, count);
  const sentAtMs: number[] = [];
  const sink: Sink = {
    send: async (_topic, messages) => {
      const nowMs = performance.now();
      for (const _message of messages) sentAtMs.push(nowMs);
      return messages.map(() => ({ ok: true, brokerMessageId: "" }) as const);
    },
    close: async () => {},
  };
  const service = serviceOn(stores, sink);
  await service.start();
  const meter = new Meter({ server: process.pid, ...(name === "redis" ? { redis: lab.redis.pid } : {}) });
  const beganMs = performance.now();
  await service.retry.dead.redrive({ filter: {}, reason: "benchmark", canary: 0, ramp: 0, rate }, "default");
  const untilMs = performance.now() + (1_000 * count) / rate + 60_000;
  while (sentAtMs.length < count && performance.now() < untilMs) await pause(50);
  const [firstMs, lastMs] = [sentAtMs[0]!, sentAtMs.at(-1)!];
  const seen = sentAtMs.length;
  const measured = meter.stop(seen, performance.now() - beganMs);
  await service.stop();
  const inSecond = new Map<number, number>();
  for (const atMs of sentAtMs) {
    const second = Math.floor((atMs - firstMs) / 1_000);
    inSecond.set(second, (inSecond.get(second) ?? 0) + 1);
  }
  const whole = [...inSecond].filter(([second]) => (second + 1) * 1_000 <= lastMs - firstMs).map(([, n]) => n);
  const achieved = (1_000 * (seen - 1)) / (lastMs - firstMs);
  const off = (n: number): number => Math.round((10_000 * (n - rate)) / rate) / 100;
  report({
    id: `redrive/${name} at ${rate}`,
    what: `redrive of ${count} at ${rate}/s, ${name}`,
    durability: "always",
    ...measured,
    perSecond: achieved,
    numbers: {
      "rate off %": off(achieved),
      "worst second off %": Math.max(...whole.map((n) => Math.abs(off(n)))),
      "not sent": count - seen,
      "first after ms": Math.round(firstMs - beganMs),
    },
  });
};

const look = async (report: Report, name: string, open: () => Promise<Stores>, count: number): Promise<void> => {
  const stores = await open();
  await bury(stores.store, count);
  const service = serviceOn(stores, { send: async () => [], close: async () => {} });
  await service.start();
  const meter = new Meter({ server: process.pid });
  const timed = async (work: () => Promise<unknown>): Promise<number> => {
    const beganMs = performance.now();
    await work();
    return Math.round(10 * (performance.now() - beganMs)) / 10;
  };
  const first = await timed(() => service.retry.dead.list({}, 100, "default"));
  const again = await timed(() => service.retry.dead.list({}, 100, "default"));
  let scanned = 0;
  const filtered = await timed(async () => {
    scanned = (await service.retry.dead.list({ topic: "none" }, 100, "default")).scanned;
  });
  const groups = await timed(() => service.retry.dead.groups({}, "default"));
  const recent = await timed(() => service.retry.dead.list({ from: String(Date.now() - 1) }, 100, "default"));
  const measured = meter.stop(1, 1);
  await service.stop();
  const { perSecond: _none, ...rest } = measured;
  report({
    id: `dead/${name} list`,
    what: `list with ${count} dead, ${name}`,
    durability: "always",
    ...rest,
    numbers: {
      "first page ms": first,
      "again ms": again,
      "filtered page ms": filtered,
      "filtered scanned": scanned,
      "groups ms": groups,
      "by time ms": recent,
    },
  });
};

const serviceOn = ({ store, documents }: Stores, sink: Sink): Service =>
  new Service({
    store,
    documents,
    sink,
    ...plainParts(`bench-${process.pid}`),
  });

const perCall = 200;

const bury = async (store: DelayStore, count: number): Promise<void> => {
  const nowMs = epochMs(Date.now() - 10_000);
  const reason = { code: "topic_not_found", detail: "No route info of this topic: ORDERS" };
  await inParallel(Math.ceil(count / perCall), 8, async (call) => {
    const tail = call % 65_536;
    const items = Array.from({ length: Math.min(perCall, count - call * perCall) }, () => {
      const id = timeOrderedId(nowMs, randomBytes(10), tail);
      const message: DelayedMessage = {
        id,
        tenant: "default",
        topic: "ORDERS",
        keys: [],
        properties: new Map(),
        body: body200,
        deliverAtMs: nowMs,
        acceptedAtMs: nowMs,
        attempt: 3,
      };
      return { message, reason };
    });
    await store.bury(shardOf(items[0]!.message.id, store.shardCount), items, nowMs);
  });
};
