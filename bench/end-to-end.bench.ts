import { createTopic } from "./lab/broker.ts";
import { startWitness, type Witness } from "./lab/consumer.ts";
import { batchRequest, HttpConnection } from "./lab/http-connection.ts";
import { countBetween, percentileMs } from "./lab/lateness-histogram.ts";
import { Meter } from "./lab/meter.ts";
import { pause } from "./lab/pace.ts";
import type { Benchmark, Row } from "./lab/row.ts";
import { lookAt, perRequest, sendAtRate } from "./lab/send-at-rate.ts";
import { startServer } from "./lab/server-process.ts";

/**
 * The whole way at a given rate: HTTP batches in, Redis `always`, wheel, the real broker out, generator on the same
 * machine. Lateness is the server's own (its histogram, exact at 5, 25, 50 … ms) and, apart, what an ordinary
 * consumer sees: its clock when it has the message, minus ESC_DELIVER_AT. The official client receives about 5,000 a
 * second here, so above 2,000 it reads only a topic that gets every tenth message.
 */
/** Long enough that messages wait in the store and come back through the near window, as they would for an hour. */
const delayMs = 2_000;
const spreadMs = 1_000;

export const benchmark: Benchmark = async (lab, report) => {
  const { broker, endpoint } = lab.rocketmq;
  const main = await createTopic(broker, "MAIN");
  const witnessed = await createTopic(broker, "WITNESSED");
  const server = await startServer(lab);
  const connections = Array.from({ length: 8 }, () => new HttpConnection(server.port));
  const holdMs = lab.quick ? 2_000 : 10_000;

  /** Sends for a while, waits until all of it is out, and says what became of it. */
  const stage = async (perSecond: number, durationMs: number, requests: readonly Buffer[], witness?: Witness) => {
    const before = await lookAt(server);
    await witness?.clear();
    const meter = new Meter({
      generator: process.pid,
      server: server.pid,
      redis: lab.redis.pid,
      rocketmq: lab.rocketmq.pid,
      ...(witness === undefined ? {} : { consumer: witness.pid }),
    });
    const sent = await sendAtRate(connections, perSecond, durationMs, requests);
    const deadlineMs = Date.now() + delayMs + spreadMs + 15_000;
    let after = await lookAt(server);
    while (countBetween(before, after) < sent && Date.now() < deadlineMs) {
      await pause(100);
      after = await lookAt(server);
    }
    await pause(witness === undefined ? 0 : 300);
    const measured = meter.stop(sent);
    return {
      sent,
      out: countBetween(before, after),
      p50: percentileMs(before, after, 0.5),
      p99: percentileMs(before, after, 0.99),
      measured: { ...measured, perSecond: sent / (durationMs / 1000) },
      seen: await witness?.summary(),
    };
  };

  const allWitnessed = requestsOf(() => witnessed.topic);
  const mostlyMain = requestsOf((i) => (i % 10 === 0 ? witnessed.topic : main.topic));
  const onlyMain = requestsOf(() => main.topic);
  const witness = await startWitness(endpoint, witnessed);
  // Processes that have just started are slower for a while; the broker, which compiles itself, for longest.
  await stage(10_000, lab.quick ? 1_000 : 12_000, mostlyMain, witness);
  await stage(2_000, lab.quick ? 1_000 : 8_000, allWitnessed, witness);
  for (const [perSecond, requests] of [
    [2_000, allWitnessed],
    [10_000, mostlyMain],
  ] as const) {
    const { sent, out, p50, p99, measured, seen } = await stage(perSecond, holdMs, requests, witness);
    report({
      id: `end to end/${perSecond / 1000} k`,
      what: `HTTP batches to the real broker at ${perSecond.toLocaleString("en")} messages/s`,
      durability: "always",
      ...heldRate(measured, perSecond),
      numbers: {
        "dispatch p50 ms": p50,
        "dispatch p99 ms": p99,
        "consumer p50 ms": seen!.p50Ms,
        "consumer p99 ms": seen!.p99Ms,
        early: seen!.early,
        "not out": sent - out,
      },
    });
  }
  await witness.stop();

  let best: Row | undefined;
  for (const perSecond of lab.quick ? [6_000] : [8_000, 12_000, 15_000, 18_000, 22_000, 26_000, 30_000]) {
    const { sent, out, p50, p99, measured } = await stage(perSecond, holdMs, onlyMain);
    if (sent < perSecond * (holdMs / 1000) * 0.98 || out < sent || !(p99 <= 1_000)) break;
    best = {
      id: "end to end/sustained",
      what: `highest rate with dispatch lateness p99 ≤ 1 s over ${holdMs / 1000} s`,
      durability: "always",
      ...measured,
      numbers: { "dispatch p50 ms": p50, "dispatch p99 ms": p99 },
    };
  }
  if (best !== undefined) report(best);
  for (const connection of connections) connection.close();
  await server.stop();
};

const requestsOf = (topicOf: (i: number) => string): Buffer[] =>
  Array.from({ length: 20 }, () => batchRequest(topicOf, perRequest, delayMs, spreadMs));

const heldRate = (measured: Row | Omit<Row, "id" | "what" | "durability" | "numbers">, wanted: number) =>
  measured.perSecond !== undefined && measured.perSecond < wanted * 0.98
    ? { ...measured, void: `the generator reached ${measured.perSecond.toFixed(0)} messages/s` }
    : measured;
