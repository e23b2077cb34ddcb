// A virtual environment with the Python client in exactly the versions of requirements.txt. The driver itself is not
// built: it is read from here each time. The first run takes about half a minute, later ones find the environment.

import { execFile, execFileSync } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { requireProgram } from "../../../scripts/services/packages.mjs";
import { builtOnce } from "./built-once.mjs";

const requirements = fileURLToPath(new URL("python/requirements.txt", import.meta.url));
const driver = fileURLToPath(new URL("python/driver.py", import.meta.url));
const oldestMinor = 10; // of the pinned packages, protobuf and OpenTelemetry ask for it
const installMaxMs = 280_000; // below the five minutes that others wait behind the lock

const advice = `The Python driver of the conformance suite needs Python 3.${oldestMinor} or newer with its venv module.`;

function findPython(say) {
  const packages = ["python3", "python3-venv"];
  const python = requireProgram("python3", { packages, advice, say });
  const ask = "import sys, ensurepip, venv; print(*sys.version_info[:3], sep='.'); print(sys.prefix)";
  let told;
  try {
    told = execFileSync(python, ["-c", ask], { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] }).trim();
  } catch {
    throw new Error(`${python} cannot make virtual environments. ${advice} On Debian: apt-get install python3-venv`);
  }
  const [major, minor] = told.split(".").map(Number);
  if (major !== 3 || minor < oldestMinor) throw new Error(`${python} is Python ${told.split("\n")[0]}. ${advice}`);
  return { python, told };
}

/** What to start; the endpoint and `--tls` are the caller's to add. */
export async function pythonDriver({ say = () => {} } = {}) {
  const { python, told } = findPython(say);
  const folder = await builtOnce({
    name: "python",
    files: [requirements],
    also: [told],
    async build(into) {
      say("installing the Python client into a virtual environment (once)");
      const run = (command, ...args) =>
        promisify(execFile)(command, args, { timeout: installMaxMs, maxBuffer: 16 * 1024 * 1024 });
      try {
        await run(python, "-m", "venv", into);
        const pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:"];
        await run(join(into, "bin/python"), ...pip, "-r", requirements);
      } catch (error) {
        throw new Error(`the Python client could not be installed: ${String(error.stderr || error.message).trim()}`);
      }
    },
  });
  return { command: join(folder, "bin/python"), args: [driver] };
}
