import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { createPool } from "mysql2/promise";
import type { Failpoint } from "../../src/runtime/failpoint.ts";
import { type RunningBroker, startBroker } from "../../src/start-broker.ts";
import { startRelay } from "../../src/tx-producer.ts";
import { collect, type Lab, openLab, uniqueName, until } from "./lab.ts";

/**
 * Kills a sending program at every labelled step, again and again, and balances the books: every committed row has its
 * two messages, no message is without its row, and copies carry one id. The broker and the relay that clears up live in
 * this process; the database is a real MariaDB.
 *
 *   ESC_TEST_SERVICES=… node test/tx/crash-matrix.ts 10000
 */
export const crashPoints = [
  "tx-row-written",
  "tx-before-commit",
  "tx-committed",
  "tx-sent",
  "tx-removed",
  "relay-claimed",
  "relay-sent",
  "relay-removed",
] as const satisfies readonly Failpoint[];

export type CrashReport = {
  readonly kills: number;
  readonly byPoint: Readonly<Record<string, number>>;
  readonly committed: number;
  readonly messages: number;
  readonly copies: number;
  readonly lost: readonly string[];
  readonly ghosts: readonly string[];
  readonly copiesWithAnotherId: readonly string[];
  readonly survivors: number;
};

const child = fileURLToPath(new URL("crash-child.ts", import.meta.url));
const preload = fileURLToPath(new URL("../faults/preload/failpoint.ts", import.meta.url));
const lifeMaxMs = 15_000;
const triesMax = 4;

/** Several at a time: most of a child's life is its start. */
export const runCrashes = async (kills: number, parallel = 3): Promise<CrashReport> => {
  const lab = await openLab();
  const broker = await startBroker();
  const topic = uniqueName("crash");
  const received = await collect(broker.endpoint, topic);
  const pool = createPool({ uri: lab.url, connectionLimit: 5 });
  const relay = await startRelay({
    rocketmq: { endpoint: broker.endpoint },
    pool,
    settings: { idlePollMs: [10, 20], leaseMs: 600 },
  });
  const byPoint: Record<string, number> = {};
  let survivors = 0;
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let n = next++; n < kills; n = next++) {
      const point = crashPoints[n % crashPoints.length]!;
      const nth = 1 + (Math.floor(n / crashPoints.length) % 9);
      let wasKilled = false;
      // On a busy machine another relay may get all the work, and a child never comes to its step; what it did counts.
      for (let round = 0; round < triesMax && !wasKilled; round++) {
        wasKilled = await runChild(lab, broker, { topic, prefix: `c${n}r${round}`, point, nth: round === 0 ? nth : 1 });
      }
      if (wasKilled) byPoint[point] = (byPoint[point] ?? 0) + 1;
      else survivors++;
    }
  };
  try {
    await Promise.all(Array.from({ length: parallel }, worker));
    await until("the outbox is empty", async () => (await lab.waiting()) === 0, 60_000);
    const rows = (await lab.rows("SELECT id FROM orders")).map(({ id }) => id as string);
    const expected = rows.flatMap((id) => [id, `${id}+`]);
    await until("all is received", () => new Set(received.bodies()).size >= expected.length, 30_000).catch(() => {});
    return { kills, byPoint, survivors, committed: rows.length, ...balance(expected, received.messages) };
  } finally {
    await relay.stop();
    await received.stop();
    await pool.end();
    await broker.stop();
    await lab[Symbol.asyncDispose]();
  }
};

export const balance = (
  expected: readonly string[],
  messages: readonly { readonly body: Buffer; readonly properties: ReadonlyMap<string, string> }[],
) => {
  const wanted = new Set(expected);
  const ids = new Map<string, string>();
  const copiesWithAnotherId: string[] = [];
  for (const { body, properties } of messages) {
    const text = body.toString();
    const id = properties.get("ESC_ID")!;
    if ((ids.get(text) ?? id) !== id) copiesWithAnotherId.push(text);
    ids.set(text, id);
  }
  return {
    messages: ids.size,
    copies: messages.length - ids.size,
    lost: expected.filter((text) => !ids.has(text)),
    ghosts: [...ids.keys()].filter((text) => !wanted.has(text)),
    copiesWithAnotherId,
  };
};

const runChild = async (
  lab: Lab,
  broker: RunningBroker,
  plan: { topic: string; prefix: string; point: string; nth: number },
): Promise<boolean> => {
  const isRelays = plan.point.startsWith("relay-");
  const process_ = spawn(process.execPath, ["--import", preload, child], {
    env: {
      PATH: process.env.PATH,
      TX_MYSQL: lab.url,
      TX_ENDPOINT: broker.endpoint,
      TX_TOPIC: plan.topic,
      TX_PREFIX: plan.prefix,
      TX_FAST: isRelays ? "no" : "yes",
      ESC_FAILPOINT: `${plan.point}:${plan.nth}`,
    },
    stdio: ["ignore", "ignore", "inherit"],
  });
  const timer = setTimeout(() => process_.kill("SIGTERM"), lifeMaxMs);
  const [, signal] = (await once(process_, "exit")) as [number | null, string | null];
  clearTimeout(timer);
  return signal === "SIGKILL";
};

if (import.meta.main) {
  const report = await runCrashes(Number(process.argv[2] ?? 100));
  console.log(JSON.stringify({ ...report, lost: report.lost.length, ghosts: report.ghosts.length }, null, 2));
  process.exitCode = report.lost.length + report.ghosts.length + report.copiesWithAnotherId.length === 0 ? 0 : 1;
}
