import { spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";
import { Client, credentials, Metadata } from "@grpc/grpc-js";
import { bytes, duration, receiveRequest } from "../../../src/broker/rpc/testing/requests.ts";
import { method } from "../../../src/protocol/messaging-service.ts";
import { FakeClock } from "../fake-clock.ts";
import { eventually, type Lab } from "../lab.ts";
import { usualLoad } from "../load-plan.ts";
import type { Recipe, RecipeOutcome } from "../recipe.ts";
import { embeddedDay } from "./e1-embedded-killed.ts";

const pollsPerConnection = 50;
const idlePolls = 1_000;
const pollSeconds = 20;

/** Receive calls on a topic where nothing ever comes; each begins anew when it ends. */
class IdlePolls {
  readonly #clients: Client[] = [];
  #open = true;
  /** How calls ended, by status code of gRPC. */
  readonly ends = new Map<number, number>();
  waiting = 0;

  constructor(endpoint: string, topic: string) {
    const request = receiveRequest(topic, `${topic}_g`)
      .setInvisibleDuration(duration(30))
      .setLongPollingTimeout(duration(pollSeconds));
    const encoded = bytes(request);
    for (let i = 0; i < idlePolls / pollsPerConnection; i++) {
      // Channels of one program to one address share a connection otherwise.
      const client = new Client(endpoint, credentials.createInsecure(), { "grpc.use_local_subchannel_pool": 1 });
      this.#clients.push(client);
      for (let n = 0; n < pollsPerConnection; n++) this.#poll(client, encoded, `idle-${i}`);
    }
  }

  #poll(client: Client, request: Buffer, clientId: string): void {
    const metadata = new Metadata();
    for (const [name, value] of Object.entries({
      "x-mq-protocol": "v2",
      "x-mq-client-id": clientId,
      "x-mq-language": "OTHER",
      "x-mq-client-version": "5.0.8",
      "grpc-timeout": `${pollSeconds + 10}S`,
    }))
      metadata.set(name, value);
    const same = (buffer: Buffer): Buffer => buffer;
    this.waiting++;
    const call = client.makeServerStreamRequest(method.receiveMessage, same, same, request, metadata);
    call.on("data", () => {});
    call.on("error", () => {});
    call.once("status", ({ code }) => {
      this.waiting--;
      this.ends.set(code, (this.ends.get(code) ?? 0) + 1);
      if (this.#open) setTimeout(() => this.#poll(client, request, clientId), code === 0 ? 0 : 500);
    });
  }

  close(): void {
    this.#open = false;
    for (const client of this.#clients) client.close();
  }
}

/** A consumer of the users' group that takes messages, never acknowledges, and then says nothing any more. */
const vanishing = async (lab: Lab, topic: string, signal: "SIGKILL" | "SIGSTOP"): Promise<() => void> => {
  const program = join(import.meta.dirname, "../vanishing-consumer.ts");
  const child = spawn(process.execPath, [program, lab.endpoint, topic, `${topic}_g`], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  for await (const line of createInterface(child.stdout)) {
    if (Number(line) > 0) break;
  }
  child.kill(signal);
  return () => void child.kill("SIGKILL");
};

export const e7: Recipe = {
  name: "E7",
  title: "1,000 idle long polls lie on the embedded server, and consumers that hold messages vanish without a word",
  expects: "others are served as quickly as ever; what the vanished held comes again to others after its time",
  embedded: true,
  async run(lab) {
    const said: string[] = [];
    let polls: IdlePolls | undefined;
    let waiting = 0;
    const clean: (() => void)[] = [];
    try {
      const outcome = await embeddedDay(lab, {
        async strike(_, users) {
          lab.faultBegins(`${idlePolls} idle long polls`);
          polls = new IdlePolls(lab.endpoint, `${lab.topics.normal}_idle`);
          await pause(3_000);
          waiting = polls.waiting;
          for (const signal of ["SIGKILL", "SIGSTOP"] as const) {
            lab.options.say(`  a consumer vanishes by ${signal}`);
            clean.push(await vanishing(lab, users.topic, signal));
          }
          await pause(lab.options.size === "long" ? 45_000 : 3_000);
          lab.faultEnds("the polls stay");
        },
      });
      const failed = [...polls!.ends].filter(([code]) => code !== 0);
      if (waiting < idlePolls * 0.9) said.push(`void: only ${waiting} polls were waiting`);
      if (failed.length > 0)
        said.push(`idle polls failed: ${failed.map(([code, n]) => `${n} with ${code}`).join(", ")}`);
      const { before, during } = outcome.verdict!.lateness;
      if (during.p50Ms > before.p50Ms + lateMoreMs)
        said.push(`I3 bounded lateness: half were ${during.p50Ms} ms late, ${before.p50Ms} without the polls`);
      return { ...outcome, failures: [...outcome.failures, ...said], notes: { ...outcome.notes, idlePolls: waiting } };
    } finally {
      polls?.close();
      for (const one of clean) one();
    }
  },
};

/** Of the median; machines are shared. */
const lateMoreMs = 150;

/** Less than the hour for which ended messages are remembered, or the books could not be compared. */
const jumpSeconds = 1_200;

/**
 * There is no second clock to hold against this one (ADR 3), so that what is due by it goes out. A recall that comes
 * too late then is right, too.
 */
const jump = async (lab: Lab, offsetSeconds: number): Promise<RecipeOutcome> => {
  const clock = new FakeClock(lab.folder, "a");
  const said: string[] = [];
  const outcome = await embeddedDay(lab, {
    servers: { a: clock.environment },
    // What is accepted while the clock is ahead is due at once, whatever the order of the due times.
    load: { delayMs: [0, 8_000], shares: { ...usualLoad.shares, groups: 0 } },
    bornIsTrue: false,
    async strike() {
      lab.faultBegins(`the clock jumps by ${offsetSeconds} s`);
      const fromMs = Date.now();
      clock.set(offsetSeconds);
      const server = lab.running[0]!;
      const noticed = await eventually(5_000, () => /"steppedMs".*clock was set/.test(server.logText()));
      if (!noticed) said.push("the jump was not told in the log within 5 s");
      await pause(3_000);
      clock.set(0);
      // It looks at the clock once a second.
      lab.clockAhead = { fromMs, untilMs: Date.now() + 2_500, byMs: Math.max(0, offsetSeconds * 1_000) };
      const well = await eventually(10_000, async () => (await server.health())?.status === "ok");
      if (!well) said.push("the clock is right again, but the server is not ready");
      lab.faultEnds("the clock is right again");
    },
  });
  return { ...outcome, failures: [...outcome.failures, ...said] };
};

export const e8: Recipe = {
  name: "E8-ahead",
  title: "the embedded server's wall clock jumps 20 minutes ahead while it runs, and is put right",
  expects: "nothing lost, no second copy, invisible times as asked for, nothing early by the clock that it has",
  embedded: true,
  run: (lab) => jump(lab, jumpSeconds),
};

export const e8Back: Recipe = {
  name: "E8-back",
  title: "the embedded server's wall clock jumps 20 minutes back while it runs, and is put right",
  expects: "nothing lost, nothing early, no second copy, invisible times as asked for",
  embedded: true,
  run: (lab) => jump(lab, -jumpSeconds),
};
