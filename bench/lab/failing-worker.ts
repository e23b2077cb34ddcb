import { setTimeout as wait } from "node:timers/promises";
import { Worker } from "bullmq";
import { startConsumer } from "../../src/start-consumer.ts";
import { Samples, type Summary } from "./samples.ts";

/**
 * One handler with something wrong with it, in a process of its own, behind either engine: a BullMQ worker or our
 * consumer. It notes how late each retry comes after the time that was decided for it, which is the instant of the
 * failure and the step of the backoff: there is no jitter where lateness is measured.
 */
export type WorkerTask = {
  readonly engine:
    | { readonly kind: "bullmq"; readonly redisUrl: string; readonly queue: string; readonly maxStalledCount: number }
    | {
        readonly kind: "ours";
        readonly endpoint: string;
        readonly url: string;
        readonly group: string;
        readonly topic: string;
      };
  readonly concurrency: number;
  readonly retries: Retries;
  readonly trouble: /** Every message fails so many times. */
    | { readonly kind: "fails"; readonly times: number }
    /** The one whose body begins so kills the process; the others take a second. */
    | { readonly kind: "poison" }
    /** From the first call on everything fails for so long. */
    | { readonly kind: "outage"; readonly downMs: number };
};

/** Exponential, factor 2. */
export type Retries = { readonly attempts: number; readonly baseMs: number; readonly jitter: boolean };

export type WorkerSummary = Summary & {
  readonly done: number;
  readonly failures: number;
  /** From the end of the outage to the last success. */
  readonly drainedMs: number;
};

/** How long a message stays away from others when its process vanishes; the least that a RocketMQ proxy takes. */
const lockMs = 10_000;
/** Long enough for all that is delivered with the poison to be in hand. */
const killAfterMs = 100;
const healthyTakesMs = 1_000;

const task = JSON.parse(process.argv[2]!) as WorkerTask;
const { engine, retries, trouble, concurrency } = task;
const lateness = new Samples();
const dueMs = new Map<string, number>();
let done = 0;
let failures = 0;
let firstAtMs = 0;
let lastDoneAtMs = 0;

const handle = async (id: string, body: string, attempt: number): Promise<void> => {
  const nowMs = Date.now();
  firstAtMs ||= nowMs;
  const due = dueMs.get(id);
  if (due !== undefined) lateness.push(nowMs - due);
  if (trouble.kind === "poison") {
    if (body.startsWith("poison")) {
      await new Promise<void>((resolve) => process.send!({ poison: attempt }, () => resolve()));
      await wait(killAfterMs);
      process.kill(process.pid, "SIGKILL");
    }
    await wait(healthyTakesMs);
  }
  const isDown = trouble.kind === "outage" && nowMs < firstAtMs + trouble.downMs;
  const isFailing = isDown || (trouble.kind === "fails" && attempt <= trouble.times);
  if (isFailing) {
    failures++;
    if (trouble.kind === "fails") dueMs.set(id, Date.now() + retries.baseMs * 2 ** (attempt - 1));
    throw down;
  }
  done++;
  lastDoneAtMs = nowMs;
  dueMs.delete(id);
  if (trouble.kind === "poison") process.send!({ done: body.split(" ")[0] });
};

/** Made once: what a stack trace costs is neither engine's. */
const down = Object.assign(new Error("the service that is called is down"), { status: 503 });

const start = async (): Promise<void> => {
  if (engine.kind === "bullmq") {
    const { hostname, port } = new URL(engine.redisUrl);
    const worker = new Worker(
      engine.queue,
      (job) => handle(job.id!, (job.data as { body: string }).body, job.attemptsMade + 1),
      {
        connection: { host: hostname, port: Number(port) },
        concurrency,
        maxStalledCount: engine.maxStalledCount,
        ...(trouble.kind === "poison" ? { lockDuration: lockMs, stalledInterval: lockMs / 2 } : {}),
      },
    );
    worker.on("error", () => {});
    await worker.waitUntilReady();
    return;
  }
  const { endpoint, url, group, topic } = engine;
  const jitter = retries.jitter ? "equal" : "none";
  await startConsumer(
    {
      endpoint,
      url,
      group,
      topic,
      concurrency,
      ...(trouble.kind === "poison" ? { invisible: lockMs } : {}),
      ...(trouble.kind === "outage" ? { dependency: () => "http:down" } : {}),
      policy: {
        backoff: { kind: "exponential", base: retries.baseMs, factor: 2, cap: "1h", jitter },
        limits: { maxAttempts: retries.attempts },
      },
    },
    (message, { attempt }) => handle(message.id, message.body.toString("latin1"), attempt),
  );
};

await start();
process.on("message", (question) => {
  if (question !== "summary") return;
  const drainedMs = trouble.kind === "outage" ? lastDoneAtMs - firstAtMs - trouble.downMs : 0;
  process.send!({ summary: { ...lateness.summary(), done, failures, drainedMs } });
});
process.send!("ready");
