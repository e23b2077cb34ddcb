import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import type { Failpoint } from "../../src/runtime/failpoint.ts";
import { startBroker } from "../../src/start-broker.ts";
import { createTxProducer, fromMysql2 } from "../../src/tx-producer.ts";
import { balance } from "./crash-matrix.ts";
import { collect, openLab, uniqueName, until } from "./lab.ts";

// Programs in half mode, killed with -9 at each step between the row and the commit of the half; one instance that lives
// answers for them all. A real MariaDB, the embedded broker.

const points = [
  "tx-row-written",
  "halves-sent",
  "tx-before-commit",
  "tx-committed",
  "half-committing",
] as const satisfies readonly Failpoint[];
const kills = Number(process.env.TX_HALF_KILLS ?? 15);
const atOnce = 3;
const lifeMaxMs = 40_000;
const child = fileURLToPath(new URL("half-crash-child.ts", import.meta.url));
const preload = fileURLToPath(new URL("../faults/preload/failpoint.ts", import.meta.url));

test(`TX-01, TX-02: ${kills} programs in half mode killed at the labelled steps: nothing lost, no ghosts, copies carry one id`, async () => {
  await using lab = await openLab();
  const broker = await startBroker({ transactionCheckMs: 500 });
  const topic = uniqueName("half_crash");
  await broker.createTopic(topic, { type: "TRANSACTION" });
  const received = await collect(broker.endpoint, topic);
  const survivor = await createTxProducer({
    rocketmq: { endpoint: broker.endpoint },
    db: fromMysql2(lab.pool),
    mode: "half",
    half: {
      topics: [topic],
      timing: { turnMs: 2_000, commitWithinMs: 1_000, backstopAfterMs: 4_000, backstopLatestMs: 8_000 },
    },
  });
  const killed = new Map<string, number>();
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let n = next++; n < kills; n = next++) {
      const point = points[n % points.length]!;
      const program = spawn(process.execPath, ["--import", preload, child], {
        env: {
          PATH: process.env.PATH,
          TX_MYSQL: lab.url,
          TX_ENDPOINT: broker.endpoint,
          TX_TOPIC: topic,
          TX_PREFIX: `h${n}`,
          ESC_FAILPOINT: `${point}:${1 + (n % 7)}`,
        },
        stdio: ["ignore", "ignore", "inherit"],
      });
      const timer = setTimeout(() => program.kill("SIGTERM"), lifeMaxMs);
      const [, signal] = (await once(program, "exit")) as [number | null, string | null];
      clearTimeout(timer);
      if (signal === "SIGKILL") killed.set(point, (killed.get(point) ?? 0) + 1);
    }
  };
  try {
    await Promise.all(Array.from({ length: atOnce }, worker));
    expect([...killed.values()].reduce((sum, count) => sum + count, 0)).toBe(kills);
    const unseen = "SELECT COUNT(*) AS n FROM escapement_half WHERE state = 1 AND seen = 0";
    await until("all is seen", async () => Number((await lab.rows(unseen))[0]!.n) === 0, 60_000);
    const ids = (await lab.rows("SELECT id FROM orders")).map(({ id }) => id as string);
    const expected = ids.flatMap((id) => [id, `${id}+`]);
    await until("all is received", () => new Set(received.bodies()).size >= expected.length, 10_000);
    const { lost, ghosts, copiesWithAnotherId, copies } = balance(expected, received.messages);
    expect({ lost, ghosts, copiesWithAnotherId }).toEqual({ lost: [], ghosts: [], copiesWithAnotherId: [] });
    expect(ids.length).toBeGreaterThan(kills / 2);
    // Each kill leaves one transaction of two messages open, and its turns decide one after the other.
    expect(copies).toBeLessThanOrEqual(kills * 2);
  } finally {
    await survivor.close();
    await received.stop();
    await broker.stop();
  }
}, 600_000);
