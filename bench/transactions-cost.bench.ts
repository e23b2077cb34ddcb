import { createRocketmqSink } from "../src/adapters/rocketmq/rocketmq-sink.ts";
import { aMessage, parts } from "../src/adapters/rocketmq/testing.ts";
import { createTopic } from "./lab/broker.ts";
import { body200 } from "./lab/fill.ts";
import type { Benchmark } from "./lab/row.ts";
import { insertOrder, openTxWorld, underLoad, untilEmpty } from "./lab/tx-world.ts";

/**
 * What one message adds to a transaction: INSERT and COMMIT alone, and the same with a `q.send`, in time, in CPU of each
 * process and in statements as the server counts them, on a MariaDB whose COMMIT is on disk. The CPU of a `q.send` is
 * counted until the message is at the broker and its row is gone. Plain sends stand beside it. With half messages:
 * transactions-half.
 */
export const benchmark: Benchmark = async ({ quick, mysql, rocketmq }, report) => {
  const durationMs = quick ? 1_000 : 8_000;
  await using world = await openTxWorld(mysql.url);
  const { topic } = await createTopic(rocketmq.broker, "TX_COST");
  const inDatabase = { application: process.pid, database: mysql.pid };
  const everywhere = { ...inDatabase, rocketmq: rocketmq.pid };
  const message = { topic, body: body200 };
  for (const open of quick ? [1, 16] : [1, 16, 64]) {
    const at = `${open} open at a time`;
    const db = { processes: inDatabase, durationMs, open };
    const all = { processes: everywhere, durationMs, open };

    const plain = await underLoad(
      db,
      async () => {
        const connection = await world.pool.getConnection();
        await connection.beginTransaction();
        await insertOrder(connection);
        await connection.commit();
        connection.release();
      },
      world,
    );
    report(rowOf(`plain ${open}`, `INSERT, COMMIT; ${at}`, plain));

    for (const keepOutcomesMs of [undefined, 0]) {
      const mq = await world.producer({
        endpoint: rocketmq.endpoint,
        ...(keepOutcomesMs === undefined ? {} : { keepOutcomesMs }),
      });
      const send = () =>
        mq.transaction(async (tx, q) => {
          await insertOrder(tx);
          await q.send(message);
        });
      const outbox = await underLoad(all, send, world, () => untilEmpty(world));
      await mq.close();
      const [id, what] =
        keepOutcomesMs === undefined
          ? [`outbox ${open}`, "INSERT, q.send (outbox), COMMIT"]
          : [`outbox without status ${open}`, "the same with keepOutcomesMs: 0"];
      report(rowOf(id, `${what}; ${at}`, outbox));
    }

    const sink = createRocketmqSink({ endpoint: rocketmq.endpoint, ...parts });
    const sendAll = async (count: number): Promise<void> => {
      const batch = Array.from({ length: count }, () => aMessage(message));
      const results = await sink.send(topic, batch);
      if (results.some(({ ok }) => !ok)) throw new Error("the broker refused messages");
    };
    const processes = { application: process.pid, rocketmq: rocketmq.pid };
    const unary = await underLoad({ processes, durationMs, open }, () => sendAll(1));
    report(rowOf(`unary send ${open}`, `a plain send, one message a call; ${at}`, unary, "none"));
    if (open === 16) {
      const perCall = 64;
      const calls = await underLoad({ processes, durationMs, open: 8 }, () => sendAll(perCall));
      const { measured, numbers } = calls;
      const cpu = Object.entries(measured.cpuMicros).map(([role, micros]) => [role, micros / perCall]);
      const perMessage = {
        ...measured,
        perSecond: (measured.perSecond ?? 0) * perCall,
        cpuMicros: Object.fromEntries(cpu),
      };
      const row = { measured: perMessage, numbers };
      report(rowOf("batched send", `plain sends, ${perCall} messages a call; 8 calls open at a time`, row, "none"));
    }
    await sink.close();
  }
};

const rowOf = (
  id: string,
  what: string,
  { measured, numbers }: Pick<Awaited<ReturnType<typeof underLoad>>, "measured" | "numbers">,
  durability = "always",
) => ({ id: `transactions/${id}`, what, durability, ...measured, numbers });
