import { execFileSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type RocketmqHandle, startAgain, startRocketmq, stopServices } from "../../scripts/services.mjs";
import { recipes } from "./recipe-table.ts";
import { described, runRecipe, stopLeftovers } from "./run-recipe.ts";

/**
 * The bad days that tell most per second, on real processes, at every commit; `npm run faults` has all of them, with
 * ten thousand messages each. The RocketMQ is this file's own, because one of the days kills it.
 *
 * The seed is new every time, so that the faults fall on other instants; ESC_FAULTS_SEED repeats a day.
 */
const chosen = [
  "R1",
  "R2-schedule-stored",
  "R2-sent",
  "R2-taking",
  "R4",
  "R5",
  "R8",
  "R16",
  "R21",
  "R24",
  "R34",
  "R36",
  "R28-kill",
];

const root = resolve(import.meta.dirname, "../..");
const runDir = join(root, ".run/faults-short");
const seed = Number(process.env.ESC_FAULTS_SEED ?? Math.floor(Math.random() * 1e6));
let rocketmq: RocketmqHandle;

beforeAll(async () => {
  execFileSync(process.execPath, [join(root, "scripts/faults.mjs"), "--require"], { stdio: "inherit" });
  mkdirSync(runDir, { recursive: true });
  await stopLeftovers(join(runDir, "recipes"));
  rocketmq = await startRocketmq({ runDir, say: (line) => process.stderr.write(`${line}\n`) });
});
afterAll(() => stopServices({ runDir }));

describe("on a bad day", () => {
  it.each(chosen)("%s", { timeout: 180_000 }, async (name) => {
    const recipe = recipes.find((one) => one.name === name)!;
    const lines: string[] = [];
    const result = await runRecipe({
      recipe,
      seed,
      size: "short",
      runDir: join(runDir, "recipes"),
      rocketmq,
      say: (line) => void lines.push(line),
    });
    if (recipe.harmsRocketmq === true) rocketmq = await startAgain(rocketmq);
    const story = `${recipe.title}\n${lines.join("\n")}\n${described(result)}`;
    expect(result.failures, story).toEqual([]);
  });
});
