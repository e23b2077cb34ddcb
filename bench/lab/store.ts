import { consoleTables, runProgram } from "./printed-tables.ts";
import type { Benchmark } from "./row.ts";

/** The Redis store alone: `store.bench.ts` prints a table per fsync policy. */
export const benchmark: Benchmark = async (lab, report) => {
  for (const fsync of ["always", "everysec"]) {
    const size = lab.quick ? ["--messages", "32000", "--shapes", "random dues"] : ["--messages", "320000"];
    const text = await runProgram("store.bench.ts", ["--redis", lab.redis.url, "--fsync", fsync, ...size]);
    for (const row of consoleTables(text)) {
      const core = row["node core %"] ?? "";
      report({
        id: `store/${row.what} ${fsync}`,
        what: `store: ${row.what}, batches of 100`,
        durability: fsync,
        perSecond: Number(row["k/s"]) * 1000,
        cpuMicros: { generator: Number(row["node µs"]), redis: Number(row["redis µs"]) },
        numbers: {},
        ...(core.includes("measured itself")
          ? { void: `the generator used ${Number.parseInt(core, 10)} % of a core` }
          : {}),
      });
    }
  }
};
