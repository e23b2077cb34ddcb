// A program that sends in transactions until it is killed: test/faults/preload/failpoint.ts ends it at a labelled step,
// as kill -9 does. Every third transaction is rolled back. What it leaves behind is judged by crash-matrix.ts.

import { createPool } from "mysql2/promise";
import { createTxProducer, fromMysql2 } from "../../src/tx-producer.ts";

const { TX_MYSQL: mysql = "", TX_ENDPOINT: endpoint = "", TX_TOPIC: topic = "", TX_PREFIX: prefix = "" } = process.env;
const pool = createPool({ uri: mysql, connectionLimit: 8 });
const mq = await createTxProducer({
  rocketmq: { endpoint },
  db: fromMysql2(pool),
  fastPath: process.env.TX_FAST === "no" ? false : { graceMs: 400 },
  relay: { idlePollMs: [10, 20], leaseMs: 600, batch: 5 },
});

let next = 0;
const worker = async (): Promise<void> => {
  for (;;) {
    const n = next++;
    const id = `${prefix}-${n}`;
    await mq
      .transaction(async (tx, q) => {
        await tx.query("INSERT INTO orders VALUES (?, NULL)", [id]);
        await q.send({ topic, key: `k${n % 3}`, body: id });
        await q.send({ topic, body: `${id}+` });
        if (n % 3 === 2) throw new Error("rolled back on purpose");
      })
      .catch(() => {});
  }
};
await Promise.all([worker(), worker(), worker()]);
