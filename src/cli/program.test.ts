import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { PassThrough } from "node:stream";
import { describe, expect, it } from "vitest";
import { Output } from "./output.ts";
import { runProgram } from "./program.ts";

/** The command line without a process or a server: what it refuses by itself, and its help. */
const run = async (line: string): Promise<{ code: number; out: string; err: string }> => {
  const [out, err] = [new PassThrough(), new PassThrough()];
  const code = await runProgram(line.split(" "), new Output(out, err));
  return { code, out: out.read()?.toString() ?? "", err: err.read()?.toString() ?? "" };
};

describe("a usage error", () => {
  it.each([
    ["schedule", "Say where to: --topic NAME"],
    ["schedule -t a -b x", "Say when: --delay 30m"],
    ["schedule -t a -d 1h", "Say what: --body TEXT"],
    ["schedule -t a -b x -d 1h -a 2030-01-01T00:00:00Z", "--delay or --deliver-at, not both"],
    ["schedule -t a -b x --body-file y -d 1h", "--body or --body-file, not both"],
    ["schedule -t a --body-file /does/not/exist -d 1h", "Cannot read the body from /does/not/exist"],
    ["schedule --file x --topic a", "With --file, the fields of a message stand on its line"],
    ["schedule -t a -b x -d 1h --batch-size 5", "go with --file"],
    ["schedule --file /does/not/exist", "Cannot read /does/not/exist"],
    ["schedule --file /", "is a folder"],
    ["schedule -t a -b x -d 1h -p color", "Give name=value"],
    ["schedule -t a -b x -d 1h --on-conflict drop", "Allowed choices are keep, replace"],
    ["schedule --file x --batch-size 0", "Give a whole number from 1 to 1000"],
    ["get", "either by its ID or with --key NAME"],
    ["get id --key k", "either by its ID or with --key NAME"],
    ["cancel id -g group", "--message-group goes with --key"],
    ["stats --timeout never", "Give a time from 1ms to 10m"],
    ["stats --url ftp://x", "must begin with http://"],
    ["stats extra", "too many arguments"],
    ["topics create orders", "--broker HOST:PORT, or set ROCKETMQ_ADMIN"],
    ["topics list", "--broker HOST:PORT, or set ROCKETMQ_ADMIN"],
    ["groups delete --broker 127.0.0.1:8081", "missing required argument 'name'"],
    ["topics create orders --type OTHER", "Allowed choices are NORMAL, FIFO, DELAY, TRANSACTION"],
    ["outbox migrate", "--mysql URL, or set MYSQL_URL"],
    ["outbox migrate --mysql postgres://db/shop", "mysql://user:password@host:3306/name"],
    ["relay --mysql mysql://db/shop", "--endpoint HOST:PORT, or set ROCKETMQ_ENDPOINT"],
    ["relay --batch 0", "Give a whole number from 1 to 1000"],
    ["broker --port 70000", "Give a whole number from 0 to 65535"],
    ["retry explain --preset fast", "Allowed choices are default, rocketmq-ladder, rocketmq-exponential"],
    ["retry explain --preset default --policy x", "cannot be used with"],
    ["retry explain --policy /does/not/exist", "Cannot read the policy from /does/not/exist"],
    ["retry explain --policy package.json", "policy.name is not known here"],
    ["retry explain --policy README.md", "README.md is not JSON"],
    ["retry explain --error sudden", "error.class must be one of transient"],
    ["retry explain --retry-after -1s", "error.retryAfter"],
    ["retry explain --attempts 0", "Give a whole number from 1 to 1000"],
    ["shedule", "Did you mean schedule?"],
  ])("%s", async (line, text) => {
    const { code, out, err } = await run(line);
    expect({ code, out }).toEqual({ code: 2, out: "" });
    expect(err).toContain(text);
    expect(err).not.toMatch(/\n\s+at /);
  });
});

describe("retry", () => {
  it("explain prints each attempt with its bounds, and what ends it", async () => {
    const { code, out, err } = await run("retry explain --attempts 3");
    expect({ code, err }).toEqual({ code: 0, err: "" });
    expect(out.split("\n").slice(1, 5)).toEqual([
      "      1  retry        750 ms           500 ms … 1 s        750 ms",
      "      2  retry        1.5 s            1 s … 2 s           2.3 s",
      "      3  retry        3 s              2 s … 4 s           5.3 s",
      "and 77 more attempts",
    ]);
    expect(out).toMatch(/waits of mean length {2}dead {2}attempt 7\d {2}after 23 h \d+ min/);
  });

  it("explain takes an error with its code, and a Retry-After", async () => {
    const { out } = await run("retry explain --error throttled:http_429 --retry-after 1m --json");
    expect(JSON.parse(out).attempts[0].waitMs).toEqual({ minMs: 60_000, meanMs: 67_500, maxMs: 75_000 });
    expect((await run("retry explain --error permanent:too_large")).out).toContain(
      "always  dead  attempt 1  at once  too_large is permanent",
    );
  });

  it("presets lists policies that explain takes again as a file", async () => {
    expect((await run("retry presets")).out).toMatch(/^default .*\nrocketmq-ladder .*\nrocketmq-exponential .*\n$/);
    const file = join(mkdtempSync(join(tmpdir(), "escapement-retry-")), "policy.json");
    for (const line of (await run("retry presets --json")).out.trimEnd().split("\n")) {
      const { name, policy } = JSON.parse(line);
      writeFileSync(file, JSON.stringify(policy));
      const [byFile, byName] = [
        await run(`retry explain --policy ${file}`),
        await run(`retry explain --preset ${name}`),
      ];
      expect(byFile).toEqual(byName);
      expect(byFile.code).toBe(0);
    }
    rmSync(dirname(file), { recursive: true });
  });
});

describe("help", () => {
  it("has a page for every command, each with an example", async () => {
    const { code, out } = await run("--help");
    expect(code).toBe(0);
    const commands = [...out.matchAll(/^ {2}([a-z]+) (?:\[| {2})/gm)].map(([, name]) => name!);
    expect(commands).toEqual(
      "serve schedule get cancel reschedule stats dead redrives topics groups health retry dependencies broker outbox relay tx help".split(
        " ",
      ),
    );
    for (const name of [
      "serve",
      "schedule",
      "get",
      "cancel",
      "reschedule",
      "stats",
      "dead list",
      "dead groups",
      "dead show",
      "dead discard",
      "dead redrive",
      "dead audit",
      "redrives list",
      "redrives show",
      "redrives watch",
      "redrives pause",
      "redrives resume",
      "redrives cancel",
      "topics create",
      "topics list",
      "topics delete",
      "groups create",
      "groups list",
      "groups delete",
      "health",
      "retry explain",
      "retry policies list",
      "retry policies show",
      "retry policies put",
      "retry policies delete",
      "retry bindings list",
      "retry bindings set",
      "retry bindings remove",
      "retry replay",
      "retry presets",
      "broker",
      "outbox migrate",
      "outbox show",
      "outbox resend",
      "relay",
      "tx doctor",
      "tx discarded list",
      "tx discarded resume",
    ]) {
      const page = await run(`${name} --help`);
      expect(page.code).toBe(0);
      expect(page.out).toContain(`Usage: escapement ${name}`);
      expect(page.out).toMatch(/Examples?:\n {2}.*escapement /);
      expect(page.out).toContain("--url <address>");
    }
  });

  it("lists the exit codes", async () => {
    const { out } = await run("--help");
    const codes = [...out.matchAll(/^ {2}(\d) {2}\S.+$/gm)].map(([, digit]) => Number(digit));
    expect(codes).toEqual([0, 1, 2, 3, 4, 5, 6]);
  });
});
