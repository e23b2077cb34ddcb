import { createRocketmqSink } from "../src/adapters/rocketmq/rocketmq-sink.ts";
import { aMessage, parts } from "../src/adapters/rocketmq/testing.ts";
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
 * after a kill, so that a relay elsewhere does it when the grace is over. Plain sends stand before them: what the
 * broker and the consumer take of it. With half messages: transactions-half.
 *
 * What surprised us: a broker that has just been started compiles itself for half a minute at this rate, with more than
 * a core; the fast path's p99 was 230 ms after a warm-up of 3 s and 50 ms after one of 60 s.
 */
const perSecond = 200;
const brokerWarmUpMs = 40_000;
const warmUpMs = 5_000;

export const benchmark: Benchmark = async (lab, report) => {
  const { endpoint, broker } = lab.rocketmq;
  const durationMs = lab.quick ? 2_000 : 15_000;

  await plainSends(lab, durationMs, report);

  for (const [id, what, over] of [
    ["fast", "by the fast path", {}],
    ["relay", "by a relay in the same process, no fast path", { fastPath: false }],
  ] as const) {
    await using world = await openTxWorld(lab.mysql.url);
    const { topic, group } = await createTopic(broker, `TX_${id.toUpperCase()}`);
    const begunMs = new Map<string, number>();
    const mq = await world.producer({ endpoint, ...over, onCommitted: noteIn(begunMs) });
    const one = transactionOf(mq, topic);
    await measureVisible(
      lab,
      { endpoint, topic, group, one, begunMs, durationMs, warmUpMs, brokerPid: lab.rocketmq.pid },
      (row) =>
        report({ id: `transactions/visible ${id}`, what: `commit → consumer ${what}`, durability: "always", ...row }),
    );
    await mq.close();
  }

  await using world = await openTxWorld(lab.mysql.url);
  const { topic, group } = await createTopic(broker, "TX_LEFT");
  const begunMs = new Map<string, number>();
  // Nobody listens there: what is committed stays where it is.
  const nowhere = `127.0.0.1:${await freePort()}`;
  const mq = await world.producer({ endpoint: nowhere, relay: false, onCommitted: noteIn(begunMs) });
  const relay = await startRelay({ rocketmq: { endpoint }, pool: world.pool });
  const one = transactionOf(mq, topic);
  await measureVisible(
    lab,
    { endpoint, topic, group, one, begunMs, durationMs, warmUpMs, brokerPid: lab.rocketmq.pid },
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

const plainSends = async (lab: Lab, durationMs: number, report: Report): Promise<void> => {
  const { endpoint, broker, pid: brokerPid } = lab.rocketmq;
  const { topic, group } = await createTopic(broker, "TX_PLAIN");
  const sink = createRocketmqSink({ endpoint, ...parts });
  const begunMs = new Map<string, number>();
  const one = async () => {
    const message = aMessage({ topic, body: body200 });
    begunMs.set(message.id, Date.now());
    const [result] = await sink.send(topic, [message]);
    if (!result!.ok) throw new Error(result!.failure.detail);
  };
  await measureVisible(
    lab,
    { endpoint, topic, group, one, begunMs, durationMs, warmUpMs: lab.quick ? 2_000 : brokerWarmUpMs, brokerPid },
    (row) => report({ id: "transactions/visible plain", what: "a plain send → consumer", durability: "none", ...row }),
  );
  await sink.close();
};

export const transactionOf = (mq: Awaited<ReturnType<TxWorld["producer"]>>, topic: string) => () =>
  mq.transaction(async (tx, q) => {
    await insertOrder(tx);
    return (await q.send({ topic, body: body200 })).id;
  });

export const noteIn = (begunMs: Map<string, number>) => (id: unknown) => void begunMs.set(String(id), Date.now());

type Visible = {
  readonly endpoint: string;
  readonly topic: string;
  readonly group: string;
  readonly one: () => Promise<unknown>;
  /** By message: when COMMIT was answered, or a plain send began. */
  readonly begunMs: ReadonlyMap<string, number>;
  readonly durationMs: number;
  readonly warmUpMs: number;
  readonly brokerPid: number;
};

export const measureVisible = async (
  lab: Lab,
  { endpoint, topic, group, one, begunMs, durationMs, warmUpMs, brokerPid }: Visible,
  report: (row: Pick<Parameters<Report>[0], "cpuMicros" | "numbers"> & Partial<Measured>) => void,
): Promise<void> => {
  const witness = await startWitness(endpoint, { topic, group });
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
  await run(Math.min(warmUpMs, durationMs * 3));
  await arrived(begunMs.size);
  const warmedUp = new Set(begunMs.keys());
  const processes: Processes = {
    application: process.pid,
    database: lab.mysql.pid,
    rocketmq: brokerPid,
    consumer: witness.pid,
  };
  const meter = new Meter(processes);
  await run(durationMs);
  const arrivals = await arrived(begunMs.size);
  const { cpuMicros, othersShare = 0, ...measured } = meter.stop(begunMs.size - warmedUp.size);
  const samples = new Samples();
  for (const [id, atMs] of begunMs) if (!warmedUp.has(id)) samples.push((arrivals.get(id) ?? Number.NaN) - atMs);
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
