import { describe, expect, it } from "vitest";
import { plantedConsumerBugs } from "./planted-consumer-bugs.ts";
import { simulateConsumers } from "./simulate-consumers.ts";

/** Within so many seeds every planted bug must have shown itself. */
const seedsMax = 200;

describe("the simulation with consumers catches", () => {
  for (const { name, breaks, plant } of plantedConsumerBugs) {
    it(`${name}, within ${seedsMax} seeds`, async () => {
      for (let seed = 1; seed <= seedsMax; seed++) {
        const { violations } = await simulateConsumers(seed, plant);
        if (violations.some(({ rule }) => breaks.test(rule))) return;
      }
      expect.fail(`${seedsMax} seeds went by without a broken promise like ${breaks}`);
    });
  }
});
