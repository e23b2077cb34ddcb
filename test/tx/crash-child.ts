// A program that sends in transactions until it is killed: test/faults/preload/failpoint.ts ends it at a labelled step,
// as kill -9 does. A third of its transactions is rolled back, by itself or by the one it has joined; every second one
// cancels the delayed message of the one before. It says on stdout what it is about to commit (+) or to roll back (-),
// and whose message it cancels. What it leaves behind is judged by crash-books.ts.
//
// It ends when stdin does: whoever started it is gone then. Without TX_LIFE it only loads, which fills the compile cache.

import { writeSync } from "node:fs";
import { setTimeout as pause } from "node:timers/promises";
import { createPool, type PoolConnection } from "mysql2/promise";
import { createTxProducer, fromMysql2, type TxSender } from "../../src/tx-producer.ts";
import { canceledDelayMs, keptDelayMs, type Life, type World } from "./crash-plan.ts";

if (process.env.TX_LIFE === undefined) process.exit();
const { mode, step, of, name } = JSON.parse(process.env.TX_LIFE) as Life;
const { mysql, rocketmq, escapement, ingestTopic, topics } = JSON.parse(process.env.TX_WORLD!) as World;
const topic = topics[mode];
process.stdin.on("close", () => process.exit()).resume();

/** Halves that their sender leaves alone, so that the broker asks, or nobody does and the backstop comes. */
const leavesHalves = step === "check-judged" || step === "backstop-sent";
const leaving = { commitWithinMs: 0, turnMs: 300 };
const overdueAtOnce = { ...leaving, turnMs: 50, backstopAfterMs: 1, backstopLatestMs: 1 };
const timing = step === "backstop-sent" ? overdueAtOnce : leavesHalves ? leaving : {};
/** A cancel that takes its message out of the outbox finds no such name at the delay server; so the relay is slow. */
const takesName = step === "cancel-name-taken";
const relays = step.startsWith("relay-") || takesName;

const pool = createPool({ uri: mysql, connectionLimit: 10 });
const mq = await createTxProducer({
  rocketmq,
  escapement,
  ingestTopic,
  db: fromMysql2(pool),
  order: "strict",
  fastPath: relays ? false : { graceMs: 400 },
  relay: mode === "half" ? false : { idlePollMs: takesName ? [150, 200] : [20, 40], leaseMs: 600, batch: 5 },
  ...(mode === "half" ? { mode, half: { topics: [topics.half], delayedTopics: [topics.delayed], timing } } : {}),
});

/** A delayed message that the next transaction takes back. */
type Cancelable = { readonly id: string; readonly key: string };
type Work = { readonly id: string; readonly n: number; readonly rollsBack: boolean; readonly cancels?: Cancelable };
const delayOf = ({ cancels }: Work): number => (cancels === undefined ? canceledDelayMs : keptDelayMs);

/** @returns the key of the delayed one. */
const sendAll = async (tx: PoolConnection, q: TxSender, work: Work): Promise<string> => {
  const { id, n, cancels } = work;
  if (cancels !== undefined) {
    await tx.query("INSERT INTO cancels VALUES (?, UNHEX(REPLACE(?, '-', '')))", [cancels.id, q.txId]);
    await q.cancel({ key: cancels.key });
  }
  const named = n % 2 === 0 ? { dedupe: id } : {};
  const { key } = await q.send({ topic: topics.delayed, body: `${id}~`, delay: delayOf(work), ...named });
  await q.send({ topic, body: id });
  await q.send({ topic, body: `${id}+` });
  await q.send({ topic: topics.ordered, key: `k${(n >> 1) % 3}`, body: `${id}=` });
  // The lock of strict order is all that keeps those of the same key from taking their turn first; and the delay that
  // counts from here would be seen.
  if (n % 3 === 0) await pause(20);
  await tx.query("UPDATE turns SET turn = turn + 1 WHERE name = ?", [`k${(n >> 1) % 3}`]);
  return key!;
};

const order = (tx: PoolConnection, id: string) => tx.query("INSERT INTO orders VALUES (?, NULL)", [id]);
const rememberNow = (tx: PoolConnection) => tx.query("SET @delayFrom = FLOOR(UNIX_TIMESTAMP(NOW(3)) * 1000)");
/** What crash-books.ts calls Committed. */
const note = (tx: PoolConnection, work: Work) =>
  tx.query(
    "UPDATE orders SET note = (SELECT CONCAT_WS(' ', name, turn, @delayFrom + ?) FROM turns WHERE name = ?) WHERE id = ?",
    [delayOf(work), `k${(work.n >> 1) % 3}`, work.id],
  );

const own = (work: Work): Promise<string> =>
  mq.transaction(async (tx, q) => {
    await order(tx, work.id);
    const key = await sendAll(tx, q, work);
    await rememberNow(tx);
    await note(tx, work);
    if (work.rollsBack) throw new Error("rolled back on purpose");
    return key;
  });

const joined = async (work: Work): Promise<string> => {
  const connection = await pool.getConnection();
  try {
    await connection.beginTransaction();
    await order(connection, work.id);
    // Nobody tells us of the commit.
    await rememberNow(connection);
    const key = await sendAll(connection, mq.in(connection), work);
    await note(connection, work);
    if (work.rollsBack) throw new Error("rolled back on purpose");
    await connection.commit();
    return key;
  } catch (error) {
    await connection.rollback();
    throw error;
  } finally {
    connection.release();
  }
};

let next = 0;
const worker = async (): Promise<void> => {
  for (let last: Cancelable | undefined; ; ) {
    const n = next++;
    const id = `${name}-${n}`;
    const rollsBack = of === undefined ? n % 3 === 2 : of === "rolled-back";
    // A joined one whose step is its own COMMIT would never come to it.
    const joins = of === "rolled-back" || (of === undefined && n % 7 === 5);
    const work: Work = { id, n, rollsBack, ...(last === undefined ? {} : { cancels: last }) };
    writeSync(1, `${rollsBack ? "-" : "+"} ${id} ${last?.id ?? ""}\n`);
    const key = await (joins ? joined : own)(work).catch(() => undefined);
    last = key === undefined || last !== undefined ? undefined : { id, key };
    // What is left alone is asked about while its sender does nothing.
    if (leavesHalves && n % 4 === 3) await pause(1_500);
  }
};
await Promise.all(Array.from({ length: mode === "outbox" ? 3 : 1 }, worker));
