// TX-01 (killed before COMMIT), TX-02 (after COMMIT, before anything is sent), TX-03 (sent, and not yet removed), and
// the relay's steps: a program killed with -9 at each, on a real MariaDB.

import { expect, test } from "vitest";
import { crashPoints, runCrashes } from "./crash-matrix.ts";

const kills = Number(process.env.TX_KILLS ?? 40);

test(`TX-01, TX-02, TX-03, TX-08: ${kills} programs killed at the labelled steps: nothing lost, no ghosts, copies carry one id`, async () => {
  const report = await runCrashes(kills);
  expect(report).toMatchObject({ lost: [], ghosts: [], copiesWithAnotherId: [], survivors: 0 });
  expect(Object.keys(report.byPoint).sort()).toEqual([...crashPoints].sort());
  expect(report.committed).toBeGreaterThan(kills / 2);
  // A kill between the broker's answer and the removal sends again what was under way: that there are some shows that
  // the steps are where they should be, and a batch or a round for each kill is what there may be.
  expect(report.copies).toBeGreaterThan(0);
  expect(report.copies).toBeLessThan(kills * 20);
}, 600_000);
