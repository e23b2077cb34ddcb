import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { createTopic } from "./lab/broker.ts";
import { startEmbeddedBroker } from "./lab/embedded-broker.ts";
import { body200 } from "./lab/fill.ts";
import { Meter } from "./lab/meter.ts";
import { until } from "./lab/pace.ts";
import type { Benchmark } from "./lab/row.ts";
import { freePort } from "./lab/server-process.ts";
import { insertOrder, openTxWorld, underLoad } from "./lab/tx-world.ts";

/**
 * The broker is killed under a business that keeps 16 transactions open: what it can write meanwhile, beside what it
 * writes with the broker there; and how long the backlog takes when the broker is back and the business goes on. The
 * broker is the embedded one, which is back in a moment on the same port. A minute stands for the hour: what grows with
 * the hour is the number of rows (transactions-size shows what they cost), and catching up is bounded at 5,000 a second.
 */
const open = 16;

export const benchmark: Benchmark = async ({ quick, mysql, runDir }, report) => {
  const upMs = quick ? 2_000 : 10_000;
  const downMs = quick ? 4_000 : 60_000;
  mkdirSync(runDir, { recursive: true });
  const folder = mkdtempSync(join(runDir, "outage-"));
  const port = await freePort();
  let broker = await startEmbeddedBroker(folder, port);
  const { topic } = await createTopic(broker.endpoint, "TX_OUTAGE");
  await using world = await openTxWorld(mysql.url);
  let committed = 0;
  const mq = await world.producer({ endpoint: broker.endpoint, onCommitted: () => void committed++ });
  const one = () =>
    mq.transaction(async (tx, q) => {
      await insertOrder(tx);
      await q.send({ topic, body: body200 });
    });
  const processes = { application: process.pid, database: mysql.pid };

  const up = await underLoad({ processes: { ...processes, server: broker.pid }, durationMs: upMs, open }, one);
  report({
    id: "transactions/outage up",
    what: `INSERT, q.send, COMMIT with the broker there; ${open} open at a time`,
    durability: "always",
    ...up.measured,
    numbers: up.numbers,
  });

  process.kill(broker.pid, "SIGKILL");
  const down = await underLoad({ processes, durationMs: downMs, open }, one);
  const backlog = await world.waiting();
  report({
    id: "transactions/outage down",
    what: `the same with the broker dead, for ${downMs / 1_000} s`,
    durability: "always",
    ...down.measured,
    numbers: { ...down.numbers, backlog },
  });

  broker = await startEmbeddedBroker(folder, port);
  const meter = new Meter({ ...processes, server: broker.pid });
  const sentBefore = sentOf(mq.counts());
  const committedBefore = committed;
  let isCatchingUp = true;
  const writing = Array.from({ length: open / 4 }, async () => {
    while (isCatchingUp) await one();
  });
  const caughtUpMs = await untilCaughtUp(() => world.waiting(), 120_000);
  const written = committed - committedBefore;
  const sent = sentOf(mq.counts()) - sentBefore;
  const measured = meter.stop(sent, caughtUpMs);
  isCatchingUp = false;
  await Promise.all(writing);
  await until("the outbox is empty", 30_000, async () => (await world.waiting()) === 0, 100);
  const counts = mq.counts();
  await mq.close();
  await broker.stop();
  rmSync(folder, { recursive: true, force: true });
  report({
    id: "transactions/outage after",
    what: `catching up while ${open / 4} transactions are open at a time`,
    durability: "always",
    ...measured,
    numbers: {
      "caught up ms": caughtUpMs,
      backlog,
      "written meanwhile": written,
      "not sent": Math.max(0, committed - sentOf(counts)),
      "perhaps twice": sentOf(counts) - committed,
    },
  });
};

const sentOf = ({ sentFast, sentByRelay }: { readonly sentFast: number; readonly sentByRelay: number }): number =>
  sentFast + sentByRelay;

/** No more rows than transactions that are under way and waiting out a grace would leave. */
const untilCaughtUp = async (waiting: () => Promise<number>, withinMs: number): Promise<number> => {
  const beganMs = performance.now();
  await until("the backlog is gone", withinMs, async () => (await waiting()) <= 2 * open, 50);
  return performance.now() - beganMs;
};
