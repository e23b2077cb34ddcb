import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { mavenJars } from "../../scripts/services/maven-jars.mjs";
import { pythonDriver } from "../conformance/drivers/build-python.mjs";
import { Embedded } from "./embedded.ts";

/** Every example, run as it says against the server that `npm start` is, with the output that it promises. */

const root = join(import.meta.dirname, "../..");
const server = new Embedded();
const home = mkdtempSync(join(tmpdir(), "escapement-examples-"));
let consumer: ChildProcess;
let received: AsyncIterableIterator<string>;

beforeAll(async () => {
  await server.start();
  const env = { ...process.env, ROCKETMQ_ENDPOINT: server.endpoint };
  consumer = spawn(process.execPath, ["examples/consume.ts"], { cwd: root, env, stdio: ["ignore", "pipe", "inherit"] });
  received = createInterface({ input: consumer.stdout! })[Symbol.asyncIterator]();
  expect((await received.next()).value).toBe("waiting for messages on topic demo");
}, 30_000);
afterAll(async () => {
  consumer.kill("SIGKILL");
  await once(consumer, "exit");
  await server[Symbol.asyncDispose]();
  rmSync(home, { recursive: true, force: true });
});

const run = async (command: string, ...args: string[]): Promise<string> => {
  const env = { ...process.env, HOME: home, ESCAPEMENT_URL: server.url, ROCKETMQ_ENDPOINT: server.endpoint };
  return (await promisify(execFile)(command, args, { cwd: root, env })).stdout;
};

/** The lines that stand after "Prints" in an example's comment, further in than the rest. */
const promised = (example: string): string => {
  const comment = readFileSync(join(root, example), "utf8")
    .split(/\bPrints\b.*\n/)[1]!
    .split("*/")[0]!;
  const lines = [...comment.matchAll(/^(?: \*|\/\/)? {3,}(\S.*)$/gm)].map(([, line]) => line);
  return `${lines.join("\n")}\n`;
};

describe("the examples", () => {
  it("schedule-and-cancel.ts", async () => {
    const example = "examples/schedule-and-cancel.ts";
    expect(promised(example).split("\n")).toHaveLength(6);
    expect(await run(process.execPath, example)).toBe(promised(example));
  });

  it("schedule-and-receive.ts", async () => {
    const example = "examples/schedule-and-receive.ts";
    expect(promised(example)).toContain("received   hello, not early");
    expect(await run(process.execPath, example)).toBe(promised(example));
  });

  it("ingest-from-python.py, received by consume.ts", async () => {
    const example = "examples/ingest-from-python.py";
    const { command } = await pythonDriver({ say: () => {} });
    const printed = await run(command, example);
    expect(printed).toContain("handed over");
    expect(promised(example)).toContain(printed.trim());
    expect((await received.next()).value).toMatch(/^hello from Python {2}\(.*, here \d+ ms after it was due\)$/);
  }, 300_000);

  it("ingest-from-java/Ingest.java, received by consume.ts", async () => {
    const jars = await mavenJars({
      name: "rocketmq-client-java-5.2.0",
      artifacts: ["org.apache.rocketmq:rocketmq-client-java:5.2.0"],
      say: () => {},
    });
    const example = "examples/ingest-from-java/Ingest.java";
    const printed = await run("java", `-Duser.home=${home}`, "-cp", join(jars, "*"), example);
    expect(promised(example)).toContain(printed.trim());
    expect((await received.next()).value).toMatch(/^hello from Java {2}\(.*, here \d+ ms after it was due\)$/);
  }, 300_000);
});
