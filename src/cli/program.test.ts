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
    ["broker --port 70000", "Give a whole number from 0 to 65535"],
    ["shedule", "Did you mean schedule?"],
  ])("%s", async (line, text) => {
    const { code, out, err } = await run(line);
    expect({ code, out }).toEqual({ code: 2, out: "" });
    expect(err).toContain(text);
    expect(err).not.toMatch(/\n\s+at /);
  });
});

describe("help", () => {
  it("has a page for every command, each with an example", async () => {
    const { code, out } = await run("--help");
    expect(code).toBe(0);
    const commands = [...out.matchAll(/^ {2}([a-z]+) (?:\[| {2})/gm)].map(([, name]) => name!);
    expect(commands).toEqual("serve schedule get cancel reschedule stats topics groups health broker help".split(" "));
    for (const name of [
      "serve",
      "schedule",
      "get",
      "cancel",
      "reschedule",
      "stats",
      "topics create",
      "topics list",
      "topics delete",
      "groups create",
      "groups list",
      "groups delete",
      "health",
      "broker",
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
