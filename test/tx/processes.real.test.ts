// Transactional sends and whole processes: the relay command, and a database that forgets its last second.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { killService, startAgain, startMysql, stopServices } from "../../scripts/services.mjs";
import { startBroker } from "../../src/start-broker.ts";
import { createTxProducer, fromMysql2 } from "../../src/tx-producer.ts";
import { collect, openLab, uniqueName, until } from "./lab.ts";

const command = fileURLToPath(new URL("../../bin/escapement.mjs", import.meta.url));
const escapement = (args: string[], env: Record<string, string>): ChildProcess & { said: string } => {
  const child = spawn(process.execPath, [command, ...args], { env: { PATH: process.env.PATH, ...env } });
  const known = Object.assign(child, { said: "" });
  for (const stream of [child.stdout, child.stderr]) stream!.on("data", (part) => (known.said += String(part)));
  return known;
};
const ended = async (child: ChildProcess): Promise<unknown> => child.exitCode ?? (await once(child, "exit"))[0];

describe("the commands", () => {
  test("migrate makes the tables, relay sends what waits and gives its shards back", async () => {
    await using lab = await openLab({ migrated: false });
    await using broker = await startBroker();
    const env = { MYSQL_URL: lab.url, ROCKETMQ_ENDPOINT: broker.endpoint };
    const early = escapement(["relay"], env);
    expect(await ended(early)).toBe(1);
    expect(early.said).toContain("escapement outbox migrate");
    expect(await ended(escapement(["outbox", "migrate"], env))).toBe(0);
    const topic = uniqueName("t");
    const received = await collect(broker.endpoint, topic);
    const mq = await createTxProducer({
      rocketmq: { endpoint: broker.endpoint },
      db: fromMysql2(lab.pool),
      fastPath: false,
      relay: false,
    });
    await mq.transaction(async (_, q) => void (await q.send({ topic, body: "by the command" })));
    const relay = escapement(["relay"], env);
    await until("received", () => received.messages.length === 1);
    await until("the outbox is empty", async () => (await lab.waiting()) === 0);
    // What RocketMQ refuses for good goes aside; made right, it is sent again.
    await lab.run(
      `INSERT INTO escapement_outbox_dead (id, tx_id, msg_id, kind, topic, created_at, buried_at, attempts, head, body, reason)
       VALUES (7, UNHEX(MD5('t')), UNHEX(MD5('m')), 0, ?, 1, 1, 1, '{}', 'was aside', 'topic_type_mismatch: x')`,
      [topic],
    );
    const show = escapement(["outbox", "show"], env);
    expect(await ended(show)).toBe(0);
    expect(show.said).toMatch(/0 wait;.*\naside +t_\w+ +1 +topic_type_mismatch/);
    const nothing = escapement(["outbox", "resend", "--topic", "another", "--json"], env);
    expect([await ended(nothing), nothing.said.trim()]).toEqual([0, '{"resent":0}']);
    expect(await ended(escapement(["outbox", "resend", "--topic", topic], env))).toBe(0);
    await until("received", () => received.bodies().includes("was aside"));
    expect(await lab.rows("SELECT id FROM escapement_outbox_dead")).toEqual([]);
    relay.kill("SIGTERM");
    expect(await ended(relay)).toBe(0);
    const held = await lab.rows("SELECT COUNT(*) AS n FROM escapement_outbox_shard WHERE owner <> ''");
    expect(held[0]!.n).toBe(0);
    await mq.close();
    await received.stop();
  });
});

test("TX-15: a database that loses its last second loses rows and messages together", async () => {
  const runDir = mkdtempSync(join(tmpdir(), "tx15-"));
  try {
    // Not how anybody should run it; this is what a failover to a replica that lags looks like.
    const handle = await startMysql({ runDir, config: { innodb_flush_log_at_trx_commit: 0 } });
    const lab = await openLab({ serverUrl: handle.url });
    // No broker: what counts here is what is in the database.
    const mq = await createTxProducer({
      rocketmq: { endpoint: "127.0.0.1:1" },
      db: fromMysql2(lab.pool),
      fastPath: false,
      relay: false,
    });
    const acknowledged: string[] = [];
    const killed = new Promise<void>((resolve) => {
      setTimeout(() => resolve(killService(handle)), 1_300);
    });
    const worker = async (name: string): Promise<void> => {
      for (let i = 0; ; i++) {
        const id = `${name}${i}`;
        await mq.transaction(async (tx, q) => {
          await tx.query("INSERT INTO orders VALUES (?, NULL)", [id]);
          await q.send({ topic: "t", body: id });
        });
        acknowledged.push(id);
      }
    };
    await Promise.allSettled(["a", "b", "c"].map(worker));
    await killed;
    await startAgain(handle);
    const orders = (await lab.rows("SELECT id FROM orders ORDER BY id")).map(({ id }) => id);
    const messages = (await lab.rows("SELECT body FROM escapement_outbox ORDER BY body")).map(({ body }) =>
      String(body),
    );
    expect(messages.sort()).toEqual(orders.sort());
    expect(orders.length).toBeGreaterThan(0);
    expect(acknowledged.length, "something was lost, or this shows nothing").toBeGreaterThan(orders.length);
    await mq.close();
    await lab.pool.end();
  } finally {
    await stopServices({ runDir });
    rmSync(runDir, { recursive: true, force: true });
  }
});
