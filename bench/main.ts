import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Redis } from "ioredis";
import { startMysql, startRedis, startRocketmq, stopServices } from "../scripts/services.mjs";
import { changes, readBaseline, writeBaseline } from "./lab/baseline.ts";
import { benchmarks, named, withMysql, withoutBroker } from "./lab/benchmarks.ts";
import { thisMachine } from "./lab/machine.ts";
import { pageOf, type Run } from "./lab/page.ts";
import type { Lab, Row } from "./lab/row.ts";
import { changeLine, lineOf, verdictLine } from "./lab/show.ts";
import { judge } from "./lab/targets.ts";

/**
 * Runs the benchmarks, each in a process of its own, on a Redis and a RocketMQ that nobody else uses; prints what each
 * said, judges it by the targets and compares CPU per message with the stored baseline.
 *
 * Exit code 1: a benchmark failed, or one that is not quick costs more than the baseline allows.
 */
const usage =
  "usage: npm run bench -- [--only NAME,NAME] [--quick] [--json FILE] [--update-baseline] [--write-docs] [--docs-from FILE]";

const readArguments = () => {
  try {
    return parseArgs({
      options: {
        only: { type: "string", default: "" },
        quick: { type: "boolean", default: false },
        json: { type: "string", default: "" },
        "update-baseline": { type: "boolean", default: false },
        "write-docs": { type: "boolean", default: false },
        "docs-from": { type: "string", default: "" },
      },
    }).values;
  } catch (error) {
    console.error(`${(error as Error).message}\n${usage}\nbenchmarks: ${Object.keys(benchmarks).join(", ")}`);
    process.exit(2);
  }
};
const options = readArguments();

// The services are plain JavaScript; this part of them has no declared types.
const { rocketmqVersion } = (await import("../scripts/services/rocketmq-java.mjs" as string)) as {
  rocketmqVersion: string;
};

const local = (path: string): string => fileURLToPath(new URL(path, import.meta.url));
const runDir = local("../.run/bench");
/** A benchmark that takes longer has hung. */
const timeLimitMs = options.quick ? 150_000 : 600_000;
const say = (line: string): void => console.log(line);

const writeDocs = (run: Run): void => {
  writeFileSync(local("../docs/benchmarks.md"), pageOf(run, readFileSync(local("limits.md"), "utf8")));
};

if (options["docs-from"] !== "") {
  writeDocs(JSON.parse(readFileSync(options["docs-from"], "utf8")) as Run);
  process.exit(0);
}

const asked = options.only === "" ? Object.keys(benchmarks) : options.only.split(",").map((name) => name.trim());
const unknown = asked.filter((name) => named(name).length === 0);
const names = asked.flatMap(named);
if (unknown.length > 0) {
  say(`no benchmark is called ${unknown.join(", ")}; there are ${Object.keys(benchmarks).join(", ")}`);
  process.exit(2);
}

const running: { child?: ChildProcess; started: Set<number> } = { started: new Set() };

/** Ends what the benchmark at work has started; nothing else. */
const endStarted = (): void => {
  for (const pid of running.started) {
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // It has ended by itself.
    }
  }
  running.started.clear();
};

const runOne = async (name: string, lab: Lab): Promise<{ rows: Row[]; failed: boolean }> => {
  const rows: Row[] = [];
  let isDone = false;
  const child = fork(local("lab/worker.ts"), [name, JSON.stringify(lab)], { cwd: local("..") });
  running.child = child;
  child.on("message", (message: { row?: Row; started?: number } | "done") => {
    if (message === "done") isDone = true;
    else if (message.started !== undefined) running.started.add(message.started);
    else if (message.row !== undefined) {
      rows.push(message.row);
      say(lineOf(message.row));
    }
  });
  const limit = setTimeout(() => {
    say(`  ${name} took longer than ${timeLimitMs / 1000} s and was ended`);
    child.kill("SIGKILL");
  }, timeLimitMs);
  await once(child, "exit");
  clearTimeout(limit);
  endStarted();
  return { rows, failed: !isDone };
};

const main = async (): Promise<number> => {
  await stopServices({ runDir });
  rmSync(runDir, { recursive: true, force: true });
  // No rewrite of the append-only file by itself: it would fall into one benchmark and not into another.
  const redis = await startRedis({ runDir, config: { "auto-aof-rewrite-percentage": 0 }, say });
  const admin = new Redis(redis.url);
  const lab = { quick: options.quick, runDir, redis: { url: redis.url, pid: redis.pids.server! } };
  // A broker that is up is a quarter of a core for its first minutes, so it is started for those who need it.
  let rocketmq: Lab["rocketmq"] = { endpoint: "", nameserver: "", broker: "", pid: 0 };
  let mysql: Lab["mysql"] = { url: "", pid: 0 };
  const rows: Row[] = [];
  const failed: string[] = [];
  for (const name of names) {
    if (rocketmq.pid === 0 && !withoutBroker.has(name)) {
      const { endpoint, nameserver, broker, pids } = await startRocketmq({ runDir, timerPrecisionMs: 1000, say });
      rocketmq = { endpoint, nameserver, broker, pid: pids.proxy! };
    }
    if (mysql.pid === 0 && withMysql(name)) {
      const { url, pids } = await startMysql({ runDir, say });
      mysql = { url, pid: pids.server! };
    }
    const beganMs = performance.now();
    say(`\n${name}`);
    const outcome = await runOne(name, { ...lab, rocketmq, mysql });
    rows.push(...outcome.rows);
    if (outcome.failed) failed.push(name);
    await admin.config("SET", "appendfsync", "always");
    await admin.flushall();
    await admin.bgrewriteaof();
    say(`  (${((performance.now() - beganMs) / 1000).toFixed(0)} s)`);
  }
  admin.disconnect();

  const run: Run = {
    date: new Date().toISOString().slice(0, 10),
    command: ["npm run bench", ...(process.argv.length > 2 ? ["--", ...shownArguments()] : [])].join(" "),
    quick: options.quick,
    machine: thisMachine(rocketmqVersion),
    rows,
    failed,
  };
  if (options.json !== "") writeFileSync(options.json, `${JSON.stringify(run, null, 2)}\n`);
  say("\ntargets");
  for (const verdict of judge(rows)) say(verdictLine(verdict));
  if (options.quick) say("  (a short run: it shows that the benchmarks work, not what the product can do)");

  const changed = changes(rows, readBaseline());
  if (changed.length > 0) say("\nmore than 25 % away from the baseline, CPU µs per message");
  for (const change of changed) say(changeLine(change));
  if (options["update-baseline"]) writeBaseline(rows);
  if (options["write-docs"]) writeDocs(run);
  for (const name of failed) say(`failed: ${name}`);
  const worse = !options.quick && !options["update-baseline"] && changed.some(({ was, now }) => now > was);
  return failed.length > 0 || worse ? 1 : 0;
};

/** Without the names of files, which belong to whoever ran it. */
const shownArguments = (): string[] =>
  process.argv.slice(2).flatMap((argument, i, all) => {
    if (all[i - 1] === "--json") return [];
    return argument === "--json" || argument.startsWith("--json=") ? [] : [argument];
  });

const stop = async (): Promise<void> => {
  running.child?.kill("SIGKILL");
  endStarted();
  await stopServices({ runDir });
  // What is left is megabytes of logs of messages that nobody needs.
  if (existsSync(runDir)) rmSync(runDir, { recursive: true, force: true });
};

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => void stop().then(() => process.exit(130)));
}
try {
  process.exitCode = await main();
} catch (error) {
  console.error(error);
  process.exitCode = 1;
} finally {
  await stop();
}
