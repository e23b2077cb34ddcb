import Benchmarks from "benchmark";
import { createMessageIds, createSendEncoder } from "../src/adapters/rocketmq/send-request.ts";
import { systemRandom } from "../src/adapters/system/system-random.ts";
import { readRecord, recordBytesMax, writeRecord } from "../src/delay/record.ts";
import { admitSchedule } from "../src/ingest/admit.ts";
import { idFromBytes, idIntoBytes } from "../src/message/id.ts";
import { epochMs } from "../src/message/time.ts";
import type { Benchmark } from "./lab/row.ts";

/** The pure work that every message costs, one function at a time: what a profile shows, in numbers that repeat. */
export const benchmark: Benchmark = async (_lab, report) => {
  const nowMs = epochMs(1_800_000_000_000);
  const context = { tenant: "default", nowMs, random: systemRandom, tail: 7 };
  const request = { topic: "orders", body: "x".repeat(200), delay: "30m", tag: "paid" };
  const { message } = admitSchedule(request, context);
  const keyed = { ...request, key: "order-4711" };
  const bytes = Buffer.alloc(16);
  idIntoBytes(message.id, bytes);
  const form = { level: 0, names: "byLane" } as const;
  const record = Buffer.alloc(recordBytesMax(message, form));
  const recordEnd = writeRecord(record, 0, message, form);
  const names = { tenant: "default", topic: "orders" };
  const encode = createSendEncoder({ bornHost: "bench", nextId: createMessageIds(Buffer.alloc(6)) });
  const batch = Array.from({ length: 64 }, () => message);

  const suite = new Benchmarks.Suite()
    .add("admit a request", () => admitSchedule(request, context))
    .add("admit a request with a key", () => admitSchedule(keyed, context))
    .add("id to bytes", () => idIntoBytes(message.id, bytes))
    .add("id from bytes", () => idFromBytes(bytes))
    .add("write a record", () => writeRecord(record, 0, message, form))
    .add("read a record", () => readRecord(record, 0, recordEnd, message.id, () => names))
    .add("encode 64 messages for the broker", () => encode("orders", batch, nowMs));
  for (const { name, hz, stats } of await run(suite)) {
    const messages = name.startsWith("encode 64") ? 64 : 1;
    const micros = 1e6 / hz / messages;
    report({
      id: `pure/${name}`,
      what: name,
      durability: "none",
      perSecond: hz * messages,
      cpuMicros: { server: micros },
      numbers: { "± %": stats.rme },
    });
  }
};

type Result = { readonly name: string; readonly hz: number; readonly stats: { readonly rme: number } };

const run = (suite: Benchmarks.Suite): Promise<Result[]> =>
  new Promise((resolve) => {
    const results: Result[] = [];
    suite
      .on("cycle", ({ target }: Benchmarks.Event) => {
        results.push(target as unknown as Result);
      })
      .on("complete", () => resolve(results))
      .run({ async: true });
  });
