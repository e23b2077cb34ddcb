import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { ScriptedServer } from "../sdk/test/scripted-server.ts";

/** The command as people and scripts run it: a process of its own, against a server that speaks the wire contract. */
const bin = fileURLToPath(new URL("../../bin/escapement.mjs", import.meta.url));
let server: ScriptedServer;
let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "escapement-cli-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));
beforeEach(async () => {
  server = await ScriptedServer.start();
});
afterEach(() => server.stop());

type Run = { readonly code: number | null; readonly out: string; readonly err: string };

const environment = (more: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv => {
  // Node gives no colours to a build machine that it does not know, even on a terminal.
  const { FORCE_COLOR: _, NO_COLOR: __, CI: ___, ROCKETMQ_ADMIN: ____, ...rest } = process.env;
  return { ...rest, ESCAPEMENT_URL: server.url, ...more };
};

const start = (args: readonly string[], env: NodeJS.ProcessEnv = {}) => {
  const child = spawn(process.execPath, [bin, ...args], { env: environment(env) });
  let out = "";
  let err = "";
  child.stdout.on("data", (data) => (out += data));
  child.stderr.on("data", (data) => (err += data));
  child.stdin.on("error", () => {});
  const done = new Promise<Run>((resolve) => child.on("close", (code) => resolve({ code, out, err })));
  return { child, done, soFar: () => out };
};

const run = (args: readonly string[], input: string | Buffer = "", env: NodeJS.ProcessEnv = {}): Promise<Run> => {
  const { child, done } = start(args, env);
  child.stdin.end(input);
  return done;
};

const file = (name: string, lines: readonly unknown[]): string => {
  const path = join(folder, name);
  writeFileSync(path, lines.map((line) => `${typeof line === "string" ? line : JSON.stringify(line)}\n`).join(""));
  return path;
};

const message = (body: string, more: object = {}) => ({ topic: "orders", body, delay: "1h", ...more });

const jsonLines = (text: string) =>
  text
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));

describe("schedule", () => {
  it("hands over every field that has a flag", async () => {
    const args = "schedule -t orders -b hello -a 2030-01-01T09:00:00+08:00 -k order-7 --on-conflict replace --tag new";
    const more = "--keys k1 --keys k2 -p color=red -p eq=a=b -g group -e 2h --max-attempts 5 --retry-initial 100";
    const last = "--retry-max 1m --retry-multiplier 1.5 --wait-for-topic";
    const { code, out, err } = await run(`${args} ${more} ${last}`.split(" "));
    expect({ code, err }).toEqual({ code: 0, err: "" });
    expect(out).toMatch(/^scheduled key:group:order-7 {2}2030-01-01T09:00:00\+08:00 \(in [\d,]+ d( \d+ h)?\)\n$/);
    expect(server.schedules).toEqual([
      {
        topic: "orders",
        body: "hello",
        deliverAt: "2030-01-01T09:00:00+08:00",
        key: "order-7",
        onConflict: "replace",
        tag: "new",
        keys: ["k1", "k2"],
        properties: { color: "red", eq: "a=b" },
        messageGroup: "group",
        expireAfter: "2h",
        retry: { maxAttempts: 5, initial: 100, max: "1m", multiplier: 1.5 },
        waitForTopic: true,
      },
    ]);
  });

  it("takes bytes from a file or standard input, and prints JSON when asked", async () => {
    const bytes = Buffer.from([0, 255, 10, 13]);
    writeFileSync(join(folder, "body.bin"), bytes);
    const fromFile = await run(["schedule", "-t", "orders", "--body-file", join(folder, "body.bin"), "-d", "5000"]);
    const fromInput = await run(["--json", "schedule", "-t", "orders", "--body-file", "-", "-d", "5s"], bytes);
    expect([fromFile.code, fromInput.code]).toEqual([0, 0]);
    expect(JSON.parse(fromInput.out)).toMatchObject({ state: "scheduled", attempt: 0, deduplicated: false });
    expect(server.schedules.map(({ bodyBase64 }) => bodyBase64)).toEqual(["AP8KDQ==", "AP8KDQ=="]);
    expect(server.schedules.map(({ delay }) => delay)).toEqual([5_000, "5s"]);
  });

  it("says that a key was known", async () => {
    await run(["schedule", "-t", "orders", "-b", "x", "-a", "2030-01-01T00:00:00Z", "-k", "a"]);
    const { out } = await run(["schedule", "-t", "orders", "-b", "x", "-d", "1h", "-k", "a"]);
    expect(out).toMatch(/^known already key::a /);
  });

  it("says what to change when the server refuses", async () => {
    const { code, out, err } = await run(["schedule", "-t", "nope", "-b", "x", "-d", "1h"]);
    expect({ code, out, err }).toEqual({
      code: 1,
      out: "",
      err: "error: topic_not_found: Topic nope does not exist.\n",
    });
    const json = await run(["schedule", "-t", "nope", "-b", "x", "-d", "1h", "--json"]);
    expect(JSON.parse(json.out)).toEqual({
      error: { code: "topic_not_found", detail: "Topic nope does not exist.", status: 422, effect: "none" },
    });
    expect({ code: json.code, err: json.err }).toEqual({ code: 1, err: "" });
  });

  it("ends with 2 and without a stack when the command line is wrong", async () => {
    const { code, out, err } = await run(["schedule", "--topic", "orders"]);
    expect({ code, out }).toEqual({ code: 2, out: "" });
    expect(err).toBe("error: Say when: --delay 30m, or --deliver-at 2030-01-01T09:00:00Z.\n");
  });
});

describe("get, cancel, reschedule", () => {
  const scheduled = async (): Promise<string> => {
    const args = ["schedule", "-t", "orders", "-b", "hello\u001b[31m\nworld", "-a", "2030-01-01T00:00:00Z", "--json"];
    return JSON.parse((await run([...args, "-p", "color=\u202ered"])).out).id;
  };

  it("shows a message so that nothing in it can play with the terminal", async () => {
    const id = await scheduled();
    const { code, out } = await run(["get", id, "--body"]);
    expect(code).toBe(0);
    expect(out).toMatch(/^id {10}\S+\nstate {7}scheduled\ndue {9}2030-01-01T00:00:00Z \(in /);
    expect(out).toContain("properties  color=\\u202ered\n");
    // An escape character makes the body binary in our eyes.
    expect(out).toContain("\n\n68 65 6c 6c 6f 1b 5b 33 31 6d 0a 77 6f 72 6c 64\n");
    expect(out).not.toContain("\u001b");
    const json = JSON.parse((await run(["get", id, "--body", "--json"])).out);
    expect(Buffer.from(json.bodyBase64, "base64").toString()).toBe("hello\u001b[31m\nworld");
    expect(JSON.parse((await run(["get", id, "--json"])).out)).not.toHaveProperty("bodyBase64");
  });

  it("change a message and answer the truth, by exit code too", async () => {
    const id = await scheduled();
    const later = await run(["reschedule", id, "-a", "2031-01-01T00:00:00Z", "-b", "new"]);
    expect(later).toMatchObject({ code: 0, err: "" });
    expect(later.out).toMatch(/^rescheduled \S+ {2}2031-01-01T00:00:00Z \(in /);
    expect(await run(["cancel", id])).toEqual({ code: 0, out: `canceled ${id}\n`, err: "" });
    const tooLate = await run(["reschedule", id, "-d", "1h"]);
    expect(tooLate).toEqual({ code: 6, out: "", err: "error: too_late: The message is canceled.\n" });
    const missing = await run(["cancel", "--key", "unknown", "--json"]);
    expect(missing.code).toBe(5);
    expect(JSON.parse(missing.out).error.code).toBe("not_found");
  });
});

describe("schedule --file", () => {
  it("schedules every line and reports the bad ones by number, in order", async () => {
    const path = file("mixed.ndjson", [
      `\ufeff${JSON.stringify(message("1"))}`,
      "not json",
      "",
      message("4", { topic: "nope" }),
      "5",
      `${JSON.stringify(message("6"))}\r`,
      { body: "no topic", delay: 1 },
      { topic: "orders", json: { a: 1 }, delay: 1 },
    ]);
    const { code, out, err } = await run(["schedule", "--file", path]);
    expect({ code, out }).toEqual({ code: 4, out: "" });
    const lines = err.trimEnd().split("\n");
    expect(lines.slice(0, -1)).toEqual([
      "line 2: invalid_json: The line is not JSON. Each line must be one message, whole.",
      "line 4: topic_not_found: Topic nope does not exist.",
      'line 5: invalid_request: The line is not an object like {"topic":…,"body":…,"delay":…}.',
      "line 7: missing_field (topic): Name a topic.",
    ]);
    expect(lines.at(-1)).toMatch(/^3 messages accepted, 4 rejected, in .* \([\d,]+\/s\)$/);
    expect(server.schedules.map(({ body }) => body)).toEqual(["1", "6", '{"a":1}']);
  });

  it("gives one line of JSON for each line with --json, and 0 when all are accepted", async () => {
    const mixed = await run(["schedule", "-f", file("j.ndjson", [message("1"), "x", message("3")]), "--json"]);
    expect(mixed.code).toBe(4);
    expect(jsonLines(mixed.out)).toMatchObject([
      { line: 1, message: { state: "scheduled" } },
      { line: 2, error: { code: "invalid_json" } },
      { line: 3, message: { state: "scheduled" } },
    ]);
    const good = await run(["schedule", "-f", "-", "--json"], `${JSON.stringify(message("1"))}`);
    expect(good.code).toBe(0);
    expect(jsonLines(good.out)).toHaveLength(1);
    expect(await run(["schedule", "-f", "-"], "\n\n")).toMatchObject({ code: 0, out: "" });
  });

  it("takes 20,000 lines from standard input without a progress line and with bounded memory", async () => {
    server.remembering = false;
    const text = `${JSON.stringify(message("x".repeat(2_000)))}\n`.repeat(20_000);
    // 41 MB of input; a process that held it all, or all of its results, would need more than this heap.
    const { code, out, err } = await run(["schedule", "-f", "-"], text, { NODE_OPTIONS: "--max-old-space-size=40" });
    expect({ code, out }).toEqual({ code: 0, out: "" });
    expect(err).toMatch(/^20,000 messages accepted, in [^\r]*\n$/);
  }, 30_000);

  it("reports the results of a slow input as they come", async () => {
    const { child, done, soFar } = start(["schedule", "-f", "-", "--json"]);
    child.stdin.write(`${JSON.stringify(message("1"))}\n`);
    while (!soFar().includes('{"line":1')) await new Promise((resolve) => setTimeout(resolve, 20));
    child.stdin.end(`${JSON.stringify(message("2"))}\n`);
    expect(jsonLines((await done).out)).toHaveLength(2);
  });

  it("says how to go on when the server goes away", async () => {
    server.script = [{ act: "behave" }, ...Array.from({ length: 20 }, () => ({ act: "cut" }) as const)];
    const path = file(
      "away.ndjson",
      Array.from({ length: 40 }, (_, i) => (i === 20 ? "bad" : message(`${i}`))),
    );
    const { code, err } = await run(["schedule", "-f", path, "--batch-size", "10", "--concurrency", "1"]);
    expect(code).toBe(3);
    expect(err).toContain(`error: No answer from ${server.url}`);
    expect(err).toContain("10 messages accepted");
    expect(err).toContain("Lines before 11 have their results.");
    expect(err).toContain("tail -n +11 FILE");
  });

  it("stops on SIGINT and says where", async () => {
    const { child, done, soFar } = start(["schedule", "-f", "-", "--json"]);
    child.stdin.write(`${JSON.stringify(message("1"))}\n`);
    while (!soFar().includes('{"line":1')) await new Promise((resolve) => setTimeout(resolve, 20));
    child.kill("SIGINT");
    const { code, err } = await done;
    expect(code).toBe(130);
    expect(err).toContain("interrupted\n1 message accepted");
    expect(err).toContain("Lines before 2 have their results.");
  });

  it("ends quietly when nobody reads its output any more", async () => {
    const { child, done } = start(["schedule", "-f", "-", "--json"]);
    child.stdout.destroy();
    child.stdin.end(`${JSON.stringify(message("1"))}\n`.repeat(2_000));
    expect(await done).toMatchObject({ code: 141, err: "" });
  });
});

const hasScript = spawnSync("script", ["-qec", "true", "/dev/null"]).status === 0;

describe.skipIf(!hasScript)("on a terminal", () => {
  const onTerminal = (line: string, env: NodeJS.ProcessEnv = {}): Promise<string> => {
    const command = `stty cols 90; ${process.execPath} ${bin} ${line}`;
    const child = spawn("script", ["-qec", command, "/dev/null"], { env: environment({ TERM: "xterm", ...env }) });
    let out = "";
    child.stdout.on("data", (data) => (out += data));
    return new Promise((resolve) => child.on("close", () => resolve(out)));
  };

  it("shows a progress line that is gone at the end", async () => {
    server.batchDelayMs = 150;
    const path = file("bar.ndjson", [...Array.from({ length: 40 }, (_, i) => message(`${i}`)), "bad"]);
    const out = await onTerminal(`schedule -f ${path} --batch-size 10 --concurrency 1`);
    const frames = out.split("\r").filter((frame) => frame.includes("░") || frame.includes("█"));
    expect(frames.length).toBeGreaterThanOrEqual(3);
    expect(frames.at(1)).toMatch(/█+░+ +\d+ % {2}\d+ accepted {2}\d+\/s/);
    for (const frame of frames) expect(frame.replaceAll("\u001b[K", "").length).toBeLessThan(90);
    const afterLastFrame = out.slice(out.lastIndexOf("%"));
    expect(afterLastFrame).toContain("\r\u001b[K");
    expect(afterLastFrame).toContain("40 messages accepted, 1 rejected");
  });

  it("uses colours, and none with NO_COLOR", async () => {
    const withColour = await onTerminal("get unknown");
    expect(withColour).toContain("\u001b[31m");
    const without = await onTerminal("get unknown", { NO_COLOR: "1" });
    expect(without).toContain("error: not_found");
    expect(without).not.toContain("\u001b[");
  });
});

describe("stats and health", () => {
  it("draws a page that holds what matters", async () => {
    server.stats = {
      ...server.stats,
      waiting: { total: 1_234_567, byTopic: { mail: 1, orders: 1_234_566 } },
      dead: 3,
      duePerMinute: Array.from({ length: 60 }, (_, i) => (i === 0 ? 800 : i === 59 ? 1 : 0)),
      duePerHour: Array.from({ length: 24 }, (_, i) => i),
      lateness: { count: 1_000, p50Ms: 1.25, p99Ms: 4, maxMs: 1_500 },
      shards: Array.from({ length: 8 }, (_, shard) => ({
        shard,
        epoch: 1,
        ...(shard === 7 ? {} : { owner: "node-a" }),
      })),
      members: ["node-a", "node-b"],
    };
    const { code, out } = await run(["stats"]);
    expect(code).toBe(0);
    expect(out).toContain("waiting          1,234,567\nof these parked          0\n");
    expect(out).toContain("orders  1,234,566  ██████████████████████████████\nmail            1  █\n");
    expect(out).toContain("Due in the next hour  801 messages, at most 800 a minute\n█");
    expect(out).toMatch(/█ {58}▁\n╵now {11}╵15 min {8}╵30 min {8}╵45 min\n/);
    expect(out).toContain("half within 1.3 ms, 99 % within 4 ms, the latest 1.5 s\n");
    expect(out).toContain("node-a  7  0-6\nnode-b  0\nwithout an owner: 7\n");
    expect(out).not.toContain("\u001b");
    expect(JSON.parse((await run(["stats", "--json"])).out)).toEqual(server.stats);
  });

  it("ends with 0 only when the server is well", async () => {
    expect(await run(["health"])).toEqual({ code: 0, out: "ok\n", err: "" });
    server.health = { status: "degraded", problems: [{ code: "store_full", detail: "Redis is out of memory." }] };
    const degraded = await run(["health"]);
    expect(degraded).toEqual({ code: 1, out: "degraded\n  store_full: Redis is out of memory.\n", err: "" });
    expect(JSON.parse((await run(["health", "--json"])).out)).toEqual(server.health);
  });

  it("says that nobody listens", async () => {
    const { code, err } = await run(["stats"], "", { ESCAPEMENT_URL: `http://127.0.0.1:${await freePort()}` });
    expect(code).toBe(3);
    expect(err).toMatch(
      /^error: Cannot reach http:\/\/127\.0\.0\.1:\d+ \(ECONNREFUSED; 5 tries\)\. Nothing was sent\.\n/,
    );
    expect(err).toContain("escapement serve");
  });

  it("keeps to its timeout", async () => {
    server.script = Array.from({ length: 5 }, () => ({ act: "late", ms: 5_000 }) as const);
    const { code, err } = await run(["stats", "--timeout", "50ms"]);
    expect(code).toBe(3);
    expect(err).toContain("no whole reply within 50 ms; 5 tries");
  });
});

describe("help", () => {
  it("has examples that work", async () => {
    writeFileSync(join(folder, "picture.png"), Buffer.from([137, 80, 78, 71]));
    const page = (await run(["schedule", "--help"])).out;
    const line = /A line of such a file:\n {2}(.*)\n/.exec(page)![1]!;
    file("messages.ndjson", [line]);
    const examples = [...page.matchAll(/^ {2}(escapement schedule.*)$/gm)].map(([, text]) => text!);
    expect(examples).toHaveLength(5);
    for (const example of examples) {
      const shell = example.replace(/^escapement/, `"${process.execPath}" "${bin}"`);
      const child = spawn("sh", ["-c", shell], { cwd: folder, env: environment() });
      expect(await new Promise((resolve) => child.on("close", resolve)), example).toBe(0);
    }
    expect(server.messages.size).toBe(3);
  });

  it("prints the version", async () => {
    expect(await run(["--version"])).toMatchObject({ code: 0, out: expect.stringMatching(/^\d+\.\d+\.\d+\n$/) });
  });
});

const freePort = (): Promise<number> =>
  new Promise((resolve) => {
    const probe = createServer().listen(0, "127.0.0.1", () => {
      const { port } = probe.address() as { port: number };
      probe.close(() => resolve(port));
    });
  });
