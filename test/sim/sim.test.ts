import { describe, expect, it } from "vitest";
import { optionsOf } from "./options.ts";
import { report } from "./report.ts";
import { simulate } from "./simulate.ts";

/** Seeds that once found a bug, and what it was. The world may have changed since; they are lived through all the same. */
const remembered: readonly (readonly [number, string])[] = [
  [939, "a process told to stop while it starts kept the shards it had just taken for a whole lease"],
  [28348, "a clock answer that took seconds set the time back by as much"],
  [12235, "a store clock that jumps ahead gives a shard to two owners, and the checks blamed the second"],
];

const everyPromiseOf = async (seed: number): Promise<void> => {
  const run = await simulate(seed);
  if (run.violations.length > 0) expect.fail(report(run));
};

/** Each takes a second; a machine that does ten other things at once is no reason to fail. */
const patienceMs = 120_000;

describe("every promise is kept", () => {
  for (let from = 1; from <= 100; from += 50) {
    it(
      `in the days of seeds ${from} to ${from + 49}`,
      async () => {
        for (let seed = from; seed < from + 50; seed++) await everyPromiseOf(seed);
      },
      patienceMs,
    );
  }

  it.each(remembered)("in the day of seed %i: %s", everyPromiseOf);
});

describe("a seed", () => {
  it("is lived through twice in the same way", async () => {
    for (const seed of [7, 42, 99]) {
      const [first, second] = [await simulate(seed), await simulate(seed)];
      expect(second.trace.hash()).toBe(first.trace.hash());
      expect(first.events).toBeGreaterThan(100);
    }
  });

  it("of a thousand has every trouble, and some have none", () => {
    const all = Array.from({ length: 1_000 }, (_, i) => optionsOf(i + 1));
    for (const trouble of Object.keys(all[0]!.troubles) as (keyof (typeof all)[0]["troubles"])[]) {
      const having = all.filter(({ troubles }) => Number(troubles[trouble]) > 0).length;
      expect(having, trouble).toBeGreaterThan(30);
    }
    expect(all.filter(({ mood }) => mood === "calm").length).toBeGreaterThan(60);
  });
});
