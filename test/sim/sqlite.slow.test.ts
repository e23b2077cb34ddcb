import { expect, it } from "vitest";
import { report } from "./report.ts";
import { simulate } from "./simulate.ts";
import { sqliteWorld } from "./sqlite-world.ts";

/** Every promise, on the SQLite store: some fixed days, and some that nobody has lived through before. */
const seedsPerTest = 20;
const fresh = Math.floor(Math.random() * 1_000_000);

const live = async (seed: number): Promise<{ opened: number; hash: string }> => {
  const world = sqliteWorld();
  try {
    const run = await simulate(seed, world);
    if (run.violations.length > 0) expect.fail(`seed ${seed} on SQLite\n${report(run)}`);
    return { opened: world.opened, hash: run.trace.hash() };
  } finally {
    await world.close();
  }
};

it.each([1, 101, fresh])("every promise is kept on SQLite, from seed %i on", async (from) => {
  let opened = 0;
  for (let seed = from; seed < from + seedsPerTest; seed++) opened += (await live(seed)).opened;
  // The file was opened for each world, for each first process, and after some crashes.
  expect(opened).toBeGreaterThan(2 * seedsPerTest + 3);
});

it("a seed on SQLite is lived through twice in the same way", async () => {
  expect((await live(7)).hash).toBe((await live(7)).hash);
});
