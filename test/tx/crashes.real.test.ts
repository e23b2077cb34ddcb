// TX-01 (killed before COMMIT), TX-02 (after COMMIT, before anything is sent), TX-03 (sent, and not yet removed), the
// relay's steps, and those of half messages: programs killed with -9 at each, on a real MariaDB.

import { expect, test } from "vitest";
import { runCrashes } from "./crash-matrix.ts";
import { cells } from "./crash-plan.ts";
import { crashTable } from "./crash-table.ts";

const kills = Number(process.env.TX_KILLS ?? 208);

test(`TX-01, TX-02, TX-03, TX-08: ${kills} programs killed at the labelled steps: nothing lost, no ghosts, copies carry one id`, async () => {
  const report = await runCrashes({ kills, seed: 1 });
  console.log(crashTable(report));
  expect(report).toMatchObject({ kills, survivors: 0 });
  const fair = { lost: [], ghosts: [], copiesWithAnotherId: [] };
  expect(report.cells).toMatchObject(cells.map((cell) => ({ ...cell, ...fair })));
  for (const { kills: here, committed, copies } of report.cells) {
    expect(here).toBeGreaterThanOrEqual(Math.floor(kills / cells.length));
    // A kill sends again what was under way: a batch, a round, or a turn of each half that its program left behind.
    expect(copies).toBeLessThan(here * 20);
    expect(committed).toBeLessThan(here * 200);
  }
  const sumOf = (of: "committed" | "cut" | "copies") => report.cells.reduce((sum, cell) => sum + cell[of], 0);
  expect(sumOf("committed")).toBeGreaterThan(kills / 2);
  // That there are some shows that the steps are where they should be.
  expect(sumOf("copies")).toBeGreaterThan(0);
  expect(sumOf("cut")).toBeGreaterThan(0);
}, 600_000);
