/**
 * The service itself, one process that may die at any moment: takes orders while the shop is open, pays those whose
 * customers pay, and consumes what it has sent. main.ts starts it, and with `--chaos` kills it.
 */
import { randomUUID } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import { createPool, type PoolConnection, type ResultSetHeader } from "mysql2/promise";
import { startConsumer } from "../../src/start-consumer.ts"; // "escapement/consumer" in your own project
import { createInbox, createTxProducer, fromMysql2 } from "../../src/tx-producer.ts"; // "escapement/tx"

const { MYSQL_URL = "", RUN = "", PAY_WITHIN_MS } = process.env;
const url = process.env.ESCAPEMENT_URL ?? "http://127.0.0.1:7361";
const endpoint = process.env.ROCKETMQ_ENDPOINT ?? "127.0.0.1:8081";
const payWithinMs = Number(PAY_WITHIN_MS);
type Order = { readonly id: string };

const pool = createPool({ uri: MYSQL_URL, connectionLimit: 20 });
const inbox = createInbox({ pool, keepMs: 7 * 86_400_000 });
const mq = await createTxProducer({ rocketmq: { endpoint }, db: fromMysql2(pool), escapement: { url } });

/** The order, the news of it, and its end if nobody pays: all three or none. */
const takeOrder = () =>
  mq.transaction(async (tx, q) => {
    const order: Order = { id: `${RUN}-${randomUUID()}` };
    const paysInMs = Math.random() < 0.5 ? Math.random() * payWithinMs : null;
    await tx.query("INSERT INTO orders (id, pays_at) VALUES (?, NOW(3) + INTERVAL ? MICROSECOND)", [
      order.id,
      paysInMs === null ? null : Math.round(paysInMs * 1_000),
    ]);
    await q.send({ topic: "orders", key: order.id, tag: "created", json: order });
    await q.send({ topic: "order-timeouts", json: order, delay: payWithinMs, dedupe: `timeout-${order.id}` });
  });

/** Paid, and no timeout any more: both or neither. One that has timed out takes no payment. */
const pay = (id: string) =>
  mq.transaction(async (tx, q) => {
    const [{ affectedRows }] = await tx.query<ResultSetHeader>(
      "UPDATE orders SET state = 'paid' WHERE id = ? AND state = 'open'",
      [id],
    );
    if (affectedRows === 1) await q.cancel({ key: `timeout-${id}` });
  });

/** Consumes a topic: what `work` writes is committed with the note that this message was worked on. */
const consume = (topic: string, group: string, work: (order: Order, tx: PoolConnection) => Promise<void>) =>
  startConsumer({ endpoint, url, group, topic, invisible: "10s" }, async ({ id, body }) => {
    const order = JSON.parse(body.toString()) as Order;
    if (!order.id.startsWith(RUN)) return; // of an earlier run, whose tables are gone
    const tx = await pool.getConnection();
    try {
      await tx.beginTransaction();
      await inbox.once(fromMysql2(tx), group, id, () => work(order, tx));
      await tx.commit();
    } catch (error) {
      await tx.rollback().catch(() => tx.destroy()); // a connection that is dead must not hide what happened
      throw error; // the consumer tries again
    } finally {
      tx.release();
    }
  });

const write = (tx: PoolConnection, id: string, entry: string) =>
  tx.query("INSERT INTO ledger (order_id, entry) VALUES (?, ?)", [id, entry]);

await consume("orders", "order-ledger", async ({ id }, tx) => void (await write(tx, id, "created")));
await consume("order-timeouts", "order-timeout", async ({ id }, tx) => {
  const ends = "UPDATE orders SET state = 'timed-out' WHERE id = ? AND state = 'open'";
  const [{ affectedRows }] = await tx.query<ResultSetHeader>(ends, [id]);
  await write(tx, id, affectedRows === 1 ? "timed out" : "timeout of a paid order");
});

let isOpen = false;
process.on("message", (said) => {
  isOpen = said === "open";
});
process.on("disconnect", () => process.exit()); // whoever started this is gone
process.send?.("ready");

const quietly = (work: Promise<unknown>) => work.catch((error: Error) => console.error(`  ${error.message}`));
for (;;) {
  if (isOpen) await quietly(takeOrder());
  const [due] = await pool.query("SELECT id FROM orders WHERE state = 'open' AND pays_at <= NOW(3) LIMIT 20");
  for (const { id } of due as Order[]) await quietly(pay(id));
  await pause(20);
}
