// A program that sends in transactions until it is killed: test/faults/preload/failpoint.ts ends it at a labelled step,
// as kill -9 does. A third of its transactions is rolled back, by itself or by the one it has joined. It says on stdout
// what it is about to commit (+) or to roll back (-). What it leaves behind is judged by crash-matrix.ts.
//
// It ends when stdin does: whoever started it is gone then. Without TX_LIFE it only loads, which fills the compile cache.

import { writeSync } from "node:fs";
import { setTimeout as pause } from "node:timers/promises";
import { createPool } from "mysql2/promise";
import { createTxProducer, fromMysql2, type TxSender } from "../../src/tx-producer.ts";
import type { Life } from "./crash-plan.ts";

const { TX_MYSQL: mysql = "", TX_ENDPOINT: endpoint = "", TX_TOPIC: topic = "" } = process.env;
if (process.env.TX_LIFE === undefined) process.exit();
const { mode, step, of, name } = JSON.parse(process.env.TX_LIFE) as Life;
process.stdin.on("close", () => process.exit()).resume();

/** Halves that their sender leaves alone, so that the broker asks, or nobody does and the backstop comes. */
const leavesHalves = step === "check-judged" || step === "backstop-sent";
const leaving = { commitWithinMs: 0, turnMs: 300 };
const overdueAtOnce = { ...leaving, turnMs: 50, backstopAfterMs: 1, backstopLatestMs: 1 };
const timing = step === "backstop-sent" ? overdueAtOnce : leavesHalves ? leaving : {};

const pool = createPool({ uri: mysql, connectionLimit: 10 });
const mq = await createTxProducer({
  rocketmq: { endpoint },
  db: fromMysql2(pool),
  fastPath: step.startsWith("relay-") ? false : { graceMs: 400 },
  relay: mode === "half" ? false : { idlePollMs: [10, 20], leaseMs: 600, batch: 5 },
  ...(mode === "half" ? { mode, half: { topics: [topic], timing } } : {}),
});

const sendTwo = async (q: TxSender, id: string, n: number): Promise<void> => {
  await q.send({ topic, ...(mode === "outbox" ? { key: `k${n % 3}` } : {}), body: id });
  await q.send({ topic, body: `${id}+` });
};

const own = (id: string, n: number, rollsBack: boolean): Promise<void> =>
  mq.transaction(async (tx, q) => {
    await tx.query("INSERT INTO orders VALUES (?, NULL)", [id]);
    await sendTwo(q, id, n);
    if (rollsBack) throw new Error("rolled back on purpose");
  });

const joined = async (id: string, n: number, rollsBack: boolean): Promise<void> => {
  const connection = await pool.getConnection();
  try {
    await connection.beginTransaction();
    await connection.query("INSERT INTO orders VALUES (?, NULL)", [id]);
    await sendTwo(mq.in(connection), id, n);
    await (rollsBack ? connection.rollback() : connection.commit());
  } finally {
    connection.release();
  }
};

let next = 0;
const worker = async (): Promise<void> => {
  for (;;) {
    const n = next++;
    const id = `${name}-${n}`;
    const rollsBack = of === undefined ? n % 3 === 2 : of === "rolled-back";
    // A joined one whose step is its own COMMIT would never come to it.
    const joins = of === "rolled-back" || (of === undefined && n % 7 === 5);
    writeSync(1, `${rollsBack ? "-" : "+"}${id}\n`);
    await (joins ? joined : own)(id, n, rollsBack).catch(() => {});
    // What is left alone is asked about while its sender does nothing.
    if (leavesHalves && n % 4 === 3) await pause(1_500);
  }
};
await Promise.all(Array.from({ length: mode === "outbox" ? 3 : 1 }, worker));
