import { monitorEventLoopDelay } from "node:perf_hooks";
import { systemTimers } from "../../src/adapters/system/system-time.ts";
import { createApp } from "../../src/admin/app.ts";
import type { Sink } from "../../src/dispatch/sink.port.ts";
import { silentLog } from "../../src/runtime/log.ts";
import { embeddedService } from "./embedded-service.ts";
import { Samples } from "./samples.ts";

/**
 * A process with the whole service and a sink that answers at once: what is left of the way when the broker costs
 * nothing. It keeps when each message reached the sink, and answers questions of its parent.
 */
type Topic = { readonly lateness: Samples; firstAtMs: number; lastAtMs: number };
const topics = new Map<string, Topic>();

const sink: Sink = {
  async send(name, messages) {
    const nowMs = Date.now();
    let topic = topics.get(name);
    if (topic === undefined) {
      topic = { lateness: new Samples(), firstAtMs: nowMs, lastAtMs: nowMs };
      topics.set(name, topic);
    }
    topic.lastAtMs = nowMs;
    for (const { deliverAtMs } of messages) topic.lateness.push(nowMs - deliverAtMs);
    return messages.map(() => ({ ok: true, brokerMessageId: "none" }));
  },
  async close() {},
};

const loopDelay = monitorEventLoopDelay({ resolution: 5 });
loopDelay.enable();

const env = process.env as Record<string, string>;
const service = await embeddedService(
  env.REDIS_URL!,
  env.REDIS_NAMESPACE!,
  env.DURABILITY === "everysec" ? "everysec" : "always",
  sink,
);
const app = createApp({
  intake: service.intake,
  dead: service.retry.dead,
  overview: service,
  policies: service.retry.policies,
  groups: { prepare: async (group) => ({ group, retryTopic: group, ingestTopic: "" }) },
  dependencies: service.retry.dependencies,
  log: silentLog,
  timers: systemTimers,
});
const [host, port] = env.HTTP_ADDR!.split(":") as [string, string];
await app.listen({ host, port: Number(port) });

process.on("message", (question) => {
  // Asked many times while something is measured, so it must cost nothing.
  if (question === "count") {
    process.send!(Object.fromEntries([...topics].map(([name, { lateness }]) => [name, lateness.length])));
    return;
  }
  if (question === "sunk") {
    const sunk = [...topics].map(([name, { lateness, firstAtMs, lastAtMs }]) => [
      name,
      { ...lateness.summary(), firstAtMs, lastAtMs },
    ]);
    process.send!(Object.fromEntries(sunk));
  } else if (question === "clear") {
    topics.clear();
    process.send!("cleared");
  } else if (question === "loopDelay") {
    const maxMs = loopDelay.max / 1e6;
    loopDelay.reset();
    process.send!(maxMs);
  }
});
process.on("SIGTERM", async () => {
  await service.stop(app.close());
  process.exit(0);
});
