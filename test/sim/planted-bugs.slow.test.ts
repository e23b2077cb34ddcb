import { describe, expect, it } from "vitest";
import { plantedBugs } from "./planted-bugs.ts";
import { simulate } from "./simulate.ts";

/**
 * Within so many seeds every planted bug must have shown itself. The rarest, a store that does not compare epochs, shows
 * itself in one of 170 (14 of 2,400): it takes a process that acts in the moment after it has lost its shard.
 */
const seedsMax = 1_200;

describe("the simulation catches", () => {
  for (const { name, breaks, plant } of plantedBugs) {
    it(`${name}, within ${seedsMax} seeds`, async () => {
      for (let seed = 1; seed <= seedsMax; seed++) {
        const { violations } = await simulate(seed, plant);
        if (violations.some(({ rule }) => breaks.test(rule))) return;
      }
      expect.fail(`${seedsMax} seeds went by without a broken promise like ${breaks}`);
    }, 180_000);
  }
});
