import { statfsSync } from "node:fs";
import { MysqlOutbox } from "../src/adapters/mysql/mysql-outbox.ts";
import { outboxShards } from "../src/adapters/mysql/outbox-schema.ts";
import { claim, claimRows, fillOutbox } from "./lab/full-outbox.ts";
import { Meter } from "./lab/meter.ts";
import type { Benchmark, Lab, Report } from "./lab/row.ts";
import { Samples } from "./lab/samples.ts";
import { openTxWorld, type TxWorld } from "./lab/tx-world.ts";

/**
 * Does a relay's round stay as quick when the outbox holds ten million rows? Its statements one by one: which shards
 * have something due; a claim (find and lock what is due in a shard, read it with bodies); the removal.
 *
 * What surprised us: right after a table has grown from nothing, MariaDB still plans with the statistics of the small
 * one, and may read a whole index where it needs its first entry. So what is measured includes that time.
 */
/** A row takes some 330 B with its indexes; this leaves room for the log of the database. */
const bytesPerRow = 600;
/** Of claims at one size, in case one takes seconds. */
const perSizeMs = 60_000;

export const benchmark: Benchmark = async ({ quick, mysql, runDir }, report) => {
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
  const endMs = performance.now() + perSizeMs;
  let done = 0;
  for (let i = -outboxShards; i < claims && performance.now() < endMs; i++, done++) {
    if (i === 0) for (const each of Object.values(samples)) each.clear();
    await timed(samples.next, () => outbox.nextDue(all));
    const rows = await timed(samples.claim, () => claim(outbox, i & (outboxShards - 1)));
    if (rows.length !== claimRows) throw new Error(`a claim at ${size} rows found ${rows.length} rows`);
    await timed(samples.remove, () => outbox.remove(rows));
    const topUp = { topic: "nowhere", from: free, count: claimRows, body, shard: i & (outboxShards - 1), dueForMs: 0 };
    await fillOutbox(pool, topUp);
    free += claimRows;
  }
  const { cpuMicros, othersShare = 0 } = meter.stop(claimRows * done);
  const [claimed, found, removed] = [samples.claim.summary(), samples.next.summary(), samples.remove.summary()];
  report({
    id: `transactions/claim at ${size}`,
    what: `a claim of ${claimRows} at ${size.toLocaleString("en")} rows (CPU with removing and putting back)`,
    durability: "always",
    cpuMicros,
    othersShare,
    numbers: {
      claims: claimed.count,
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
