#!/usr/bin/env node
// Starts the CLI: as it was built when this is an installed package, as it is written when this is a checkout. A checkout
// also brings its own Node (npm installs it), so that it works on a machine whose Node is too old. Parses on Node 20.
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import module from "node:module";
import { constants } from "node:os";
import { fileURLToPath } from "node:url";

const source = new URL("../src/cli/main.ts", import.meta.url);
const checkout = existsSync(fileURLToPath(source));
const main = checkout ? source : new URL("../dist/cli/main.js", import.meta.url);
const installed = fileURLToPath(new URL("../node_modules/node/bin/node", import.meta.url));
const [major, minor] = process.versions.node.split(".").map(Number);

if (major > 22 || (major === 22 && minor >= 18)) {
  // Stripping the types once instead of each time takes the start from 0.25 s to 0.07 s. Beside the code and not in the
  // common temporary folder, where others could lay code for us; a folder that cannot be written to is no harm.
  if (checkout)
    module.enableCompileCache?.(fileURLToPath(new URL("../node_modules/.cache/escapement", import.meta.url)));
  await import(main.href);
} else if (checkout && existsSync(installed)) {
  const child = spawn(installed, [fileURLToPath(main), ...process.argv.slice(2)], { stdio: "inherit" });
  // Ctrl-C in a terminal reaches both processes; handed on, it would count as a second signal.
  process.on("SIGINT", () => process.stdin.isTTY || child.kill("SIGINT"));
  process.on("SIGTERM", () => child.kill("SIGTERM"));
  child.on("exit", (code, signal) => process.exit(code ?? 128 + constants.signals[signal]));
} else {
  const advice = checkout ? " Or run npm install first." : "";
  process.stderr.write(`escapement needs Node 22.18 or newer; this is ${process.version}.${advice}\n`);
  process.exit(2);
}
