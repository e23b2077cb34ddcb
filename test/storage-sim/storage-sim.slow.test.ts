import { describe, expect, it } from "vitest";
import { plantedBugs } from "./planted-bugs.ts";
import { report } from "./report.ts";
import { simulateStorage } from "./simulate.ts";

/** Within so many seeds every planted bug must have shown itself. */
const seedsMax = 1_000;

describe("the simulation of the broker's store catches", () => {
  for (const { name, breaks, plant } of plantedBugs) {
    it(`${name}, within ${seedsMax} seeds`, async () => {
      for (let seed = 1; seed <= seedsMax; seed++) {
        const { violations } = await simulateStorage(seed, plant);
        if (violations.some(({ rule }) => breaks.test(rule))) return;
      }
      expect.fail(`${seedsMax} seeds went by without a broken promise like ${breaks}`);
    });
  }
});

describe("the broker's store keeps every promise on a faulty disk", () => {
  for (let from = 201; from <= 5_200; from += 1_000) {
    it(`in the days of seeds ${from} to ${from + 999}`, async () => {
      for (let seed = from; seed < from + 1_000; seed++) {
        const run = await simulateStorage(seed);
        if (run.violations.length > 0) expect.fail(report(run));
      }
    });
  }
});
