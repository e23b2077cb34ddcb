// TX-04 in half mode, on a real MariaDB and the embedded broker: COMMIT is sent and its answer never comes. Who called
// knows nothing then, and neither does the half at the broker: nobody guesses, the barrier decides. half-producer.real.test.ts
// does the same on a real RocketMQ.

import type { PoolConnection } from "mysql2/promise";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createMysqlBarrier, type MysqlBarrier } from "../../src/adapters/mysql/mysql-barrier.ts";
import type { MessageId } from "../../src/message/id.ts";
import { type RunningBroker, startBroker } from "../../src/start-broker.ts";
import { createTxProducer, fromMysql2, type TxProducerOptions } from "../../src/tx-producer.ts";
import { newTopic, type Witness, witness } from "./half-world.ts";
import { type Lab, openLab, pauseMs, uniqueName, until } from "./lab.ts";
import { type Unanswered, unansweredCommit } from "./unanswered-commit.ts";

/** One broker asks after a second, and there is no backstop; the other does not ask within a test, and there is one. */
const checkMs = 1_000;
const turns = { turnMs: 300, commitWithinMs: 10_000 /* a guess would be made at once */, backstopLatestMs: 120_000 };
const checked = { transactionCheckMs: checkMs, timing: { ...turns, backstopAfterMs: 60_000 } };
const unchecked = { transactionCheckMs: 60_000, timing: { ...turns, backstopAfterMs: 1_000 } };

let lab: Lab;
let barrier: MysqlBarrier;
beforeAll(async () => {
  lab = await openLab();
  barrier = createMysqlBarrier({ pool: lab.pool });
});
afterAll(async () => {
  await barrier?.close();
  await lab?.[Symbol.asyncDispose]();
});

type World = Unanswered & { readonly id: string; readonly watching: Witness };

const world = async (
  { transactionCheckMs, timing }: typeof checked,
  lost: Parameters<typeof unansweredCommit>[0]["lost"],
  work: (world: World) => Promise<void>,
): Promise<void> => {
  const broker: RunningBroker = await startBroker({ transactionCheckMs });
  const topic = await newTopic(broker.endpoint);
  const watching = await witness(broker.endpoint, topic);
  const id = uniqueName("tx04");
  const open = (over: Partial<TxProducerOptions<PoolConnection>>) =>
    createTxProducer({
      rocketmq: { endpoint: broker.endpoint },
      db: fromMysql2(lab.pool),
      relay: false,
      mode: "half",
      half: { topics: [topic], admin: [broker.endpoint], watchGroup: `${topic}_SEEN`, timing },
      ...over,
    });
  const unanswered = await unansweredCommit({ lab, open, topic, id, lost });
  try {
    expect(unanswered.error).toMatchObject({ code: "commit_outcome_unknown", txId: unanswered.txId });
    await work({ ...unanswered, id, watching });
  } finally {
    await unanswered.end();
    await watching.stop();
    await broker.stop();
  }
};

const fence = { fence: true };
const hasOrder = async (id: string): Promise<boolean> =>
  (await lab.rows("SELECT 1 FROM orders WHERE id = ?", [id])).length === 1;

describe.concurrent("TX-04: COMMIT of a transaction with a half message is sent and the connection is lost", () => {
  test("after the server got it: nobody commits the half by guess; the check makes it visible, once", async ({
    expect,
  }) => {
    await world(checked, "reply", async ({ mq, txId, messageId, sentAtMs, id, watching }) => {
      // A fence that is asked for in this moment changes nothing of what is committed.
      for (const how of [{}, fence]) expect((await mq.status(txId, how)).state).toMatch(/^(committed-unsent|visible)$/);
      const seen = await watching.until(id, 5_000);
      expect(seen.atMs - sentAtMs).toBeGreaterThanOrEqual(checkMs - 50);
      expect(seen.properties.get("ESC_ID")).toBe(messageId);
      await until("status says so", async () => (await mq.status(txId, fence)).state === "visible");
      expect(await mq.status(txId)).toMatchObject({
        state: "visible",
        evidence: [{ kind: "commit-mark" }, { kind: "half", state: "committed", seen: true, resends: 0 }],
      });
      await pauseMs(2.5 * checkMs);
      expect(watching.copies(id)).toBe(1);
      expect(await hasOrder(id)).toBe(true);
    });
  });

  test("the same where the broker does not ask: the backstop makes it visible, once, in its own time", async ({
    expect,
  }) => {
    await world(unchecked, "reply", async ({ mq, txId, messageId, sentAtMs, id, watching }) => {
      const seen = await watching.until(id, 8_000);
      expect(seen.atMs - sentAtMs).toBeGreaterThanOrEqual(unchecked.timing.backstopAfterMs);
      expect(seen.properties.get("ESC_ID")).toBe(messageId);
      await until("status says so", async () => (await mq.status(txId)).state === "visible");
      await pauseMs(2_500);
      expect(watching.copies(id)).toBe(1);
    });
  });

  test("before the server got it: nobody rolls the half back by guess; the check settles it, and for good", async ({
    expect,
  }) => {
    await world(checked, "request", async ({ mq, txId, id, watching }) => {
      // Without a fence: the broker still asks, since nobody has told it anything, and the answer fences.
      await until("settled", async () => (await mq.status(txId)).state === "rolled-back", 5_000);
      const { evidence } = await mq.status(txId);
      expect(evidence).toMatchObject([{ kind: "half", state: "rolled-back", seen: false }]);
      const [halfId] = evidence.flatMap((one) => (one.kind === "half" ? (one.id as MessageId) : []));
      const connection = await lab.pool.getConnection();
      await connection.beginTransaction();
      const late = { id: halfId!, txId, topic: "late", kept: Buffer.alloc(0) };
      expect(await barrier.enlist(executorOf(connection), late, 0)).toBe("fenced");
      await connection.rollback();
      connection.release();
      await pauseMs(2.5 * checkMs);
      expect(watching.seen).toEqual([]);
      expect(await hasOrder(id)).toBe(false);
    });
  });

  test("before the server got it, where nobody asks: unknown until a fence, then rolled back, and never visible", async ({
    expect,
  }) => {
    await world(unchecked, "request", async ({ mq, txId, id, watching }) => {
      const noTrace = { state: "unknown", evidence: [{ kind: "no-trace" }] };
      expect(await mq.status(txId)).toMatchObject(noTrace);
      await until("the server has rolled back", async () => (await mq.status(txId, fence)).state !== "unknown");
      for (const how of [{}, fence]) {
        expect(await mq.status(txId, how)).toMatchObject({ state: "rolled-back", evidence: [{ kind: "fence" }] });
      }
      await pauseMs(3_500); // the backstop would have come
      expect(watching.seen).toEqual([]);
      expect(await hasOrder(id)).toBe(false);
    });
  });

  test("while it is on its way to the server nothing is known, to a check or a fence; when it arrives it counts", async ({
    expect,
  }) => {
    await world(checked, "nothing, it is late", async ({ mq, txId, messageId, letGo, id, watching }) => {
      const endMs = Date.now() + 2.5 * checkMs;
      while (Date.now() < endMs) {
        expect((await mq.status(txId)).state).toBe("unknown");
        expect(await mq.status(txId, fence)).toMatchObject({ state: "unknown", evidence: [{ kind: "open" }] });
      }
      expect(watching.seen).toEqual([]);
      letGo();
      const seen = await watching.until(id, 5_000);
      expect(seen.properties.get("ESC_ID")).toBe(messageId);
      await until("status says so", async () => (await mq.status(txId, fence)).state === "visible");
      await pauseMs(1.5 * checkMs);
      expect(watching.copies(id)).toBe(1);
      expect(await hasOrder(id)).toBe(true);
    });
  });
});

const executorOf = (connection: PoolConnection) => ({
  execute: async (sql: string, values: readonly unknown[]) => {
    await connection.query(sql, [...values]);
    return [];
  },
});
