import type { PoolConnection } from "mysql2/promise";
import { createPool } from "mysql2/promise";
import { fromMysql2, type TxProducer, type TxProducerOptions } from "../../src/tx-producer.ts";
import { TcpProxy } from "../faults/tcp-proxy.ts";
import { type Lab, pauseMs } from "./lab.ts";

/**
 * One transaction with one message whose COMMIT gets no answer, because the line to the database is broken in one of
 * three places: the COMMIT never arrives, its answer does not, or it is still on its way when the caller has given up
 * (and arrives with `letGo`). The producer's own connections take another line and go on.
 */
export type Unanswered = {
  readonly mq: TxProducer<PoolConnection>;
  readonly txId: string;
  readonly messageId: string;
  /** What `mq.transaction` threw. */
  readonly error: unknown;
  /** Right before the message was given to the transaction. */
  readonly sentAtMs: number;
  letGo(): void;
  end(): Promise<void>;
};

export const unansweredCommit = async (options: {
  readonly lab: Lab;
  readonly open: (over: Partial<TxProducerOptions<PoolConnection>>) => Promise<TxProducer<PoolConnection>>;
  readonly topic: string;
  /** The order's id, and the message's body. */
  readonly id: string;
  readonly lost: "request" | "reply" | "nothing, it is late";
}): Promise<Unanswered> => {
  const { lab, open, topic, id, lost } = options;
  const proxy = await TcpProxy.open(Number(new URL(lab.url).port));
  const through = new URL(lab.url);
  through.port = String(proxy.port);
  const pool = createPool({ uri: through.href, connectionLimit: 1 });
  const mq = await open({ db: fromMysql2(pool), pool: lab.pool });
  let txId = "";
  let messageId = "";
  let sentAtMs = 0;
  const outcome = mq.transaction(async (tx, q) => {
    txId = q.txId;
    await tx.query("INSERT INTO orders VALUES (?, NULL)", [id]);
    sentAtMs = Date.now();
    messageId = (await q.send({ topic, body: id })).id;
    const commit = tx.commit.bind(tx);
    tx.commit = async () => {
      if (lost === "request") proxy.cut();
      else if (lost === "reply") void proxy.swallowReplies(200);
      else {
        proxy.hold();
        commit().catch(() => {});
        await pauseMs(50);
        tx.destroy();
        throw Object.assign(new Error("the caller does not wait any longer"), { code: "PROTOCOL_CONNECTION_LOST" });
      }
      return commit();
    };
  });
  const error = await outcome.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  return {
    mq,
    txId,
    messageId,
    error,
    sentAtMs,
    letGo: () => proxy.letGo(),
    async end() {
      await mq.close();
      await pool.end().catch(() => {});
      await proxy.close();
    },
  };
};
