import { statfsSync } from "node:fs";
import { MysqlOutbox } from "../src/adapters/mysql/mysql-outbox.ts";
import { outboxShards } from "../src/adapters/mysql/outbox-schema.ts";
import { startRelay } from "../src/tx-producer.ts";
import { createTopic } from "./lab/broker.ts";
import { body200 } from "./lab/fill.ts";
import { Meter } from "./lab/meter.ts";
import { fillOutbox } from "./lab/outbox-fill.ts";
import { until } from "./lab/pace.ts";
import type { Benchmark, Lab, Report } from "./lab/row.ts";
import { Samples } from "./lab/samples.ts";
import { openTxWorld, type TxWorld } from "./lab/tx-world.ts";

/**
 * The relay on a table that is full: how fast one process claims and removes rows, how fast it brings them to the real
 * broker (its bound of 5,000 a second taken off), and whether a claim stays as quick when the table holds ten million.
 * "Claim" is what the relay does for a batch of 200 of one shard: find and lock what is due, and read it with bodies.
 */
const batch = 200;

export const benchmark: Benchmark = async (lab, report) => {
  await claiming(lab, report);
  await relaying(lab, report);
  await sizes(lab, report);
};

const claim = async (outbox: MysqlOutbox, shard: number): Promise<number[]> => {
  const stubs = await outbox.due(shard, batch);
  return (await outbox.fetch(stubs.map(({ row }) => row))).map(({ row }) => row);
};

/** As the relay does it, without sending: four shards at a time, on its one connection. */
const claiming = async ({ quick, mysql }: Lab, report: Report): Promise<void> => {
  const count = quick ? 20_000 : 200_000;
  await using world = await openTxWorld(mysql.url);
  await fillOutbox(world.pool, { topic: "nowhere", from: 1, count, body: body200 });
  const outbox = new MysqlOutbox(world.pool, outboxShards);
  const meter = new Meter({ application: process.pid, database: mysql.pid });
  let claimed = 0;
  const work = async (first: number): Promise<void> => {
    for (let shard = first; shard < outboxShards; shard += 4) {
      for (let rows = await claim(outbox, shard); rows.length > 0; rows = await claim(outbox, shard)) {
        const removed = await outbox.remove(rows); // apart: "claimed += await" would forget the other lanes' rows
        claimed += removed;
      }
    }
  };
  await Promise.all([0, 1, 2, 3].map(work));
  const measured = meter.stop(count);
  await outbox.close();
  report({
    id: "transactions/claim + remove",
    what: `the relay's statements alone: claim and remove ${count.toLocaleString("en")} rows`,
    durability: "always",
    ...measured,
    numbers: { claimed },
  });
};

const relaying = async ({ quick, mysql, rocketmq }: Lab, report: Report): Promise<void> => {
  const count = quick ? 20_000 : 200_000;
  await using world = await openTxWorld(mysql.url);
  const { topic } = await createTopic(rocketmq.broker, "TX_RELAY");
  await fillOutbox(world.pool, { topic, from: 1, count, body: body200 });
  const relay = await startRelay({
    rocketmq: { endpoint: rocketmq.endpoint },
    pool: world.pool,
    settings: { perSecondMax: 1_000_000 },
  });
  const warmUp = count / 10;
  await until("the first are sent", 60_000, () => relay.counts().sentByRelay >= warmUp, 2);
  const meter = new Meter({ application: process.pid, database: mysql.pid, rocketmq: rocketmq.pid });
  const before = relay.counts().sentByRelay;
  await until("all are sent", 120_000, () => relay.counts().sentByRelay >= count, 2);
  const measured = meter.stop(count - before);
  await until("all are removed", 10_000, async () => (await world.waiting()) === 0);
  const { sentByRelay, perhapsTwice } = relay.counts();
  await relay.stop();
  report({
    id: "transactions/relay",
    what: `one relay process: ${count.toLocaleString("en")} rows claimed, sent to RocketMQ, removed`,
    durability: "always",
    ...measured,
    numbers: { "sent twice": sentByRelay - count + perhapsTwice },
  });
};

/** A row takes some 330 B with its indexes; this leaves room for the log of the database. */
const bytesPerRow = 600;

const sizes = async ({ quick, mysql, runDir }: Lab, report: Report): Promise<void> => {
  const body = Buffer.alloc(32, "x");
  await using world = await openTxWorld(mysql.url);
  const outbox = new MysqlOutbox(world.pool, outboxShards);
  let rows = 0;
  let next = 1;
  for (const size of quick ? [10_000, 100_000] : [10_000, 100_000, 1_000_000, 10_000_000]) {
    const { bavail, bsize } = statfsSync(runDir);
    if (bavail * bsize < 2 * (size - rows) * bytesPerRow) {
      report({
        id: `transactions/claim at ${size}`,
        what: `claim at ${size.toLocaleString("en")} rows`,
        durability: "always",
        cpuMicros: {},
        numbers: {},
        void: `the disk has only ${Math.round((bavail * bsize) / 2 ** 30)} GiB left`,
      });
      break;
    }
    const beganMs = performance.now();
    await fillOutbox(world.pool, { topic: "nowhere", from: next, count: size - rows, body });
    const fillSeconds = (performance.now() - beganMs) / 1_000;
    next += size - rows;
    rows = size;
    next = await claimsAt(world, outbox, { size, next, body, fillSeconds, claims: quick ? 100 : 640, mysql }, report);
  }
  await outbox.close();
};

type Size = {
  readonly size: number;
  readonly next: number;
  readonly body: Buffer;
  readonly fillSeconds: number;
  readonly claims: number;
  readonly mysql: Lab["mysql"];
};

/** What is taken is put back, with later times, so that the table keeps its size. Answers the next free number. */
const claimsAt = async (
  { pool }: TxWorld,
  outbox: MysqlOutbox,
  { size, next, body, fillSeconds, claims, mysql }: Size,
  report: Report,
): Promise<number> => {
  const all = Array.from({ length: outboxShards }, (_, shard) => shard);
  const samples = { claim: new Samples(), next: new Samples(), remove: new Samples() };
  const timed = async <T>(into: Samples, work: () => Promise<T>): Promise<T> => {
    const beganMs = performance.now();
    const answer = await work();
    into.push(performance.now() - beganMs);
    return answer;
  };
  let free = next;
  const meter = new Meter({ application: process.pid, database: mysql.pid });
  for (let i = -outboxShards; i < claims; i++) {
    if (i === 0) for (const each of Object.values(samples)) each.clear();
    await timed(samples.next, () => outbox.nextDue(all));
    const rows = await timed(samples.claim, () => claim(outbox, i & (outboxShards - 1)));
    if (rows.length !== batch) throw new Error(`a claim at ${size} rows found ${rows.length} rows`);
    await timed(samples.remove, () => outbox.remove(rows));
    const topUp = { topic: "nowhere", from: free, count: batch, body, shard: i & (outboxShards - 1), dueForMs: 0 };
    await fillOutbox(pool, topUp);
    free += batch;
  }
  const { cpuMicros, othersShare = 0 } = meter.stop(batch * (claims + outboxShards));
  const [claimed, found, removed] = [samples.claim.summary(), samples.next.summary(), samples.remove.summary()];
  report({
    id: `transactions/claim at ${size}`,
    what: `a claim of ${batch} at ${size.toLocaleString("en")} rows (CPU with removing and putting back)`,
    durability: "always",
    cpuMicros,
    othersShare,
    numbers: {
      "claim p50 ms": claimed.p50Ms,
      "claim p99 ms": claimed.p99Ms,
      "next due p50 ms": found.p50Ms,
      "next due p99 ms": found.p99Ms,
      "remove p50 ms": removed.p50Ms,
      "remove p99 ms": removed.p99Ms,
      "fill seconds": fillSeconds,
    },
  });
  return free;
};
