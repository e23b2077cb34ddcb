import { setTimeout as pause } from "node:timers/promises";
import { startConsumer } from "../../src/start-consumer.ts";

/**
 * A consumer with handlers that take a moment, so that it holds many messages at once, and whose process is killed by a
 * message that says "poison". Says `ready`, and begin and end of each.
 */
const given = JSON.parse(process.argv[2]!) as Record<"endpoint" | "url" | "group" | "topic", string>;
const say = (line: string) => process.stdout.write(`${line}\n`);
await startConsumer(
  {
    ...given,
    concurrency: 16,
    invisible: "10s",
    policy: { backoff: { kind: "fixed", delay: "500ms", jitter: "none" }, limits: { maxCrashes: 3 } },
  },
  async ({ body }, { attempt }) => {
    const text = body.toString();
    say(`begin ${text} ${attempt}`);
    if (text === "poison") {
      // Long enough for all the others of its batch to be in hand.
      await pause(100);
      process.kill(process.pid, "SIGKILL");
    }
    await pause(1_000);
    say(`end ${text} ${attempt}`);
  },
);
say("ready");
