import { spawn } from "node:child_process";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { until } from "./pace.ts";
import { freePort } from "./server-process.ts";
import { noteStarted } from "./started.ts";

/** `escapement broker` as a process of its own, on a folder. */
export type EmbeddedBroker = {
  readonly endpoint: string;
  readonly pid: number;
  /** From the start of the process until the port is open. */
  readonly startedInMs: number;
  stop(): Promise<void>;
};

const cli = fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url));

export const startEmbeddedBroker = async (folder: string, givenPort?: number): Promise<EmbeddedBroker> => {
  const port = givenPort ?? (await freePort());
  const beganMs = performance.now();
  const flags = process.env.BENCH_NODE_FLAGS?.split(" ") ?? [];
  const child = spawn(process.execPath, [...flags, cli, "broker", "--port", String(port), "--data", folder], {
    env: { ...process.env, LOG_LEVEL: "warn" },
    stdio: ["ignore", "ignore", "inherit"],
  });
  noteStarted(child.pid!);
  const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  await until("the embedded broker listens", 60_000, () => isOpen(port), 2);
  return {
    endpoint: `127.0.0.1:${port}`,
    pid: child.pid!,
    startedInMs: performance.now() - beganMs,
    async stop() {
      child.kill("SIGTERM");
      await exited;
    },
  };
};

const isOpen = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect({ host: "127.0.0.1", port });
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });

export const residentMiB = (pid: number): number =>
  Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0) / 1024;

export const bytesBelow = (folder: string): number =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .reduce((sum, entry) => sum + statSync(join(entry.parentPath, entry.name)).size, 0);
