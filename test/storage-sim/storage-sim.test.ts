import { describe, expect, it } from "vitest";
import { optionsOf } from "./options.ts";
import { report } from "./report.ts";
import { simulateStorage } from "./simulate.ts";

describe("the broker's store keeps every promise on a faulty disk", () => {
  for (let from = 1; from <= 200; from += 100) {
    it(`in the days of seeds ${from} to ${from + 99}`, async () => {
      for (let seed = from; seed < from + 100; seed++) {
        const run = await simulateStorage(seed);
        if (run.violations.length > 0) expect.fail(report(run));
      }
    });
  }
});

describe("a seed", () => {
  it("is lived through twice in the same way, and does something", async () => {
    for (const seed of [7, 42, 99]) {
      const [first, second] = [await simulateStorage(seed), await simulateStorage(seed)];
      expect(second.trace.hash()).toBe(first.trace.hash());
      expect(first.stored).toBeGreaterThan(0);
    }
  });

  it("of three hundred has every trouble", () => {
    const all = Array.from({ length: 300 }, (_, i) => optionsOf(i + 1).troubles);
    for (const trouble of Object.keys(all[0]!) as (keyof (typeof all)[0])[]) {
      expect(all.filter((troubles) => troubles[trouble]).length, trouble).toBeGreaterThan(20);
    }
  });
});
