import { startConsumer } from "../../src/start-consumer.ts";

/** A consumer whose process dies in the handler of a message that says "poison". Says `ready`, and what it is given. */
const { endpoint, url, group, topic } = JSON.parse(process.argv[2]!) as Record<string, string>;
await startConsumer(
  {
    endpoint: endpoint!,
    url: url!,
    group: group!,
    topic: topic!,
    invisible: "10s",
    policy: { backoff: { kind: "fixed", delay: "500ms", jitter: "none" }, limits: { maxCrashes: 3 } },
  },
  ({ body }, { attempt }) => {
    process.stdout.write(`${body.toString()} ${attempt}\n`);
    if (body.toString() === "poison") process.kill(process.pid, "SIGKILL");
  },
);
process.stdout.write("ready\n");
