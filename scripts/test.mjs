// `npm test`: installs, checks types and style, starts the real services in a run folder of their own, runs every
// test, stops what it started (also when it is interrupted), and ends with a line that counts. Arguments go to vitest.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync, rmSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { install, nodeBinary, root } from "./install.mjs";
import { startServices, stopServices } from "./services.mjs";

const runDir = join(root, ".run/test-services");
const reportFile = join(root, ".run/test-report.json");

/** Interrupted, the programs end, then what was started for them is stopped: a second ctrl+c is not needed. */
let running;
let isInterrupted = false;
for (const signal of ["SIGINT", "SIGTERM"]) {
  process.on(signal, () => {
    isInterrupted = true;
    running?.kill(signal);
  });
}

const run = async (file, args, env = {}) => {
  if (isInterrupted) return false;
  running = spawn(nodeBinary, [join(root, file), ...args], {
    cwd: root,
    stdio: "inherit",
    env: { ...process.env, PATH: `${dirname(nodeBinary)}:${process.env.PATH}`, ...env },
  });
  const [status] = await once(running, "exit");
  return status === 0;
};

/** What failed, once more and briefly, right above the last line: a long log is often kept from its end only. */
const sayFailures = ({ testResults }) => {
  for (const { name, status, message, assertionResults } of testResults) {
    const file = relative(root, name);
    const failures = assertionResults.filter((result) => result.status === "failed");
    for (const { fullName, failureMessages } of failures) {
      console.log(`failed: ${file}: ${fullName}\n  ${beginning(failureMessages[0] ?? "")}`);
    }
    if (status === "failed" && failures.length === 0) console.log(`failed: ${file}: ${beginning(message) || "a hook"}`);
  }
};
const beginning = (text) => text.split("\n", 4).join("\n  ").slice(0, 600);

install();
let passed = 0;
let failed = 0;
let skipped = 0;
const count = (name, ok) => {
  if (ok) passed++;
  else {
    failed++;
    console.error(`failed: ${name}`);
  }
};

count("types", await run("node_modules/typescript/bin/tsc", ["--noEmit"]));
count("style", await run("node_modules/@biomejs/biome/bin/biome", ["check"]));

try {
  const services = await startServices({ runDir, say: (line) => console.error(line) });
  rmSync(reportFile, { force: true });
  mkdirSync(dirname(reportFile), { recursive: true });
  const ok = await run(
    "node_modules/vitest/vitest.mjs",
    ["run", "--reporter=default", "--reporter=json", `--outputFile.json=${reportFile}`, ...process.argv.slice(2)],
    { ESC_TEST_SERVICES: JSON.stringify(services) },
  );
  if (isInterrupted) throw new Error("interrupted");
  const report = JSON.parse(readFileSync(reportFile, "utf8"));
  passed += report.numPassedTests;
  failed += report.numFailedTests;
  skipped += report.numPendingTests + report.numTodoTests;
  sayFailures(report);
  // Errors outside of tests (a file that cannot be loaded, an unhandled rejection) are failures too.
  if (!ok && report.numFailedTests === 0) failed++;
} catch (error) {
  console.error(error.message);
  failed++;
} finally {
  await stopServices({ runDir });
}
console.log(`${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`);
process.exitCode = failed === 0 ? 0 : 1;
