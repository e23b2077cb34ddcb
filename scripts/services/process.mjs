// A process that outlives the script that started it, and the proof that a pid still means that process.
// A pid alone proves nothing: after a crash or a reboot the number belongs to somebody else. So a process is
// remembered together with the instant it began, as the kernel tells it, and nothing is signalled unless both agree.

import { execFileSync, spawn } from "node:child_process";
import { closeSync, mkdirSync, openSync, readFileSync } from "node:fs";
import { dirname } from "node:path";
import { setTimeout as pause } from "node:timers/promises";

const pollMs = 20; // short against every start and stop measured here (100 ms and more), too long to be seen in `top`

/** When the process began, as an opaque text that no later holder of the same pid will have; undefined when it is gone. */
export function bornOf(pid) {
  if (process.platform === "linux") {
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
      // The second field is the program's name in brackets and may itself hold blanks and brackets: count after the last one.
      const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      const state = fields[0];
      if (state === "Z" || state === "X") return undefined; // dead, only not yet collected by its parent
      return `${readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim()}:${fields[19]}`;
    } catch {
      return undefined;
    }
  }
  try {
    const row = execFileSync("ps", ["-o", "stat=,lstart=", "-p", String(pid)], { encoding: "utf8" }).trim();
    return row === "" || row.startsWith("Z") ? undefined : row.replace(/^\S+\s+/, "");
  } catch {
    return undefined;
  }
}

export function isAlive(remembered) {
  return remembered !== undefined && bornOf(remembered.pid) === remembered.born;
}

/** Starts a program that survives us: own session, no terminal, output appended to a file. */
export async function launch({ role, command, args, cwd, env, logFile }) {
  mkdirSync(dirname(logFile), { recursive: true });
  const log = openSync(logFile, "a");
  try {
    const child = spawn(command, args, {
      cwd,
      env: { ...process.env, ...env },
      detached: true,
      stdio: ["ignore", log, log],
    });
    await new Promise((resolve, reject) => {
      child.once("spawn", resolve);
      child.once("error", reject);
    });
    child.unref();
    return { role, pid: child.pid, born: bornOf(child.pid) ?? "gone at once" };
  } finally {
    closeSync(log);
  }
}

/** Sends a signal if, and only if, the pid is still the process we remember. Says whether it did. */
export function signal(remembered, name) {
  if (!isAlive(remembered)) return false;
  try {
    process.kill(remembered.pid, name);
    return true;
  } catch (error) {
    if (error.code === "ESRCH") return false;
    throw error;
  }
}

export async function untilGone(remembered, limitMs) {
  const endMs = performance.now() + limitMs;
  while (isAlive(remembered)) {
    if (performance.now() > endMs) return false;
    await pause(pollMs);
  }
  return true;
}

/** Asks politely, waits a bounded while, then insists. */
export async function terminate(remembered, graceMs) {
  if (!signal(remembered, "SIGTERM")) return;
  signal(remembered, "SIGCONT"); // a fault test may have left it frozen, and a frozen process never sees the request
  if (await untilGone(remembered, graceMs)) return;
  signal(remembered, "SIGKILL");
  if (!(await untilGone(remembered, 5_000)))
    throw new Error(`process ${remembered.pid} is still there 5 s after SIGKILL`);
}
