import { fillStore, setFsync } from "./lab/fill.ts";
import { Meter } from "./lab/meter.ts";
import { pause, until } from "./lab/pace.ts";
import type { Benchmark } from "./lab/row.ts";
import { startNoopServer, uniqueName } from "./lab/server-process.ts";

/**
 * How long anything else in the process may have to wait while the near window holds a million messages: while they
 * are read from the store and held, and while they go out. The window looks three seconds ahead, so a million in it
 * is a million due within three seconds.
 */
export const benchmark: Benchmark = async (lab, report) => {
  const count = lab.quick ? 50_000 : 1_000_000;
  const namespace = uniqueName("bench");
  await setFsync(lab, "no"); // only while the store is filled
  const dueMs = Date.now() + (lab.quick ? 8_000 : 45_000);
  await fillStore(lab, { namespace, topic: "many", count, dueMsOf: (i) => dueMs + (i % 1_000) });
  await setFsync(lab, "always");
  if (Date.now() > dueMs - 6_000) throw new Error("the store was not filled in time");
  const server = await startNoopServer(lab, { namespace });
  await pause(dueMs - 3_200 - Date.now());
  await server.loopDelayMs();
  const meter = new Meter({ server: server.pid, redis: lab.redis.pid });
  await pause(dueMs - 20 - Date.now());
  const held = (await server.metrics()).get("escapement_near_window_entries") ?? 0;
  const holding = await server.loopDelayMs();
  const measured = meter.stop(Math.max(held, 1));
  await until("half of them are out", 60_000, async () => (await server.count("many")) > count / 2, 500);
  const going = await server.loopDelayMs();
  const { early } = (await server.sunk()).many!;
  report({
    id: "event loop/million",
    what: `event loop with ${count.toLocaleString("en")} messages due within a second: reading and holding them; sending`,
    durability: "always",
    ...measured,
    numbers: { "in window": held, "reading max ms": holding, "sending max ms": going, early },
  });
  server.kill("SIGKILL");
  await server.exited;
};
