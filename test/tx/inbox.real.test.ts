// The inbox on a real MariaDB: work that is done once though messages come twice.

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createInbox, createTxProducer, fromMysql2, type Inbox } from "../../src/tx-producer.ts";
import { type Lab, openLab, pauseMs } from "./lab.ts";

let lab: Lab;
let inbox: Inbox;
beforeAll(async () => {
  lab = await openLab();
  inbox = createInbox({ pool: lab.pool, keepMs: 60_000 });
});
afterAll(async () => {
  await inbox?.close();
  await lab?.[Symbol.asyncDispose]();
});

/** As a consumer does: in a transaction of its own, with work of its own. */
const consume = async (group: string, id: string, { fails = false, slowMs = 0 } = {}): Promise<string> => {
  const connection = await lab.pool.getConnection();
  try {
    await connection.beginTransaction();
    const outcome = await inbox.once(fromMysql2(connection), group, id, async () => {
      await connection.query("INSERT INTO orders VALUES (?, NULL)", [`${group}-${id}`]);
      await pauseMs(slowMs);
      if (fails) throw new Error("the work failed");
    });
    await connection.commit();
    return outcome;
  } catch (error) {
    await connection.rollback();
    throw error;
  } finally {
    connection.release();
  }
};
const done = async (id: string) => (await lab.rows("SELECT COUNT(*) AS n FROM orders WHERE id = ?", [id]))[0]!.n;

describe("inbox.once", () => {
  test("runs for the first delivery and not for the second; groups do not know each other", async () => {
    expect(await consume("billing", "m1")).toBe("ran");
    expect(await consume("billing", "m1")).toBe("duplicate");
    expect(await consume("shipping", "m1")).toBe("ran");
    expect(await done("billing-m1")).toBe(1);
  });

  test("two deliveries at once: one runs, the other waits and finds it done", async () => {
    const outcomes = await Promise.all([consume("g", "m2", { slowMs: 100 }), consume("g", "m2", { slowMs: 100 })]);
    expect(outcomes.sort()).toEqual(["duplicate", "ran"]);
    expect(await done("g-m2")).toBe(1);
  });

  test("work that failed is done again: its row went with it", async () => {
    await expect(consume("g", "m3", { fails: true })).rejects.toThrow("the work failed");
    expect(await consume("g", "m3")).toBe("ran");
  });

  test("takes a connection of mysql2 as it is, too", async () => {
    const connection = await lab.pool.getConnection();
    await connection.beginTransaction();
    const once = () => inbox.once(connection, "raw", "m1", async () => {});
    expect([await once(), await once()]).toEqual(["ran", "duplicate"]);
    await connection.rollback();
    connection.release();
  });

  test("a delivery that waits for one that fails runs itself", async () => {
    const failing = consume("g", "m4", { fails: true, slowMs: 150 });
    await pauseMs(50);
    const [first, second] = await Promise.allSettled([failing, consume("g", "m4")]);
    expect(first.status).toBe("rejected");
    expect(second).toEqual({ status: "fulfilled", value: "ran" });
  });

  test("a connection without a transaction is refused before anything is written: its note would outlive failed work", async () => {
    const connection = await lab.pool.getConnection();
    let worked = 0;
    const once = () => inbox.once(fromMysql2(connection), "g", "m6", async () => void worked++);
    await expect(once()).rejects.toMatchObject({ code: "not_a_transaction" });
    await connection.beginTransaction();
    await connection.commit();
    await expect(once()).rejects.toMatchObject({ code: "not_a_transaction" });
    connection.release();
    expect(worked).toBe(0);
    expect(await consume("g", "m6")).toBe("ran");
  });

  test("inside mq.transaction it leaves that one's proof alone", async () => {
    const rocketmq = { endpoint: "127.0.0.1:1" };
    await using mq = await createTxProducer({ rocketmq, db: fromMysql2(lab.pool), relay: false, fastPath: false });
    const outcome = await mq.transaction(async (tx, q) => {
      await q.send({ topic: "next", body: "x" });
      return inbox.once(fromMysql2(tx), "g", "m7", async () => {
        await q.send({ topic: "next", body: "y" });
      });
    });
    expect(outcome).toBe("ran");
    expect(await lab.waiting()).toBe(2);
  });

  test("names that a column would cut are refused, because two of them could become one", async () => {
    await expect(consume("g", "x".repeat(256))).rejects.toThrow(/256 bytes/);
    await expect(consume("", "m")).rejects.toThrow(/0 bytes/);
  });

  test("TX-26: a copy that comes after the row was swept runs again; before that it does not", async () => {
    expect(await consume("g", "m5")).toBe("ran");
    await inbox.sweep();
    expect(await consume("g", "m5")).toBe("duplicate");
    await lab.run("UPDATE escapement_inbox SET at = at - 61000 WHERE message_id = 'm5'");
    expect(await inbox.sweep()).toBe(1);
    await lab.run("DELETE FROM orders WHERE id = 'g-m5'");
    expect(await consume("g", "m5")).toBe("ran");
  });
});
