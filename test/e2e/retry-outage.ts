import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:http";
import { fileURLToPath } from "node:url";
import { createRocketmqSink } from "../../src/adapters/rocketmq/rocketmq-sink.ts";
import { aMessage, parts, pauseMs } from "../../src/adapters/rocketmq/testing.ts";
import { presets } from "../../src/retry/presets.ts";
import type { ConsumerStats, StartConsumerOptions } from "../../src/start-consumer.ts";
import type { DependencyDetails, DependencyPage } from "../../src/wire/dependencies.ts";
import { liveThroughWithEngine } from "../sim/outage-engine.ts";
import type { Place } from "./retrying.ts";

/**
 * The outage model (docs/retries.md, test/sim/outage.ts) once with nothing of it modelled: two consumer processes, a
 * real server, a real broker, and an HTTP service that is down and comes back with room for few calls. Answers what
 * happened; the tests say what should have.
 */
export const outage = { messages: 2_000, downMs: 15_000, capacityPerSecond: 150, consumers: 2, concurrency: 32 };

/** What the model says of the same outage; the worst of three runs. */
export const asModelled = async () => {
  const { policy } = presets.find(({ name }) => name === "default")!;
  const { messages, downMs, capacityPerSecond, consumers } = outage;
  let [drainedMs, callsPerMessage] = [0, 0];
  for (const seed of [1, 2, 3]) {
    const { doneAtMs, calls } = await liveThroughWithEngine(policy, {
      messages,
      isUp: (nowMs) => nowMs >= downMs,
      capacityPerSecond,
      fleetPerSecond: 1_000,
      workers: consumers,
      seed,
      untilMs: 600_000,
    });
    drainedMs = Math.max(drainedMs, nth(doneAtMs, 0.99) - downMs);
    callsPerMessage = Math.max(callsPerMessage, calls / messages);
  }
  return { drainedMs, callsPerMessage };
};

export const livedThrough = async ({ endpoint, url, topic, group }: Place) => {
  const { messages, downMs, capacityPerSecond, consumers: count, concurrency } = outage;
  const origin = await topic();
  const service = await startLimitedService(capacityPerSecond);
  const options = { endpoint, url, group: group(), topic: origin, concurrency, policy: "default" };
  const consumers = await Promise.all(Array.from({ length: count }, () => startCaller({ call: service.url, options })));
  const sink = createRocketmqSink({ endpoint, ...parts });
  try {
    // A new group begins with what comes after its first poll.
    await pauseMs(1_500);
    const beganMs = performance.now();
    for (let i = 0; i < messages; i += 64) {
      const bodies = Array.from({ length: Math.min(64, messages - i) }, (_, n) => Buffer.from(`${i + n}`));
      const results = await sink.send(
        origin,
        bodies.map((body) => aMessage({ topic: origin, body })),
      );
      if (results.some(({ ok }) => !ok)) throw new Error("not sent");
    }
    const seen: DependencyDetails[] = [];
    const look = async (): Promise<void> => {
      const page = (await (await fetch(`${url}/v1/dependencies`)).json()) as DependencyPage;
      seen.push(...page.items.filter(({ key }) => key === "http:stock"));
      await pauseMs(500);
    };
    while (performance.now() - beganMs < downMs) await look();
    const whileDown = { seen: seen.splice(0), calls: service.callsMade() };
    service.comeBack();
    const backMs = performance.now();
    while (service.handled.size < messages && performance.now() - backMs < downMs + 75_000) await look();
    // What a consumer is about to acknowledge, and a duplicate that is under way.
    await pauseMs(2_000);
    await look();
    const stats = await Promise.all(consumers.map((consumer) => consumer.ask("stats")));
    const dead = (await (await fetch(`${url}/v1/dead?group=${options.group}`)).json()) as { items: unknown[] };
    return {
      whileDown,
      seen,
      stats,
      dead: dead.items.length,
      handled: service.handled.size,
      drained99Ms: nth(
        [...service.handled.values()].map((atMs) => atMs - backMs),
        (messages * 0.99) / Math.max(1, service.handled.size),
      ),
      calls: service.callsMade(),
      attempts: service.attempts,
    };
  } finally {
    await Promise.all(consumers.map((consumer) => consumer.stop()));
    await sink.close();
    service.close();
  }
};

const nth = (values: Iterable<number>, part: number): number => {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.ceil(sorted.length * part) - 1] ?? Number.POSITIVE_INFINITY;
};

/** Down until it comes back; from then on it answers so many calls a second and refuses the rest. */
const startLimitedService = async (perSecond: number) => {
  const handled = new Map<string, number>();
  const attempts = new Map<string, number[]>();
  let calls = 0;
  let room = 0;
  let filledMs = Number.POSITIVE_INFINITY;
  const roomMax = perSecond / 10;
  const server = createServer((request, response) => {
    const nowMs = performance.now();
    const message = String(request.headers["x-message"]);
    calls++;
    attempts.set(message, [...(attempts.get(message) ?? []), Number(request.headers["x-attempt"])]);
    room = Math.min(roomMax, room + (Math.max(0, nowMs - filledMs) / 1_000) * perSecond);
    if (nowMs >= filledMs) filledMs = nowMs;
    if (room < 1) return void response.writeHead(503).end();
    room--;
    if (!handled.has(message)) handled.set(message, nowMs);
    response.writeHead(204).end();
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  return {
    url: `http://127.0.0.1:${port}`,
    handled,
    attempts,
    callsMade: () => calls,
    comeBack: () => {
      filledMs = performance.now();
    },
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  };
};

const startCaller = async (given: { call: string; options: Partial<StartConsumerOptions<Buffer>> }) => {
  const child: ChildProcess = fork(script, [JSON.stringify(given)], { stdio: ["ignore", "ignore", "inherit", "ipc"] });
  const gone = once(child, "exit");
  await Promise.race([
    once(child, "message"),
    gone.then(() => {
      throw new Error("the consumer process ended at its start");
    }),
  ]);
  const ask = async (question: "stats" | "stop"): Promise<ConsumerStats> => {
    const answer = once(child, "message");
    child.send(question);
    return (await answer)[0] as ConsumerStats;
  };
  return {
    ask,
    stop: async () => {
      child.send("stop");
      await gone;
    },
  };
};

const script = fileURLToPath(new URL("./calling-consumer.ts", import.meta.url));
