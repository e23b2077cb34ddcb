// Installs the npm packages when they are missing or older than the lockfile, and the Node that npm brings. Runs on
// any Node >= 20, before anything is installed. Install scripts of packages are not run, except the one that is needed:
// that of the `node` package, which puts the right binary in place.

import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = fileURLToPath(new URL("..", import.meta.url));
/** The Node that the project runs on. */
export const nodeBinary = join(root, "node_modules/node/bin/node");

const stamp = join(root, "node_modules/.escapement-installed");

const npm = (...args) => {
  const { status, error } = spawnSync("npm", args, { cwd: root, stdio: ["ignore", "inherit", "inherit"] });
  if (error) throw new Error(`npm could not be run: ${error.message}`);
  if (status !== 0) throw new Error(`npm ${args.join(" ")} failed`);
};

/** Does nothing when all is there. */
export const install = () => {
  const lock = createHash("sha256")
    .update(readFileSync(join(root, "package-lock.json")))
    .digest("hex");
  const installed = existsSync(stamp) && readFileSync(stamp, "utf8") === lock;
  if (installed && existsSync(nodeBinary)) return;
  console.error("Installing npm packages …");
  npm("ci", "--ignore-scripts", "--loglevel=error");
  npm("rebuild", "node", "--ignore-scripts=false", "--loglevel=error");
  writeFileSync(stamp, lock);
};
