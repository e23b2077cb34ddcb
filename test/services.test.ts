// The scripts that start real services, as far as they can be tried without any: what `stop` leaves alone, and what the
// command says when something is missing. services.real.test.ts starts servers.

import { type ChildProcess, execFile, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { startInstance } from "../scripts/services/instance.mjs";
import { killService, statusServices, stopServices } from "../scripts/services.mjs";

const script = fileURLToPath(new URL("../scripts/services.mjs", import.meta.url));

let runDir: string;
beforeAll(() => {
  runDir = mkdtempSync(join(tmpdir(), "services-test-"));
});
afterAll(() => rmSync(runDir, { recursive: true, force: true }));

interface Outcome {
  exitCode: number;
  stdout: string;
  stderr: string;
}

function run(args: string[], env: Record<string, string | undefined> = process.env): Promise<Outcome> {
  return new Promise((resolve) => {
    execFile(process.execPath, [script, ...args], { env }, (error, stdout, stderr) =>
      resolve({ exitCode: error === null ? 0 : Number(error.code), stdout, stderr }),
    );
  });
}

describe("start", () => {
  test("a start that is never ready ends what it began, and nothing that ran before", async () => {
    const sleeper = (role: string, ready: () => Promise<void>) => ({ role, ports: () => [], ready });
    const pids = () =>
      JSON.parse(readFileSync(join(runDir, "sleepers", "state.json"), "utf8")).processes.map(
        (one: { pid: number }) => one.pid,
      );
    let launchedPids: number[] = [];
    const service = {
      service: "sleepers",
      readyMaxMs: 300,
      stopGraceMs: 2_000,
      roles: [
        sleeper("first", async () => {}),
        sleeper("second", async () => {
          launchedPids = pids();
          throw new Error("still yawning");
        }),
      ],
      choosePorts: async () => ({}),
      requirements: async () => ({}),
      commands: () => ({
        first: { command: "/bin/sleep", args: ["60"] },
        second: { command: "/bin/sleep", args: ["60"] },
      }),
      address: () => ({}),
    };
    await expect(startInstance({ ...service, roles: [service.roles[0]!] }, { runDir })).resolves.toBeDefined();
    const [before] = pids();
    await expect(startInstance(service, { runDir })).rejects.toThrow(
      /second is not ready after 0.3 s \(still yawning\)/,
    );
    expect(launchedPids).toHaveLength(2);
    expect(pids()).toEqual([before]);
    // It has ended; until Node has collected it, which takes a moment, a signal still finds its remains.
    await vi.waitFor(() => expect(() => process.kill(launchedPids[1]!, 0)).toThrow("ESRCH"));
    process.kill(before, "SIGKILL");
  });
});

describe("stop", () => {
  let stranger: ChildProcess;
  beforeAll(() => {
    stranger = spawn("sleep", ["60"], { stdio: "ignore" });
  });
  afterAll(() => stranger.kill("SIGKILL"));

  test("never signals a process that it did not start, though a state file names its pid", async () => {
    const folder = join(runDir, "redis-planted");
    mkdirSync(folder, { recursive: true });
    const planted = { role: "server", pid: stranger.pid, born: "an earlier process with this number" };
    const ports = { port: 1 };
    writeFileSync(
      join(folder, "state.json"),
      JSON.stringify({ service: "redis", ports, options: {}, processes: [planted] }),
    );
    expect(statusServices({ runDir }).find((one) => one.instance === "redis-planted")?.condition).toBe("stopped");
    await killService({ service: "redis", instance: "redis-planted", runDir, folder, ports, pids: {} });
    expect(await stopServices({ runDir })).toEqual([]);
    expect(stranger.exitCode).toBeNull();
    expect(stranger.signalCode).toBeNull();
    expect(() => process.kill(stranger.pid!, 0)).not.toThrow();
    rmSync(folder, { recursive: true });
  });
});

describe("what the command says", () => {
  const empty = { HOME: process.env.HOME, PATH: "", JAVA_HOME: undefined };

  test("Java is missing: which version, and what to install", async () => {
    const outcome = await run(["start", "rocketmq", "--json", "--run-dir", runDir], empty);
    expect(outcome).toMatchObject({ exitCode: 1, stdout: "{}\n" });
    expect(outcome.stderr).toMatch(/`java` was not found on the PATH.*version 11 or newer.*openjdk-17-jre-headless/);
  });

  test("Redis is missing: which version, and what to install", async () => {
    const outcome = await run(["start", "redis", "--run-dir", join(runDir, "without")], empty);
    expect(outcome.exitCode).toBe(1);
    expect(outcome.stderr).toMatch(/`redis-server` was not found on the PATH.*Redis 7\.0 or newer.*redis-server/);
  });

  test("MariaDB is missing: which version, and what to install", async () => {
    const outcome = await run(["start", "mysql", "--run-dir", join(runDir, "without")], empty);
    expect(outcome.exitCode).toBe(1);
    expect(outcome.stderr).toMatch(
      /`mariadb-install-db` was not found on the PATH.*MariaDB 10\.6 or newer.*mariadb-server-core mariadb-client-core/,
    );
  });

  test("an unknown service, verb or option is refused with the known ones", async () => {
    expect(await run(["start", "redsi"])).toMatchObject({
      exitCode: 1,
      stderr: expect.stringContaining("known are redis, rocketmq"),
    });
    expect(await run(["restart"])).toMatchObject({ exitCode: 2, stderr: expect.stringContaining("start|stop|status") });
    expect(await run(["start", "--jsno"])).toMatchObject({ exitCode: 2, stderr: expect.stringContaining("--jsno") });
  });

  test("a timer precision that the broker would silently round is refused", async () => {
    const env = { ...process.env, ROCKETMQ_TIMER_PRECISION_MS: "50" };
    const outcome = await run(["start", "rocketmq", "--run-dir", join(runDir, "precision")], env);
    expect(outcome).toMatchObject({
      exitCode: 1,
      stderr: expect.stringContaining("must be one of 100, 200, 500, 1000"),
    });
  });
});
