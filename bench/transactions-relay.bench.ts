import { MysqlOutbox } from "../src/adapters/mysql/mysql-outbox.ts";
import { outboxShards } from "../src/adapters/mysql/outbox-schema.ts";
import { startRelay } from "../src/tx-producer.ts";
import { createTopic } from "./lab/broker.ts";
import { body200 } from "./lab/fill.ts";
import { claim, fillOutbox } from "./lab/full-outbox.ts";
import { Meter } from "./lab/meter.ts";
import { until } from "./lab/pace.ts";
import type { Benchmark, Lab, Report } from "./lab/row.ts";
import { openTxWorld } from "./lab/tx-world.ts";

/**
 * The relay on a table that is full: how fast one process claims and removes rows, how fast it brings them to the real
 * broker (its bound of 5,000 a second taken off). How a claim bears the size of the table: transactions-size.
 */

export const benchmark: Benchmark = async (lab, report) => {
  await claiming(lab, report);
  await relaying(lab, report);
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
