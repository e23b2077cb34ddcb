// Programs we need but do not bring: found on the PATH, installed by Debian's package tool where we may, and otherwise
// asked for in words. Debian starts some services when they are installed; we run our own instance on a private port,
// so for the length of the installation we tell Debian not to (its documented way: /usr/sbin/policy-rc.d answering 101).

import { execFileSync } from "node:child_process";
import { accessSync, constants, existsSync, rmSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";

const installMaxMs = 600_000;
const policyFile = "/usr/sbin/policy-rc.d";

export function findProgram(name, folders = process.env.PATH ?? "") {
  for (const folder of folders.split(delimiter)) {
    if (folder === "") continue;
    const file = join(folder, name);
    try {
      accessSync(file, constants.X_OK);
      return file;
    } catch {}
  }
  return undefined;
}

function mayInstall() {
  return process.getuid?.() === 0 && findProgram("apt-get") !== undefined && existsSync("/etc/debian_version");
}

function install(packages, say) {
  say(`installing ${packages.join(" ")} with apt-get (once)`);
  const ourPolicy = !existsSync(policyFile);
  if (ourPolicy) writeFileSync(policyFile, "#!/bin/sh\nexit 101\n", { mode: 0o755 });
  try {
    const run = (...args) =>
      execFileSync("apt-get", args, {
        stdio: ["ignore", "ignore", "pipe"],
        timeout: installMaxMs,
        env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" },
      });
    run("update");
    run("install", "-y", "--no-install-recommends", ...packages);
  } finally {
    if (ourPolicy) rmSync(policyFile, { force: true });
  }
}

/** The path of a program. `packages` are Debian's names, `advice` says what anybody else should do. */
export function requireProgram(name, { packages, advice, say }) {
  const found = findProgram(name);
  if (found !== undefined) return found;
  let why = "";
  if (mayInstall()) {
    try {
      install(packages, say);
    } catch (error) {
      why = ` (apt-get failed: ${String(error.stderr ?? error.message)
        .trim()
        .split("\n")
        .at(-1)})`;
    }
  }
  const installed = findProgram(name);
  if (installed !== undefined) return installed;
  throw new Error(
    `\`${name}\` was not found on the PATH${why}. ${advice} On Debian or Ubuntu: apt-get install ${packages.join(" ")}`,
  );
}
