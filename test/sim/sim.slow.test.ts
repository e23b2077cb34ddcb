import { describe, expect, it } from "vitest";
import { report } from "./report.ts";
import { simulate } from "./simulate.ts";

// sim.test.ts lives through the first 100 days in every check; here are the next ones.

const patienceMs = 240_000;

describe("every promise is kept", () => {
  for (let from = 101; from <= 1_500; from += 200) {
    it(
      `in the days of seeds ${from} to ${from + 199}`,
      async () => {
        for (let seed = from; seed < from + 200; seed++) {
          const run = await simulate(seed);
          if (run.violations.length > 0) expect.fail(report(run));
        }
      },
      patienceMs,
    );
  }
});
