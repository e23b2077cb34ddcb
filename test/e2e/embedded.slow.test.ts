import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";
import { promisify } from "node:util";
import { Producer } from "rocketmq-client-nodejs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { EscapementClient } from "../../src/sdk/client.ts";
import { consumeAll } from "../rocketmq-consumer.ts";
import { Embedded } from "./embedded.ts";

/** What `npm start` is on a machine with nothing but Node, used from outside with ordinary clients. */

const root = join(import.meta.dirname, "../..");
const quiet = { info: () => {}, warn: () => {}, error: () => {}, debug: () => {} };

const server = new Embedded();
const client = () => new EscapementClient({ url: server.url });
const until = async (fact: () => boolean, withinMs: number): Promise<void> => {
  const end = Date.now() + withinMs;
  while (!fact() && Date.now() < end) await pause(20);
};

beforeAll(() => server.start(), 30_000);
afterAll(() => server[Symbol.asyncDispose]());

describe("everything in one process", () => {
  it("prints a curl and a consumer that work as they stand", async () => {
    const curl = /^ {2}(curl .*)$/m.exec(server.said)![1]!;
    const program = /as consume\.mjs:\n\n([\s\S]*?)\n\n/.exec(server.said)![1]!.replaceAll(/^ {2}/gm, "");
    expect(program.split("\n").length).toBeLessThanOrEqual(11);
    const args = ["--input-type=module", "--eval", program];
    const consumer = spawn(process.execPath, args, { cwd: root, stdio: ["ignore", "pipe", "ignore"] });
    try {
      const lines = createInterface({ input: consumer.stdout });
      const first = once(lines, "line");
      const startedMs = Date.now();
      const { stdout } = await promisify(execFile)("sh", ["-c", curl]);
      expect(JSON.parse(stdout)).toMatchObject({ state: "scheduled" });
      expect((await first)[0]).toBe("hello");
      expect(Date.now() - startedMs).toBeGreaterThanOrEqual(5_000);
    } finally {
      consumer.kill("SIGKILL");
    }
  });

  it("keeps what waits, over a stop and over a kill -9, and delivers it at its time", async () => {
    const bodies: string[] = [];
    const schedule = async (body: string, delay: number) => {
      await client().schedule({ topic: "kept", body, delay, tag: "t", keys: ["k"], properties: { p: "v" } });
    };
    await schedule("over a stop", 3_000);
    expect(await server.stop()).toBe(0);
    await server.start();
    await schedule("over a kill", 2_500);
    await schedule("and another", 2_500);
    await server.stop("SIGKILL");
    await server.start();
    const consuming = await consumeAll({
      endpoint: server.endpoint,
      topic: "kept",
      group: "kept-group",
      onMessage: (view) => {
        expect([view.tag, view.keys, view.properties.get("p")]).toEqual(["t", ["k"], "v"]);
        expect(Date.now()).toBeGreaterThanOrEqual(Number(view.properties.get("ESC_DELIVER_AT")));
        bodies.push(view.body.toString());
      },
    });
    await until(() => bodies.length >= 3, 10_000);
    await consuming.stop();
    expect(bodies.toSorted()).toEqual(["and another", "over a kill", "over a stop"]);
  });

  it("takes messages by the ingest topic, and keeps message groups in order", async () => {
    const producer = new Producer({ endpoints: server.endpoint, namespace: "", topic: "ESC_INGEST", logger: quiet });
    await producer.startup();
    const seen: string[] = [];
    const consuming = await consumeAll({
      endpoint: server.endpoint,
      topic: "steps",
      group: "steps-group",
      pollers: 1,
      onMessage: (view) => void seen.push(view.body.toString()),
    });
    const properties = new Map([
      ["ESC_TOPIC", "steps"],
      ["ESC_DELAY", "500"],
    ]);
    await producer.send({ topic: "ESC_INGEST", body: Buffer.from("by topic"), properties });
    const deliverAt = Date.now() + 1_000;
    for (const body of ["1", "2", "3"]) await client().schedule({ topic: "steps", body, messageGroup: "g", deliverAt });
    await until(() => seen.length >= 4, 10_000);
    await consuming.stop();
    await producer.shutdown();
    expect(seen).toEqual(["by topic", "1", "2", "3"]);
  });

  it("refuses a second process on its folder, and on its port, and says what to do", async () => {
    const second = (env: Record<string, string>) =>
      promisify(execFile)(process.execPath, [join(root, "src/main.ts")], { env: { ...server.environment, ...env } });
    const sameFolder = second({ HTTP_ADDR: "127.0.0.1:0", BROKER_ADDR: "127.0.0.1:0" });
    await expect(sameFolder).rejects.toMatchObject({ code: 1, stderr: expect.stringContaining("open in another") });
    const samePort = second({ HTTP_ADDR: "127.0.0.1:0", DATA_DIR: join(server.folder, "other") });
    await expect(samePort).rejects.toMatchObject({ code: 1, stderr: expect.stringContaining("BROKER_ADDR") });
  });
});
