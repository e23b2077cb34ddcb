import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { listen, testApp } from "../admin/testing.ts";
import { Output } from "./output.ts";
import { runProgram } from "./program.ts";

// The commands about stored policies, against the real HTTP app.

const t = testApp();
const folder = mkdtempSync(join(tmpdir(), "escapement-policies-"));
let url = "";
beforeAll(async () => {
  url = `http://127.0.0.1:${await listen(t.app)}`;
});
afterAll(async () => {
  await t.app.close();
  rmSync(folder, { recursive: true });
});

const file = (name: string, text: unknown): string => {
  const path = join(folder, name);
  writeFileSync(path, typeof text === "string" ? text : JSON.stringify(text));
  return path;
};
const run = async (...args: string[]) => {
  const [out, err] = [new PassThrough(), new PassThrough()];
  const code = await runProgram(["retry", ...args, "--url", url], new Output(out, err));
  return { code, out: out.read()?.toString() ?? "", err: err.read()?.toString() ?? "" };
};
const fixed = (delay: string) => ({ backoff: { kind: "fixed", delay, jitter: "none" } });

describe("retry policies", () => {
  it("are written, shown, explained, listed and deleted", async () => {
    const policy = file("policy.json", fixed("1m"));
    const words = ["--why", "calm down", "--by", "ops"];
    expect(await run("policies", "put", "slow", policy, ...words)).toEqual({ code: 0, out: "wrote slow@1\n", err: "" });
    expect((await run("policies", "put", "slow", policy)).out).toBe("nothing to change: slow@1 says just that\n");
    const other = file("other.json", fixed("2m"));
    expect((await run("policies", "put", "slow", other, "--if-version", "1")).out).toBe("wrote slow@2\n");
    expect((await run("policies", "show", "slow@1")).out).toBe(
      `slow@1  written 2027-01-15T08:00:00.000Z by ops: calm down; the newest is @2\n${JSON.stringify(fixed("1m"), null, 2)}\n`,
    );
    expect(JSON.parse((await run("policies", "show", "slow", "--json")).out).policy).toEqual(fixed("2m"));
    expect((await run("policies", "show", "slow", "--versions")).out).toMatch(
      /^version .*\nslow@2 .*\nslow@1 .* ops {2}calm down\n$/,
    );
    expect((await run("policies", "list")).out).toMatch(/^name .*\nslow +@2 +-\ndefault +preset /);
    expect((await run("explain", "--name", "slow@1", "--attempts", "1")).out).toContain(
      "1  retry        1 min            exactly",
    );
    expect((await run("policies", "delete", "slow")).out).toBe("deleted slow\n");
    expect(await run("policies", "show", "slow")).toMatchObject({
      code: 5,
      err: expect.stringContaining("was deleted"),
    });
    expect((await run("explain", "--name", "slow@3")).err).toContain("is the version that deleted it");
  });

  it.each([
    [["policies", "put", "p", "/does/not/exist"], 2, "Cannot read the policy from /does/not/exist"],
    [["policies", "show", "nowhere"], 5, "policy_not_found"],
    [["policies", "delete", "default"], 1, "policy_preset"],
    [["policies", "put", "p", "x", "--if-version", "-1"], 2, "Give a whole number from 0"],
    [["bindings", "set", "default"], 2, "Say for what: --topic, --group, --tag"],
    [["bindings", "set", "default", "--everything", "--topic", "o"], 2, "--everything goes without"],
    [["bindings", "set", "nowhere", "--topic", "o"], 5, "policy_not_found"],
    [["bindings", "remove", "--topic", "o"], 5, "binding_not_found"],
    [["replay", "/does/not/exist", "--preset", "default"], 2, "Cannot read the failures"],
    [["replay", "x"], 2, "Say with which policy"],
    [["replay", "x", "--preset", "default", "--name", "p"], 2, "Give one of --policy, --preset and --name"],
    [["explain", "--name", "p", "--preset", "default"], 2, "cannot be used with"],
  ])("say what is wrong: %j", async (args, code, text) => {
    const ended = await run(...args);
    expect(ended).toMatchObject({ code, out: "" });
    expect(ended.err).toContain(text);
  });

  it("with a mistake in the file name the place and the reason", async () => {
    const wrong = file("wrong.json", { backoff: { base: 5 } });
    const { code, err } = await run("policies", "put", "p", wrong);
    expect(code).toBe(1);
    expect(err).toContain(
      'policy.backoff.base is 5 ms, at least 10 ms are needed; numbers are milliseconds, perhaps "5s"',
    );
  });
});

describe("retry bindings", () => {
  it("are set, listed the most special first, and removed", async () => {
    expect((await run("bindings", "list")).out).toBe("nothing is bound: everything goes by the preset default\n");
    await run("policies", "put", "p", file("p.json", fixed("1s")));
    await run("bindings", "set", "p", "--everything");
    await run("bindings", "set", "p", "--topic", "orders", "--tag", "paid");
    expect((await run("bindings", "set", "default", "--group", "billing")).out).toBe(
      "group    topic   tag   policy\n*        orders  paid  p\nbilling  *       *     default\n*        *       *     p\n",
    );
    expect((await run("policies", "delete", "p")).err).toContain("policy_bound");
    expect((await run("policies", "delete", "p", "--with-bindings")).out).toBe("deleted p and 2 bindings\n");
    expect((await run("bindings", "remove", "--group", "billing")).out).toContain("nothing is bound");
  });
});

describe("retry replay", () => {
  const failures = [
    { message: "a", atMs: 1_800_000_000_000, status: 503, succeededAtMs: 1_800_000_060_000 },
    { message: "b", atMs: 1_800_000_000_000, class: "permanent" },
  ];

  it("compares policies from a file, with a name and built in, with what was", async () => {
    await run("policies", "put", "stored", file("s.json", fixed("45s")));
    const lines = file("failures.ndjson", `${failures.map((one) => JSON.stringify(one)).join("\n")}\n\n`);
    const args = ["--policy", file("c.json", fixed("20s")), "--against", "stored", "rocketmq-ladder"];
    const { code, out } = await run("replay", lines, ...args, "--messages");
    expect(code).toBe(0);
    const rows = out.split("\n").map((line: string) => line.split(/ {2,}/).join("|"));
    expect(rows.slice(1, 5)).toEqual([
      "as recorded|3|1.5|2|1|1|0|0|1 min|1 min|1 min",
      "candidate|5|2.5|2|1|1|0|0|1 min|1 min|1 min",
      "stored@1|4|2.0|2|1|1|0|0|1 min 30 s|1 min 30 s|1 min 30 s",
      "rocketmq-ladder|5|2.5|2|1|1|0|0|1 min 40 s|1 min 40 s|1 min 40 s",
    ]);
    expect(out).toContain("candidate: dead by permanent 1");
    expect(out).toMatch(/\nb +dead \(permanent\) +1 {2}at once\n/);
    const array = file("failures.json", failures);
    const json = JSON.parse((await run("replay", array, "--name", "stored@1", "--json")).out);
    expect(json.results).toMatchObject([{ policy: "stored@1", calls: 4 }]);
  });

  it("names the line that is not JSON, and the failure that is wrong", async () => {
    const bad = file("bad.ndjson", `${JSON.stringify(failures[0])}\n{`);
    expect((await run("replay", bad, "--preset", "default")).err).toContain("line 2 of");
    const wrong = file("wrong.ndjson", '{"message":"a","atMs":5}');
    expect((await run("replay", wrong, "--preset", "default")).err).toContain(
      "failures[0].atMs must be a whole number",
    );
  });
});
