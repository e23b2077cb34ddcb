import { type StartConsumerOptions, startConsumer } from "../../src/start-consumer.ts";

/**
 * A consumer process whose handler calls a service and says with it which message at which attempt this is. Sends
 * `ready`; answers each question with its counts; asked to stop, it stops and ends.
 */
const { call, options } = JSON.parse(process.argv[2]!) as { call: string; options: StartConsumerOptions<Buffer> };
const consumer = await startConsumer(
  { ...options, dependency: () => "http:stock" },
  async ({ body }, { attempt, signal }) => {
    const headers = { "x-message": body.toString(), "x-attempt": String(attempt) };
    const { ok, status } = await fetch(call, { method: "POST", headers, signal });
    if (!ok) throw Object.assign(new Error(`answered ${status}`), { status });
  },
);
process.on("message", async (question) => {
  if (question === "stop") await consumer.stop();
  process.send!(consumer.stats(), () => {
    if (question === "stop") process.exit(0);
  });
});
process.send!("ready");
