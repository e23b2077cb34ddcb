// Transactional sends on a real RocketMQ with a real delay server behind its ingest topic: delayed, canceled, FIFO.

import type { PoolConnection } from "mysql2/promise";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createTxProducer, fromMysql2, type TxProducer, type TxProducerOptions } from "../../src/tx-producer.ts";
import { createTopic, type Server, startServer } from "../e2e/server.ts";
import { type Collector, collect, type Lab, openLab, pauseMs, quickRelay, uniqueName, until } from "./lab.ts";

let lab: Lab;
let server: Server;
let topic: string;
let received: Collector;
const ingestTopic = uniqueName("INGEST");
beforeAll(async () => {
  lab = await openLab();
  server = await startServer({ INGEST_TOPIC: ingestTopic, INGEST_GROUP: `${ingestTopic}_GROUP` });
  const made = await createTopic("tx_delays");
  topic = made.topic;
  received = await collect(server.endpoint, topic, made.group);
  await pauseMs(1_000); // A group that is new to a topic starts at its end.
});
afterAll(async () => {
  await received?.stop();
  await server?.stop();
  await lab?.[Symbol.asyncDispose]();
});

const producer = (over: Partial<TxProducerOptions<PoolConnection>> = {}): Promise<TxProducer<PoolConnection>> =>
  createTxProducer({
    rocketmq: { endpoint: server.endpoint },
    escapement: { url: server.url },
    db: fromMysql2(lab.pool),
    relay: quickRelay,
    ingestTopic,
    ...over,
  });

const arrivals = new Map<string, number>();
const arrived = async (body: string, withinMs = 20_000): Promise<number> => {
  await until(
    `${body} is received`,
    () => {
      for (const text of received.bodies()) if (!arrivals.has(text)) arrivals.set(text, Date.now());
      return arrivals.has(body);
    },
    withinMs,
  );
  return arrivals.get(body)!;
};
const messageOf = (body: string) => received.messages.find((one) => one.body.toString() === body)!;
const known = async (key: string): Promise<{ state: string } | undefined> => {
  const reply = await fetch(`${server.url}/v1/messages?key=${encodeURIComponent(key)}`);
  return reply.ok ? ((await reply.json()) as { state: string }) : undefined;
};

test("now and later in one transaction: nobody is early, and the id is the one that send answered", async () => {
  await using mq = await producer();
  const deliverAt = Date.now() + 2_500;
  const sent = await mq.transaction(async (tx, q) => {
    await tx.query("INSERT INTO orders VALUES ('both', NULL)");
    return {
      now: await q.send({ topic, body: "now" }),
      absolute: await q.send({
        topic,
        body: "absolute",
        deliverAt,
        tag: "timeout",
        properties: { a: "b" },
        key: "both",
      }),
      relative: await q.send({ topic, body: Buffer.from("relative"), delay: "1s500ms" }),
    };
  });
  const committedAt = Date.now();
  await arrived("now");
  expect(await arrived("absolute")).toBeGreaterThanOrEqual(deliverAt);
  // Counted on the database's clock from right before COMMIT.
  expect(await arrived("relative")).toBeGreaterThanOrEqual(committedAt + 1_500 - 200);
  const ids = ["now", "absolute", "relative"].map((body) => messageOf(body).properties.get("ESC_ID"));
  expect(ids).toEqual([sent.now.id, sent.absolute.id, sent.relative.id]);
  expect(messageOf("absolute")).toMatchObject({ tag: "timeout", keys: ["both"] });
  expect(Object.fromEntries(messageOf("absolute").properties)).toMatchObject({
    a: "b",
    ESC_DELIVER_AT: String(deliverAt),
  });
});

test("a delay counts from the commit, not from the send", async () => {
  await using mq = await producer();
  await mq.transaction(async (_, q) => {
    await q.send({ topic, body: "from the commit", delay: 800 });
    await pauseMs(1_500);
  });
  const committedAt = Date.now();
  expect(await arrived("from the commit")).toBeGreaterThanOrEqual(committedAt + 800 - 200);
});

describe("cancel in a later transaction", () => {
  test("a message that waits at the delay server is not sent; when that transaction rolls back, it is", async () => {
    await using mq = await producer();
    const keys = ["canceled", "kept"];
    for (const key of keys) {
      await mq.transaction(
        async (_, q) => void (await q.send({ topic, body: `waiting ${key}`, delay: "4s", dedupe: key })),
      );
    }
    await until("both wait", async () =>
      (await Promise.all(keys.map(known))).every((one) => one?.state === "scheduled"),
    );
    await mq.transaction(async (_, q) => q.cancel({ key: "canceled" }));
    const undone = mq.transaction(async (_, q) => {
      await q.cancel({ key: "kept" });
      throw new Error("not after all");
    });
    await expect(undone).rejects.toThrow("not after all");
    await until("canceled", async () => (await known("canceled"))?.state === "canceled");
    await arrived("waiting kept");
    await pauseMs(500);
    expect(received.bodies()).not.toContain("waiting canceled");
  });

  test("a message that is still in the outbox is taken out of it", async () => {
    await using writer = await producer({ relay: false, fastPath: false });
    const { key } = await writer.transaction((_, q) => q.send({ topic, body: "never left", delay: 500 }));
    await writer.transaction(async (_, q) => q.cancel({ key: key! }));
    expect(await lab.rows("SELECT kind FROM escapement_outbox")).toEqual([{ kind: 1 }]);
    await using _sender = await producer();
    await until("the cancel is done", async () => (await lab.waiting()) === 0);
    await pauseMs(1_500);
    expect(received.bodies()).not.toContain("never left");
  });

  test("a cancel that overtakes its message holds: the copy on its way comes too late", async () => {
    await using writer = await producer({ relay: false, fastPath: false });
    const { key } = await writer.transaction((_, q) => q.send({ topic, body: "overtaken", delay: 500 }));
    // A relay has read the row and is slow: put aside here, put back after the cancel was done.
    await lab.run("CREATE TABLE on_its_way AS SELECT * FROM escapement_outbox");
    await writer.transaction(async (_, q) => q.cancel({ key: key! }));
    await using _sender = await producer();
    await until("the cancel is done", async () => (await lab.waiting()) === 0);
    expect((await known(key!))?.state).toBe("canceled");
    await lab.run("INSERT INTO escapement_outbox SELECT * FROM on_its_way");
    await until("the copy has left", async () => (await lab.waiting()) === 0);
    await pauseMs(2_500);
    expect(received.bodies()).not.toContain("overtaken");
  });

  test("without the delay server's address it is refused at once", async () => {
    const { escapement: _, ...without } = { escapement: undefined };
    await using mq = await createTxProducer({
      rocketmq: { endpoint: server.endpoint },
      db: fromMysql2(lab.pool),
      relay: false,
      ingestTopic,
      ...without,
    });
    const refused = mq.transaction(async (_tx, q) => q.cancel({ key: "x" }));
    await expect(refused).rejects.toMatchObject({ code: "delay_server_missing" });
  });
});

test("messages of a group on a FIFO topic are received in order", async () => {
  const fifo = await createTopic("tx_fifo", "FIFO");
  const inOrder = await collect(server.endpoint, fifo.topic, fifo.group);
  await using mq = await producer();
  for (let i = 0; i < 15; i++) {
    await mq.transaction(async (_, q) => void (await q.send({ topic: fifo.topic, messageGroup: "g", body: `${i}` })));
  }
  await until("all received", () => inOrder.messages.length >= 15, 30_000);
  expect(inOrder.bodies()).toEqual(Array.from({ length: 15 }, (_, i) => `${i}`));
  await inOrder.stop();
});

test("a topic of the wrong type: the row goes aside with RocketMQ's reason", async () => {
  await using mq = await producer();
  const txId = await mq.transaction(async (_, q) => {
    await q.send({ topic, messageGroup: "g", body: "wrong type" });
    return q.txId;
  });
  await until("it is aside", async () => {
    const { evidence } = await mq.status(txId);
    return evidence.some((one) => one.kind === "dead" && one.reason.includes("topic_type_mismatch"));
  });
});
