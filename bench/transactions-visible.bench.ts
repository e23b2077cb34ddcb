import { startRelay } from "../src/tx-producer.ts";
import { createTopic } from "./lab/broker.ts";
import { startWitness } from "./lab/consumer.ts";
import { body200 } from "./lab/fill.ts";
import type { Measured, Processes } from "./lab/meter.ts";
import { Meter } from "./lab/meter.ts";
import { atRate, until } from "./lab/pace.ts";
import type { Benchmark, Lab, Report } from "./lab/row.ts";
import { Samples } from "./lab/samples.ts";
import { freePort } from "./lab/server-process.ts";
import { insertOrder, openTxWorld, type TxWorld } from "./lab/tx-world.ts";

/**
 * From the answer to COMMIT until an ordinary consumer, the official client in a process of its own, has the message,
 * at 200 transactions a second: by the fast path; by the relay alone; and when whoever committed sends nothing more, as
 * after a kill, so that a relay elsewhere does it when the grace is over. With half messages: transactions-half.
 */
export const perSecond = 200;

export const benchmark: Benchmark = async (lab, report) => {
  const { endpoint, broker } = lab.rocketmq;
  const durationMs = lab.quick ? 2_000 : 15_000;

  for (const [id, what, over] of [
    ["fast", "by the fast path", {}],
    ["relay", "by a relay in the same process, no fast path", { fastPath: false }],
  ] as const) {
    await using world = await openTxWorld(lab.mysql.url);
    const { topic, group } = await createTopic(broker, `TX_${id.toUpperCase()}`);
    const committedMs = new Map<string, number>();
    const mq = await world.producer({ endpoint, ...over, onCommitted: noteIn(committedMs) });
    await measureVisible(
      lab,
      { endpoint, topic, group, mq, committedMs, durationMs, brokerPid: lab.rocketmq.pid },
      (row) =>
        report({ id: `transactions/visible ${id}`, what: `commit → consumer ${what}`, durability: "always", ...row }),
    );
    await mq.close();
  }

  await using world = await openTxWorld(lab.mysql.url);
  const { topic, group } = await createTopic(broker, "TX_LEFT");
  const committedMs = new Map<string, number>();
  // Nobody listens there: what is committed stays where it is.
  const nowhere = `127.0.0.1:${await freePort()}`;
  const mq = await world.producer({ endpoint: nowhere, relay: false, onCommitted: noteIn(committedMs) });
  const relay = await startRelay({ rocketmq: { endpoint }, pool: world.pool });
  await measureVisible(
    lab,
    { endpoint, topic, group, mq, committedMs, durationMs, brokerPid: lab.rocketmq.pid },
    (row) =>
      report({
        id: "transactions/visible left behind",
        what: "commit → consumer of what the committer left behind, by another relay after the grace of 5 s",
        durability: "always",
        ...row,
      }),
  );
  await relay.stop();
  await mq.close();
};

export const noteIn = (committedMs: Map<string, number>) => (id: unknown) =>
  void committedMs.set(String(id), Date.now());

type Visible = {
  readonly endpoint: string;
  readonly topic: string;
  readonly group: string;
  readonly mq: Awaited<ReturnType<TxWorld["producer"]>>;
  readonly committedMs: ReadonlyMap<string, number>;
  readonly durationMs: number;
  readonly brokerPid: number;
};

export const measureVisible = async (
  lab: Lab,
  { endpoint, topic, group, mq, committedMs, durationMs, brokerPid }: Visible,
  report: (row: Pick<Parameters<Report>[0], "cpuMicros" | "numbers"> & Partial<Measured>) => void,
): Promise<void> => {
  const witness = await startWitness(endpoint, { topic, group });
  const one = () =>
    mq.transaction(async (tx, q) => {
      await insertOrder(tx);
      return (await q.send({ topic, body: body200 })).id;
    });
  let failures = 0;
  const run = async (forMs: number): Promise<void> => {
    const open = new Set<Promise<unknown>>();
    await atRate(perSecond, forMs, () => {
      const done: Promise<unknown> = one()
        .catch(() => failures++)
        .finally(() => open.delete(done));
      open.add(done);
    });
    await Promise.all(open);
  };
  const arrived = async (count: number): Promise<ReadonlyMap<string, number>> => {
    let arrivals: ReadonlyMap<string, number> = new Map();
    const isThere = async (): Promise<boolean> => {
      arrivals = await witness.arrivals();
      return arrivals.size >= count;
    };
    await until("all have arrived", 60_000, isThere, 250);
    return arrivals;
  };
  // The broker, the client and this process compile themselves.
  await run(Math.min(3_000, durationMs));
  await arrived(committedMs.size);
  const warmedUp = new Set(committedMs.keys());
  const processes: Processes = {
    application: process.pid,
    database: lab.mysql.pid,
    rocketmq: brokerPid,
    consumer: witness.pid,
  };
  const meter = new Meter(processes);
  await run(durationMs);
  const arrivals = await arrived(committedMs.size);
  const { cpuMicros, othersShare = 0, ...measured } = meter.stop(committedMs.size - warmedUp.size);
  const samples = new Samples();
  for (const [id, atMs] of committedMs) if (!warmedUp.has(id)) samples.push((arrivals.get(id) ?? Number.NaN) - atMs);
  const { p50Ms, p99Ms, maxMs, count } = samples.summary();
  const { duplicates } = await witness.summary();
  await witness.stop();
  report({
    cpuMicros,
    othersShare,
    ...(measured.void === undefined ? {} : { void: measured.void }),
    numbers: {
      "per second": count / (durationMs / 1_000),
      "p50 ms": p50Ms,
      "p99 ms": p99Ms,
      "max ms": maxMs,
      duplicates,
      failures,
    },
  });
};
