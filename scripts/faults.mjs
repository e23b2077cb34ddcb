// `npm run faults`: the fault lab (test/faults) on real processes. Installs npm packages when they are missing, sees
// that the programs it breaks things with are there, and hands over. Arguments: see `npm run faults -- --help`.
//
// `node scripts/faults.mjs --require` only sees to the programs; tests ask it before they begin.

import { spawnSync } from "node:child_process";
import { dirname, join } from "node:path";
import { install, nodeBinary, root } from "./install.mjs";
import { requireProgram } from "./services/packages.mjs";

const programs = [
  ["faketime", ["faketime"], "It shifts the clock of one server (recipes R24, R25 and E8)."],
  ["gcc", ["gcc", "libc6-dev"], "It compiles the shim that makes a disk slow to sync (recipes R9 and E5)."],
];

const say = (line) => console.error(line);
const missing = [];
for (const [name, packages, advice] of programs) {
  try {
    requireProgram(name, { packages, advice, say });
  } catch (error) {
    missing.push(error.message);
  }
}
for (const line of missing) console.error(line);
if (missing.length > 0) process.exit(1);

if (!process.argv.includes("--require")) {
  install();
  const { status } = spawnSync(nodeBinary, [join(root, "test/faults/main.ts"), ...process.argv.slice(2)], {
    cwd: root,
    stdio: "inherit",
    env: { ...process.env, PATH: `${dirname(nodeBinary)}:${process.env.PATH}` },
  });
  process.exitCode = status ?? 1;
}
