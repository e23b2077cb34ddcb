// The life of one instance of a service: its folder, its remembered processes, start, stop, kill, start again.
// It knows no technology; a service (redis.mjs, rocketmq.mjs) is a table of roles, ports and commands.
//
// Start means "bring up what is missing on the remembered ports", so that it is at once the first start, the second
// start that changes nothing, and the recovery after a crash. Ports and data outlive a stop: addresses stay the same.

import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { isDeepStrictEqual } from "node:util";
import { withLock } from "./lock.mjs";
import { allFree } from "./ports.mjs";
import { isAlive, launch, signal, terminate, untilGone } from "./process.mjs";

const portDraws = 3; // a drawn port can be taken before the server binds it; three losses in a row mean something else
const portReturnMs = 1_000; // a killed server's port is free at once here; the second is for slower kernels

function instanceId(service, name) {
  if (name === undefined) return service.service;
  if (!/^[a-z0-9][a-z0-9-]*$/.test(name)) throw new Error(`instance name "${name}" may hold only a-z, 0-9 and "-"`);
  return `${service.service}-${name}`;
}

function readState(folder) {
  try {
    return JSON.parse(readFileSync(join(folder, "state.json"), "utf8"));
  } catch (error) {
    if (error.code === "ENOENT") return undefined;
    throw new Error(
      `${join(folder, "state.json")} cannot be read (${error.message}); stop what runs there by hand and delete it`,
    );
  }
}

function writeState(folder, state) {
  const file = join(folder, "state.json");
  writeFileSync(`${file}.new`, `${JSON.stringify(state, null, 2)}\n`);
  renameSync(`${file}.new`, file);
}

function handleOf(service, runDir, instance, folder, state) {
  return {
    service: service.service,
    instance,
    runDir,
    folder,
    ports: state.ports,
    pids: Object.fromEntries(state.processes.map((one) => [one.role, one.pid])),
    ...service.address(state.ports),
  };
}

function tail(file, fromByte) {
  try {
    return readFileSync(file).subarray(fromByte).toString("utf8").trim().split("\n").slice(-8).join("\n");
  } catch {
    return "";
  }
}

async function untilReady(role, ports, remembered, limitMs, logFile, fromByte) {
  const endMs = performance.now() + limitMs;
  let last = "no answer";
  for (;;) {
    try {
      await role.ready(ports);
      return;
    } catch (error) {
      last = error.message;
    }
    if (!isAlive(remembered))
      throw new Error(`${role.role} ended while starting; ${logFile} says:\n${tail(logFile, fromByte)}`);
    if (performance.now() > endMs)
      throw new Error(`${role.role} is not ready after ${limitMs / 1000} s (${last}); see ${logFile}`);
    await pause(50);
  }
}

/** Roles of one `wave` come up together and before the next; without waves each role is one of its own. */
function waves(roles) {
  const found = new Map();
  for (const role of roles) found.set(role.wave ?? role, [...(found.get(role.wave ?? role) ?? []), role]);
  return [...found.values()];
}

/** Starts the missing roles in order; `launched` collects what this call started, so that a failure takes back no more. */
async function bringUp(service, folder, state, launched, say) {
  const missing = service.roles.some((role) => !isAlive(state.processes.find((one) => one.role === role.role)));
  const commands = missing
    ? service.commands({
        folder,
        ports: state.ports,
        options: state.options,
        requirements: await service.requirements(say),
      })
    : {};
  const bringUpRole = async (role) => {
    let remembered = state.processes.find((one) => one.role === role.role);
    const logFile = join(folder, `${role.role}.log`);
    const fromByte = existsSync(logFile) ? statSync(logFile).size : 0;
    if (!isAlive(remembered)) {
      remembered = await launch({ role: role.role, logFile, cwd: folder, ...commands[role.role] });
      state.processes = [...state.processes.filter((one) => one.role !== role.role), remembered];
      launched.push(remembered);
      writeState(folder, state);
    }
    await untilReady(role, state.ports, remembered, service.readyMaxMs, logFile, fromByte);
  };
  for (const wave of waves(service.roles)) {
    const outcomes = await Promise.allSettled(wave.map(bringUpRole));
    const failed = outcomes.find((one) => one.status === "rejected");
    if (failed !== undefined) throw failed.reason;
  }
}

async function stopProcesses(service, folder, state, doomed) {
  for (const wave of waves(service.roles).reverse()) {
    const remembered = doomed.filter((one) => wave.some((role) => role.role === one.role));
    await Promise.all(remembered.map((one) => terminate(one, service.stopGraceMs)));
  }
  state.processes = state.processes.filter((one) => !doomed.includes(one));
  writeState(folder, state);
}

function missingPorts(service, state) {
  return service.roles
    .filter((role) => !isAlive(state.processes.find((one) => one.role === role.role)))
    .flatMap((role) => role.ports(state.ports));
}

async function portsReturned(ports) {
  const endMs = performance.now() + portReturnMs;
  while (!(await allFree(ports))) {
    if (performance.now() > endMs) return false;
    await pause(50);
  }
  return true;
}

/**
 * Starts an instance, or finds it running. `options` are the service's own; a running instance with other options is
 * refused rather than quietly returned. `keepPorts` fails instead of moving when a remembered port is taken.
 */
export async function startInstance(service, { runDir, name, options = {}, keepPorts = false, say = () => {} }) {
  const instance = instanceId(service, name);
  const folder = join(runDir, instance);
  mkdirSync(folder, { recursive: true });
  return withLock(folder, async () => {
    let state = readState(folder);
    const mayMove = !keepPorts || state === undefined;
    if (state !== undefined && Object.keys(options).length > 0) {
      const wanted = { ...state.options, ...options };
      if (!isDeepStrictEqual(wanted, state.options)) {
        if (state.processes.some(isAlive))
          throw new Error(
            `${instance} already runs in ${folder} with other settings (${JSON.stringify(state.options)}, asked ${JSON.stringify(options)}); stop it first or use another run folder`,
          );
        service.checkOptions?.(wanted);
        service.optionsChanged?.(folder, state.options, wanted, say);
        state.options = wanted;
      }
    }
    for (let draw = 1; ; draw++) {
      if (state === undefined) {
        const complete = { ...service.defaults, ...options };
        service.checkOptions?.(complete);
        state = {
          service: service.service,
          ports: await service.choosePorts(complete),
          options: complete,
          processes: [],
        };
      }
      if (!(await portsReturned(missingPorts(service, state)))) {
        if (!mayMove)
          throw new Error(
            `${instance} cannot start again: one of its ports ${JSON.stringify(state.ports)} was taken by another program`,
          );
        await stopProcesses(service, folder, state, state.processes);
        state = { ...state, ports: await service.choosePorts(state.options) };
      }
      writeState(folder, state);
      const launched = [];
      try {
        await bringUp(service, folder, state, launched, say);
        return handleOf(service, runDir, instance, folder, state);
      } catch (error) {
        await stopProcesses(service, folder, state, launched);
        if (!mayMove || draw === portDraws || !/already in use/i.test(error.message)) throw error;
        state = { ...state, ports: await service.choosePorts(state.options) };
      }
    }
  });
}

/** Stops every instance of the service in the run folder; only processes that we started. */
export async function stopInstances(service, { runDir }) {
  const stopped = [];
  for (const { instance, folder } of instancesOf(service, runDir)) {
    await withLock(folder, async () => {
      const state = readState(folder);
      if (state === undefined) return;
      if (state.processes.some(isAlive)) stopped.push(instance);
      await stopProcesses(service, folder, state, state.processes);
    });
  }
  return stopped;
}

function instancesOf(service, runDir) {
  if (!existsSync(runDir)) return [];
  return readdirSync(runDir)
    .filter((entry) => entry === service.service || entry.startsWith(`${service.service}-`))
    .map((entry) => ({ instance: entry, folder: join(runDir, entry) }))
    .filter(({ folder }) => readState(folder)?.service === service.service);
}

/** One line per instance ever started in the run folder: `running`, `partly` (some of its processes) or `stopped`. */
export function statusOf(service, { runDir }) {
  return instancesOf(service, runDir).map(({ instance, folder }) => {
    const state = readState(folder);
    const alive = service.roles.filter((role) => isAlive(state.processes.find((one) => one.role === role.role))).length;
    const condition = alive === service.roles.length ? "running" : alive > 0 ? "partly" : "stopped";
    return { condition, ...handleOf(service, runDir, instance, folder, state) };
  });
}

/** For fault tests: signals the instance's processes (all, or one role) and waits for their end if the signal ends them. */
export async function killInstance(handle, name = "SIGKILL", { role } = {}) {
  const state = readState(handle.folder);
  const targets = (state?.processes ?? []).filter((one) => role === undefined || one.role === role);
  if (targets.length === 0)
    throw new Error(`${handle.instance} has no process${role === undefined ? "" : ` in the role "${role}"`} to signal`);
  const hit = targets.filter((one) => signal(one, name));
  if (name !== "SIGKILL" && name !== "SIGTERM") return;
  for (const one of hit) {
    if (!(await untilGone(one, 15_000)))
      throw new Error(`process ${one.pid} of ${handle.instance} is still there 15 s after ${name}`);
  }
}
