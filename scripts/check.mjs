// `npm run check`: types, style, and every test that needs no services (a short simulation included). Under 30 s.

import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { install, nodeBinary, root } from "./install.mjs";

install();
const steps = [
  ["types", "node_modules/typescript/bin/tsc", "--noEmit"],
  ["style", "node_modules/@biomejs/biome/bin/biome", "check"],
  ["unit tests", "node_modules/vitest/vitest.mjs", "run", "--project", "unit"],
];
const failed = steps.filter(([name, file, ...args]) => {
  console.error(`\n${name}`);
  return spawnSync(nodeBinary, [join(root, file), ...args], { cwd: root, stdio: "inherit" }).status !== 0;
});
for (const [name] of failed) console.error(`failed: ${name}`);
process.exitCode = failed.length === 0 ? 0 : 1;
