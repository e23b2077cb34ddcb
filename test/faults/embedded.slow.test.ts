import { mkdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { expect, it } from "vitest";
import { recipes } from "./recipe-table.ts";
import { described, runRecipe } from "./run-recipe.ts";

/**
 * The bad day of the embedded server that tells most per second; `npm run faults -- --embedded` has all of them, with
 * a hundred kills. The seed is new every time; ESC_FAULTS_SEED repeats a day.
 */
const runDir = resolve(import.meta.dirname, "../../.run/faults-embedded");
const seed = Number(process.env.ESC_FAULTS_SEED ?? Math.floor(Math.random() * 1e6));

it("E1, five kills", { timeout: 180_000 }, async () => {
  mkdirSync(runDir, { recursive: true });
  const recipe = recipes.find(({ name }) => name === "E1")!;
  const lines: string[] = [];
  const result = await runRecipe({
    recipe,
    seed,
    size: "short",
    runDir: join(runDir, "recipes"),
    rocketmq: undefined,
    say: (line) => void lines.push(line),
  });
  expect(result.failures, `${recipe.title}\n${lines.join("\n")}\n${described(result)}`).toEqual([]);
});
