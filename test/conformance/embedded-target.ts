import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdirSync, openSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { join, resolve } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { createRemotingAdmin } from "../../src/adapters/rocketmq/remoting-admin.ts";
import { systemTimers } from "../../src/adapters/system/system-time.ts";
import { administered, adminMaxMs } from "./administered.ts";
import type { Target } from "./target.ts";

/**
 * The embedded broker as a process of its own, started by the same command as a user would, so that it can be killed.
 * It serves clients and administration on one port.
 */
const cli = resolve(import.meta.dirname, "../../src/cli/main.ts");
const readyMaxMs = 20_000;
const stopMaxMs = 10_000;

export const startEmbeddedTarget = async (folder: string): Promise<Target> => {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  const port = await freePort();
  const endpoint = `127.0.0.1:${port}`;
  const admin = createRemotingAdmin({ broker: endpoint, timers: systemTimers, timeoutMs: adminMaxMs });
  const logFile = join(folder, "broker.log");

  const start = async (): Promise<ChildProcess> => {
    const log = openSync(logFile, "a");
    const flags = ["--port", String(port), "--data", join(folder, "data"), "--transaction-check-ms", "2000"];
    // By default a topic comes into being by being used; RocketMQ behind its proxy never does that.
    const args = [cli, "broker", ...flags, "--no-auto-create"];
    const child = spawn(process.execPath, args, { stdio: ["ignore", log, log] });
    closeSync(log);
    const endWithUs = () => child.kill("SIGKILL");
    process.once("exit", endWithUs);
    child.once("exit", () => process.off("exit", endWithUs));
    const endMs = Date.now() + readyMaxMs;
    while (!(await answers(endpoint))) {
      if (child.exitCode !== null || Date.now() > endMs) {
        child.kill("SIGKILL");
        throw new Error(`the embedded broker did not start; it said:\n${readFileSync(logFile, "utf8").slice(-4_000)}`);
      }
      await pause(50);
    }
    return child;
  };

  const end = async (child: ChildProcess, signal: NodeJS.Signals): Promise<void> => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const gone = once(child, "exit");
    child.kill(signal);
    const insist = setTimeout(() => child.kill("SIGKILL"), stopMaxMs);
    await gone;
    clearTimeout(insist);
  };

  let broker = await start();
  return {
    name: "embedded",
    title: "embedded broker",
    endpoint,
    ...administered(admin),
    async restart() {
      await end(broker, "SIGKILL");
      broker = await start();
    },
    stop: () => end(broker, "SIGTERM"),
  };
};

/** By the administration, because that is what is asked first. */
const answers = async (endpoint: string): Promise<boolean> => {
  try {
    await createRemotingAdmin({ broker: endpoint, timers: systemTimers, timeoutMs: 500 }).topicExists("ANY");
    return true;
  } catch {
    return false;
  }
};

const freePort = async (): Promise<number> => {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, "close");
  return port;
};
