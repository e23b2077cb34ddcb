import { parseArgs } from "node:util";
import { simulateConsumers } from "./consumers/simulate-consumers.ts";
import { report, type ToldRun } from "./report.ts";
import { simulate } from "./simulate.ts";

/**
 * `npm run sim -- --seed 42 [--verbose]` lives through one seed and tells of it; `--from 1 --count 10000` goes through
 * many and tells of those that broke a promise. With `--consumers` it is the world of the retry engine.
 */
const usage = "usage: npm run sim -- [--consumers] [--seed N [--verbose]] [--from N] [--count N] [--stop N]";

const readArguments = () => {
  try {
    return parseArgs({
      options: {
        seed: { type: "string" },
        from: { type: "string", default: "1" },
        count: { type: "string", default: "1000" },
        stop: { type: "string", default: "5" },
        verbose: { type: "boolean", default: false },
        consumers: { type: "boolean", default: false },
      },
    }).values;
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n${usage}\n`);
    process.exit(2);
  }
};
const values = readArguments();

const live = (seed: number): Promise<ToldRun> => (values.consumers ? simulateConsumers(seed) : simulate(seed));
const print = (text: string): void => void process.stdout.write(`${text}\n`);

if (values.seed !== undefined) {
  const run = await live(Number(values.seed));
  print(report(run, values.verbose));
  process.exitCode = run.violations.length === 0 ? 0 : 1;
} else {
  const from = Number(values.from);
  const count = Number(values.count);
  const stopAfter = Number(values.stop);
  const startedMs = performance.now();
  const failed: number[] = [];
  const byRule = new Map<string, number[]>();
  for (let seed = from; seed < from + count; seed++) {
    const run = await live(seed);
    if (run.violations.length === 0) continue;
    failed.push(seed);
    for (const rule of new Set(run.violations.map((violation) => violation.rule))) {
      byRule.set(rule, [...(byRule.get(rule) ?? []), seed]);
    }
    if (failed.length <= stopAfter) print(`${report(run, values.verbose)}\n`);
  }
  const seconds = (performance.now() - startedMs) / 1000;
  print(`${count} seeds from ${from} in ${seconds.toFixed(1)} s: ${failed.length} broke a promise`);
  for (const [rule, seeds] of byRule) print(`  ${rule}: ${seeds.length} seeds, ${seeds.slice(0, 12).join(" ")}`);
  process.exitCode = failed.length === 0 ? 0 : 1;
}
