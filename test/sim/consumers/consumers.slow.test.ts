import { describe, expect, it } from "vitest";
import { report } from "../report.ts";
import type { ConsumerOptions } from "./options.ts";
import { simulateConsumers } from "./simulate-consumers.ts";

/** Another world than the seed's own. */
const blocking = (options: ConsumerOptions): ConsumerOptions => ({
  ...options,
  order: "block-queue",
  messages: Math.min(options.messages, 25),
});

/** Seeds that once found a bug, and what it was. The world may have changed since; they are lived through all the same. */
const remembered: readonly (readonly [number, string, ((options: ConsumerOptions) => ConsumerOptions)?])[] = [
  [41, "probes with an interval below two seconds never came out of the bay, and what was parked stayed"],
  [86, "followers ran before their head was over, because it had gone stale in the same hands", blocking],
];

const everyPromiseOf = async (seed: number, options = (own: ConsumerOptions) => own): Promise<void> => {
  const run = await simulateConsumers(seed, { options });
  if (run.violations.length > 0) expect.fail(report(run));
};

/** Each takes seconds; a machine that does ten other things at once is no reason to fail. */
const patienceMs = 240_000;

describe("with consumers, every promise is kept", () => {
  for (let from = 7; from <= 406; from += 50) {
    it(
      `in the days of seeds ${from} to ${from + 49}`,
      async () => {
        for (let seed = from; seed < from + 50; seed++) await everyPromiseOf(seed);
      },
      patienceMs,
    );
  }

  for (const [seed, what, options] of remembered) {
    it(`in the day of seed ${seed}: ${what}`, () => everyPromiseOf(seed, options), patienceMs);
  }
});
