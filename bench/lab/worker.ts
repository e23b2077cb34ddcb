import { benchmarks } from "./benchmarks.ts";
import type { Lab } from "./row.ts";

/** One benchmark in a process of its own: a clean heap, code that nothing else has warmed, and it can be killed. */
const [name, lab] = process.argv.slice(2) as [string, string];
const { benchmark } = await benchmarks[name]!();
await benchmark(JSON.parse(lab) as Lab, (row) => void process.send!({ row }));
process.send!("done", () => process.exit(0));
