#!/usr/bin/env node
// Starts, stops and shows the real services that development and tests run on, each on a private port in the
// repository's own run folder. Needs nothing but Node: it runs before `npm install`.
//
//   node scripts/services.mjs start|stop|status [NAME…] [--json] [--run-dir DIR]
//
// What it starts stays up after it exits. `stop` ends only what was started here. Tests import the functions below.

import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { killInstance, startInstance, statusOf, stopInstances } from "./services/instance.mjs";
import { mysql, startMysql } from "./services/mysql.mjs";
import { redis, startRedis } from "./services/redis.mjs";
import { startRedisCluster } from "./services/redis-cluster.mjs";
import { rocketmq, startRocketmq } from "./services/rocketmq.mjs";
import { clusterState, rocketmqCluster, startRocketmqCluster, untilInStep } from "./services/rocketmq-cluster.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));
const known = { redis, rocketmq, mysql, "rocketmq-cluster": rocketmqCluster };

export const defaultRunDir = resolve(root, ".run/services");

function chosen(names, { toStart = false } = {}) {
  const all = Object.keys(known).filter((name) => !(toStart && known[name].onlyByName));
  const wanted = names === undefined || names.length === 0 ? all : names;
  return wanted.map((name) => {
    if (!Object.hasOwn(known, name))
      throw new Error(`unknown service "${name}"; known are ${Object.keys(known).join(", ")}`);
    return known[name];
  });
}

const settled = (runDir) => resolve(runDir ?? defaultRunDir);

/** Brings up the named services (all when none is named) and answers with the addresses of those that run. */
export async function startServices({ names, runDir, say } = {}) {
  const folder = settled(runDir);
  const outcomes = await Promise.allSettled(
    chosen(names, { toStart: true }).map((service) =>
      startInstance(service, { runDir: folder, options: service.optionsFromEnvironment?.(process.env), say }),
    ),
  );
  const failed = outcomes.filter((one) => one.status === "rejected").map((one) => one.reason);
  if (failed.length === 1) throw failed[0];
  if (failed.length > 1) throw new AggregateError(failed, failed.map((one) => one.message).join("\n"));
  return addresses({ names, runDir: folder });
}

/** Stops every instance of the named services in the run folder; answers with the names of those that were running. */
export async function stopServices({ names, runDir } = {}) {
  const stopped = await Promise.all(
    chosen(names).map((service) => stopInstances(service, { runDir: settled(runDir) })),
  );
  return stopped.flat();
}

/** Every instance ever started in the run folder, with its condition and address. */
export function statusServices({ names, runDir } = {}) {
  return chosen(names).flatMap((service) => statusOf(service, { runDir: settled(runDir) }));
}

function addresses({ names, runDir }) {
  const running = statusServices({ names, runDir }).filter(
    (one) => one.condition === "running" && one.instance === one.service,
  );
  return Object.fromEntries(running.map((one) => [one.service, known[one.service].address(one.ports)]));
}

/** For fault tests: `killService(handle)` is a kill -9; SIGSTOP and SIGCONT freeze and thaw; `role` picks one process. */
export const killService = killInstance;

/** Starts what is missing of a killed instance, on the same ports, with the same data. */
export function startAgain(handle) {
  const service = known[handle.service];
  const name = handle.instance === handle.service ? undefined : handle.instance.slice(handle.service.length + 1);
  return startInstance(service, { runDir: handle.runDir, name, keepPorts: true });
}

export { clusterState, startMysql, startRedis, startRedisCluster, startRocketmq, startRocketmqCluster, untilInStep };

const usage = "usage: services start|stop|status [NAME…] [--json] [--run-dir DIR]";

function paint(colour, text) {
  const code = { green: 32, yellow: 33, dim: 2 }[colour];
  return process.stdout.isTTY ? `\u001b[${code}m${text}\u001b[0m` : text;
}

function showLines(lines) {
  if (lines.length === 0) process.stdout.write("nothing was started in this run folder yet\n");
  for (const one of lines) {
    const at = Object.entries(known[one.service].address(one.ports))
      .map(([key, value]) => (key === "url" ? value : `${key} ${value}`))
      .join("  ");
    const colour = { running: "green", partly: "yellow", stopped: "dim" }[one.condition];
    process.stdout.write(
      `${one.instance.padEnd(12)} ${paint(colour, one.condition.padEnd(8))} ${one.condition === "stopped" ? "" : at}\n`,
    );
  }
}

async function main() {
  let parsed;
  try {
    parsed = parseArgs({
      allowPositionals: true,
      options: { json: { type: "boolean", default: false }, "run-dir": { type: "string" } },
    });
  } catch (error) {
    process.stderr.write(`${error.message}\n${usage}\n`);
    return 2;
  }
  const [verb, ...names] = parsed.positionals;
  const { json, "run-dir": runDir } = parsed.values;
  const say = (line) => process.stderr.write(`${line}\n`);
  let exitCode = 0;
  try {
    chosen(names);
    if (verb === "start") await startServices({ names, runDir, say });
    else if (verb === "stop") await stopServices({ names, runDir });
    else if (verb !== "status") {
      process.stderr.write(`${usage}\n`);
      return 2;
    }
  } catch (error) {
    process.stderr.write(`${error.message}\n`);
    exitCode = 1;
  }
  if (json) process.stdout.write(`${JSON.stringify(addresses({ names: exitCode === 0 ? names : [], runDir }))}\n`);
  else showLines(statusServices({ names: exitCode === 0 ? names : [], runDir }));
  return exitCode;
}

if (process.argv[1] !== undefined && resolve(process.argv[1]) === fileURLToPath(import.meta.url))
  process.exitCode = await main();
