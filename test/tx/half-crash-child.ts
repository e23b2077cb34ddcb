// As crash-child.ts, in half mode: a program that sends until it is killed at a labelled step. Every third transaction
// is rolled back.

import { createPool } from "mysql2/promise";
import { createTxProducer, fromMysql2 } from "../../src/tx-producer.ts";

const { TX_MYSQL: mysql = "", TX_ENDPOINT: endpoint = "", TX_TOPIC: topic = "", TX_PREFIX: prefix = "" } = process.env;
const mq = await createTxProducer({
  rocketmq: { endpoint },
  db: fromMysql2(createPool({ uri: mysql, connectionLimit: 10 })),
  mode: "half",
  half: { topics: [topic] },
});

for (let n = 0; ; n++) {
  const id = `${prefix}-${n}`;
  await mq
    .transaction(async (tx, q) => {
      await tx.query("INSERT INTO orders VALUES (?, NULL)", [id]);
      await q.send({ topic, body: id });
      await q.send({ topic, body: `${id}+` });
      if (n % 3 === 2) throw new Error("rolled back on purpose");
    })
    .catch(() => {});
}
