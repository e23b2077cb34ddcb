import { parseArgs } from "node:util";
import { report } from "./report.ts";
import { simulateStorage } from "./simulate.ts";

/**
 * `node test/storage-sim/main.ts --seed 42 [--verbose]` lives through one seed and tells of it; `--from 1 --count 10000`
 * goes through many and tells of those that broke a promise.
 */
const { values } = parseArgs({
  options: {
    seed: { type: "string" },
    from: { type: "string", default: "1" },
    count: { type: "string", default: "1000" },
    stop: { type: "string", default: "3" },
    verbose: { type: "boolean", default: false },
  },
});
const print = (text: string): void => void process.stdout.write(`${text}\n`);

const from = Number(values.seed ?? values.from);
const count = values.seed === undefined ? Number(values.count) : 1;
const startedMs = performance.now();
const failed: number[] = [];
for (let seed = from; seed < from + count; seed++) {
  const run = await simulateStorage(seed);
  if (run.violations.length > 0) failed.push(seed);
  if (count === 1 || (run.violations.length > 0 && failed.length <= Number(values.stop)))
    print(report(run, values.verbose));
}
const seconds = ((performance.now() - startedMs) / 1000).toFixed(1);
if (count > 1)
  print(`${count} seeds from ${from} in ${seconds} s: ${failed.length} broke a promise: ${failed.slice(0, 20)}`);
process.exitCode = failed.length === 0 ? 0 : 1;
