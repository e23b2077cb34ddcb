import { runProgram } from "./printed-tables.ts";
import type { Benchmark } from "./row.ts";

/** The near window alone: `wheel.bench.ts` prints ns per operation and the longest pieces. */
export const benchmark: Benchmark = async (lab, report) => {
  const text = await runProgram("wheel.bench.ts", lab.quick ? ["--quick"] : []);
  let title = "";
  for (const line of text.split("\n")) {
    const heading = /^(wheel|near set), (\d+) entries, (.*?)(?: \(.*)?$/.exec(line);
    if (heading !== null) title = `${heading[1]}, ${Number(heading[2]).toLocaleString("en")} entries, ${heading[3]}`;
    const timing = /^ {2}(\S.*?) {2,}([\d.]+) +([\d.]+) +([\d.]+) +([\d.]+)$/.exec(line);
    if (timing !== null && title !== "") {
      const [, operation, , medianNs] = timing as unknown as [string, string, string, string];
      report({
        id: `wheel/${title}: ${operation}`,
        what: `${title}: ${operation}`,
        durability: "none",
        perSecond: 1e9 / Number(medianNs),
        cpuMicros: { server: Number(medianNs) / 1000 },
        numbers: {},
      });
    }
  }
  const allocations = [...text.matchAll(/^ {2}(wheel \w+|near set [\w, ]+?) {2,}([\d.]+)$/gm)];
  report({
    id: "wheel/allocation",
    what: "near window: most bytes allocated by any operation",
    durability: "none",
    cpuMicros: {},
    numbers: { "B per operation": Math.max(...allocations.map((match) => Number(match[2]))) },
  });
};
