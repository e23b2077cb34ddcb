// TX-01 (killed before COMMIT), TX-02 (after COMMIT, before anything is sent), TX-03 (sent, and not yet removed), the
// relay's steps, those of cancels and of half messages: programs killed with -9 at each, on a real MariaDB.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { startRocketmq, stopServices } from "../../scripts/services.mjs";
import { type counts, faultsOf } from "./crash-books.ts";
import { crashBrokerConfig } from "./crash-broker.ts";
import { type CrashOptions, runCrashes } from "./crash-matrix.ts";
import { cells } from "./crash-plan.ts";
import { crashTable } from "./crash-table.ts";

const balances = async (options: CrashOptions): Promise<void> => {
  const { kills } = options;
  const report = await runCrashes(options);
  console.log(crashTable(report.cells));
  expect(faultsOf(report.cells)).toEqual([]);
  expect(report).toMatchObject({ kills, survivors: 0 });
  for (const { kills: here, committed, copies } of report.cells) {
    expect(here).toBeGreaterThanOrEqual(Math.floor(kills / cells.length));
    // A kill sends again what was under way: a batch, a round, or a turn of each half that its program left behind.
    expect(copies).toBeLessThan(here * 20);
    expect(committed).toBeLessThan(here * 200);
  }
  const sumOf = (of: (typeof counts)[number]) => report.cells.reduce((sum, cell) => sum + cell[of], 0);
  expect(sumOf("committed")).toBeGreaterThan(kills / 2);
  // That there are some shows that the steps are where they should be.
  expect(sumOf("copies")).toBeGreaterThan(0);
  expect(sumOf("cut")).toBeGreaterThan(0);
  expect(sumOf("notCanceled")).toBeGreaterThan(0);
  // Late is what a kill has held up; were it the rule, nothing would be said of the others.
  expect(sumOf("canceled")).toBeGreaterThan(sumOf("tooLate"));
};

const kills = Number(process.env.TX_KILLS ?? 200);
test(
  `TX-01, TX-02, TX-03, TX-08: ${kills} programs killed at the labelled steps: nothing lost, no ghosts, none early, canceled or out of order, copies carry one id`,
  () => balances({ kills, seed: 1 }),
  600_000,
);

const killsOnRocketmq = Number(process.env.TX_KILLS_ROCKETMQ ?? 48);
test(`the same on a real RocketMQ, ${killsOnRocketmq} times`, async () => {
  const runDir = mkdtempSync(join(tmpdir(), "escapement-crashes-"));
  try {
    const rocketmq = await startRocketmq({ runDir, config: crashBrokerConfig });
    await balances({ kills: killsOnRocketmq, seed: 2, rocketmq });
  } finally {
    await stopServices({ names: ["rocketmq"], runDir });
    rmSync(runDir, { recursive: true, force: true });
  }
}, 600_000);
