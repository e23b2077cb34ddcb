import { describe, expect, it } from "vitest";
import { report } from "../report.ts";
import { consumerOptionsOf } from "./options.ts";
import { simulateConsumers } from "./simulate-consumers.ts";

// A few days only; consumers.slow.test.ts has hundreds, and every planted bug.

describe("with consumers, every promise is kept", () => {
  it("in the days of seeds 1 to 6", async () => {
    for (let seed = 1; seed <= 6; seed++) {
      const run = await simulateConsumers(seed);
      if (run.violations.length > 0) expect.fail(report(run));
      expect(run.book.runs.length).toBeGreaterThan(5);
    }
  });
});

describe("a seed with consumers", () => {
  it("is lived through twice in the same way", async () => {
    const [first, second] = [await simulateConsumers(1), await simulateConsumers(1)];
    expect(second.trace.hash()).toBe(first.trace.hash());
  });

  it("of a thousand has every trouble, and some are calm", () => {
    const all = Array.from({ length: 1_000 }, (_, i) => consumerOptionsOf(i + 1));
    for (const trouble of Object.keys(all[0]!.troubles) as (keyof (typeof all)[0]["troubles"])[]) {
      expect(all.filter(({ troubles }) => Number(troubles[trouble]) > 0).length, trouble).toBeGreaterThan(100);
    }
    expect(all.filter(({ mood }) => mood === "calm").length).toBeGreaterThan(150);
  });
});
