// The Go driver's binary. The modules come from the Go module proxy, checked against go.sum; the first build takes
// about a minute, later ones find the binary.

import { execFile, execFileSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { findProgram } from "../../../scripts/services/packages.mjs";
import { builtOnce } from "./built-once.mjs";

const sources = fileURLToPath(new URL("go", import.meta.url));
const oldestMinor = 21; // as in go.mod
const buildMaxMs = 280_000; // below the five minutes that others wait behind the lock

// The toolchain that is there, never one that Go would fetch for itself.
const environment = {
  ...process.env,
  GOTOOLCHAIN: "local",
  GOFLAGS: "-mod=readonly -buildvcs=false",
  CGO_ENABLED: "0",
};

const advice = `the Go driver of the conformance suite needs Go 1.${oldestMinor} or newer on the PATH (Debian's own may be older)`;

function findGo() {
  const go = findProgram("go");
  if (go === undefined) throw new Error(`\`go\` was not found: ${advice}`);
  const version = execFileSync(go, ["env", "GOVERSION"], { encoding: "utf8", env: environment }).trim();
  const minor = Number(/^go1\.(\d+)/.exec(version)?.[1]);
  if (!(minor >= oldestMinor)) throw new Error(`${go} is ${version}: ${advice}`);
  return { go, version };
}

/** What to start; the endpoint and `--tls` are the caller's to add. */
export async function goDriver({ say = () => {} } = {}) {
  const { go, version } = findGo();
  const files = readdirSync(sources).map((name) => join(sources, name));
  const folder = await builtOnce({
    name: "go",
    files,
    also: [version],
    async build(into) {
      say("building the Go driver (once)");
      try {
        await promisify(execFile)(go, ["build", "-trimpath", "-o", join(into, "driver"), "."], {
          cwd: sources,
          env: environment,
          timeout: buildMaxMs,
          maxBuffer: 16 * 1024 * 1024,
        });
      } catch (error) {
        throw new Error(`the Go driver did not build: ${String(error.stderr || error.message).trim()}`);
      }
    },
  });
  return { command: join(folder, "driver"), args: [] };
}
