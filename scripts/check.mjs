// `npm run check`: types, style, and every test that needs no services (a short simulation included). Under 30 s.

import { spawn } from "node:child_process";
import { join } from "node:path";
import { install, nodeBinary, root } from "./install.mjs";

install();
const steps = [
  ["types", "node_modules/typescript/bin/tsc", "--noEmit"],
  ["style", "node_modules/@biomejs/biome/bin/biome", "check"],
  ["unit tests", "node_modules/vitest/vitest.mjs", "run", "--project", "unit"],
];

// All at once; what each says is shown when it ends, so that it stays together.
const results = steps.map(async ([name, file, ...args]) => {
  const child = spawn(nodeBinary, [join(root, file), ...args], { cwd: root, stdio: ["ignore", "pipe", "pipe"] });
  let said = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (data) => (said += data));
  const code = await new Promise((resolve) => child.on("close", resolve));
  console.error(`\n${name}${code === 0 ? "" : ": failed"}\n${said.trim()}`);
  return code;
});
process.exitCode = (await Promise.all(results)).every((code) => code === 0) ? 0 : 1;
