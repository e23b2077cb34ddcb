import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { startWitness } from "./lab/consumer.ts";
import { batchRequest, HttpConnection, saturate } from "./lab/http-connection.ts";
import { countBetween, percentileMs } from "./lab/lateness-histogram.ts";
import { Meter } from "./lab/meter.ts";
import { pause } from "./lab/pace.ts";
import type { Benchmark, Row } from "./lab/row.ts";
import { lookAt, perRequest, sendAtRate } from "./lab/send-at-rate.ts";
import { freePort, startServer } from "./lab/server-process.ts";

/**
 * What `npm start` is: HTTP, SQLite, wheel and broker in one process, everything on disk before it is answered.
 * Batches flat out; then the whole way, in by HTTP and out to a topic of the embedded broker, at rates that rise until
 * it falls behind; then lateness at a quiet rate, as an ordinary consumer sees it, too.
 */
const delayMs = 2_000;
const spreadMs = 1_000;

export const benchmark: Benchmark = async (lab, report) => {
  mkdirSync(lab.runDir, { recursive: true });
  const folder = mkdtempSync(join(lab.runDir, "embedded-"));
  const endpoint = `127.0.0.1:${await freePort()}`;
  const env = { REDIS_URL: "", ROCKETMQ_ENDPOINT: "", ROCKETMQ_ADMIN: "", BROKER_ADDR: endpoint, DATA_DIR: folder };
  const server = await startServer(lab, { env });
  /** New for each stage: the server closes those that were idle during the one before. */
  const connected = <T>(work: (connections: readonly HttpConnection[]) => Promise<T>): Promise<T> => {
    const connections = Array.from({ length: 8 }, () => new HttpConnection(server.port));
    return work(connections).finally(() => {
      for (const connection of connections) connection.close();
    });
  };
  const processes = { generator: process.pid, server: server.pid };
  const holdMs = lab.quick ? 2_000 : 10_000;

  const stage = async (topic: string, perSecond: number, durationMs: number) => {
    const soon = requestsDue(topic, delayMs, spreadMs);
    const before = await lookAt(server);
    const meter = new Meter(processes);
    const sent = await connected((connections) => sendAtRate(connections, perSecond, durationMs, soon));
    const deadlineMs = Date.now() + delayMs + spreadMs + 15_000;
    let after = await lookAt(server);
    while (countBetween(before, after) < sent && Date.now() < deadlineMs) {
      await pause(100);
      after = await lookAt(server);
    }
    const measured = { ...meter.stop(sent), perSecond: sent / (durationMs / 1000) };
    const numbers = {
      "dispatch p50 ms": percentileMs(before, after, 0.5),
      "dispatch p99 ms": percentileMs(before, after, 0.99),
    };
    return { sent, out: countBetween(before, after), measured, numbers };
  };

  await stage("WARM", 5_000, lab.quick ? 1_000 : 5_000); // a process that has just started is slower for a while
  const witness = await startWitness(endpoint, { topic: "WITNESSED", group: "WITNESSED_G" });
  await pause(1_000);
  await witness.clear();
  const quiet = await stage("WITNESSED", 2_000, holdMs);
  await pause(300);
  const seen = await witness.summary();
  await witness.stop();
  const base = { durability: "always" };
  report({
    id: "embedded/2 k",
    what: "embedded: HTTP batches to the broker in the process at 2,000 messages/s",
    ...base,
    ...quiet.measured,
    numbers: {
      ...quiet.numbers,
      "consumer p50 ms": seen.p50Ms,
      "consumer p99 ms": seen.p99Ms,
      early: seen.early,
      "not out": quiet.sent - quiet.out,
    },
  });

  let best: Row | undefined;
  for (const perSecond of lab.quick ? [4_000] : [8_000, 10_000, 12_000, 15_000, 18_000, 22_000, 26_000, 30_000]) {
    const { sent, out, measured, numbers } = await stage("MAIN", perSecond, holdMs);
    if (sent < perSecond * (holdMs / 1000) * 0.98 || out < sent || !(numbers["dispatch p99 ms"] <= 1_000)) break;
    const what = `embedded: highest rate with dispatch lateness p99 ≤ 1 s over ${holdMs / 1000} s`;
    best = { id: "embedded/sustained", what, ...base, ...measured, numbers };
  }
  if (best !== undefined) report(best);

  const far = requestsDue("FAR", 3_600_000, 3_600_000);
  const flatOut = (durationMs: number) =>
    connected((connections) => {
      let turn = 0;
      return saturate(connections, durationMs, () => far[turn++ % far.length]!);
    });
  await flatOut(lab.quick ? 500 : 2_000);
  const meter = new Meter(processes);
  const answers = await flatOut(lab.quick ? 1_000 : 6_000);
  const accepted = (answers.get(200) ?? 0) * perRequest;
  report({
    id: "embedded/batch",
    what: `embedded: HTTP batches of ${perRequest} into SQLite, 8 connections`,
    ...base,
    ...meter.stop(accepted),
    numbers: { refused: [...answers].reduce((sum, [status, count]) => (status === 200 ? sum : sum + count), 0) },
  });
  await server.stop();
  rmSync(folder, { recursive: true, force: true });
};

const requestsDue = (topic: string, fromMs: number, overMs: number): Buffer[] =>
  Array.from({ length: 20 }, () => batchRequest(() => topic, perRequest, fromMs, overMs));
