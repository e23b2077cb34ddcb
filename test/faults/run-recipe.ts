import { existsSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { type RocketmqHandle, stopServices } from "../../scripts/services.mjs";
import { Lab } from "./lab.ts";
import type { Recipe, RecipeOutcome, Size } from "./recipe.ts";

/** One run of one recipe in a folder of its own, which is kept when something failed. */
export type RunOptions = {
  readonly recipe: Recipe;
  readonly seed: number;
  readonly size: Size;
  readonly runDir: string;
  /** May be absent for an embedded recipe. */
  readonly rocketmq: RocketmqHandle | undefined;
  readonly say: (line: string) => void;
};

export type RunResult = RecipeOutcome & {
  readonly recipe: string;
  readonly seed: number;
  readonly folder: string;
  readonly tookMs: number;
};

/** Ends what runs before this one left behind when they were broken off. */
export const stopLeftovers = async (runDir: string): Promise<void> => {
  if (!existsSync(runDir)) return;
  for (const entry of readdirSync(runDir)) await stopServices({ names: ["redis"], runDir: join(runDir, entry) });
};

export const runRecipe = async ({ recipe, seed, size, runDir, rocketmq, say }: RunOptions): Promise<RunResult> => {
  const folder = join(runDir, `${recipe.name}-${seed}`);
  rmSync(folder, { recursive: true, force: true });
  const startedMs = performance.now();
  let outcome: RecipeOutcome;
  let lab: Lab | undefined;
  try {
    const stage = { recipe: recipe.name, seed, size, folder, say };
    lab = await Lab.open({ ...stage, rocketmq: recipe.embedded === true ? undefined : rocketmq });
    outcome = await recipe.run(lab);
  } catch (error) {
    outcome = {
      failures: [`the run itself failed: ${error instanceof Error ? error.stack : String(error)}`],
      notes: {},
    };
  } finally {
    await lab?.close();
  }
  if (outcome.failures.length === 0) rmSync(folder, { recursive: true, force: true });
  return { recipe: recipe.name, seed, folder, tookMs: Math.round(performance.now() - startedMs), ...outcome };
};

/** One line of what happened, and the failures under it. */
export const described = ({ recipe, seed, folder, tookMs, verdict, failures, notes }: RunResult): string => {
  const parts = [
    `${failures.length === 0 ? "held" : "BROKEN"}  ${recipe}  seed ${seed}  ${(tookMs / 1000).toFixed(1)} s`,
  ];
  if (verdict !== undefined) {
    const { before, during, after } = verdict.lateness;
    const late = [before, during, after].map(({ p50Ms, p99Ms, maxMs }) => `${p50Ms}/${p99Ms}/${maxMs}`).join("  ");
    const duplicates = Object.entries(verdict.duplicates).map(([window, count]) => `${window} ${count}`);
    parts.push(
      `    accepted ${verdict.accepted}, unknown ${verdict.unknown}, refused ${verdict.refused}, delivered ${verdict.delivered}, canceled ${verdict.canceled}, rescheduled ${verdict.rescheduled}, too late ${verdict.tooLate}`,
      `    lost ${verdict.lost}, early ${verdict.early}, duplicates ${duplicates.length === 0 ? 0 : duplicates.join(", ")}, in the fault ${verdict.inFault}, recovered in ${verdict.recoveryMs} ms`,
      `    lateness p50/p99/max ms before, during, after: ${late}`,
    );
  }
  if (Object.keys(notes).length > 0) {
    parts.push(
      `    ${Object.entries(notes)
        .map(([name, value]) => `${name} ${value}`)
        .join(", ")}`,
    );
  }
  for (const failure of failures) parts.push(`    - ${failure}`);
  if (failures.length > 0) parts.push(`    ledger, server logs and data: ${folder}`);
  return parts.join("\n");
};
