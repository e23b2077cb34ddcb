import { mkdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { startAgain, startRocketmq, stopServices } from "../../scripts/services.mjs";
import { killSenders } from "../tx/kill-senders.ts";
import { recipes } from "./recipe-table.ts";
import { described, type RunResult, runRecipe, stopLeftovers } from "./run-recipe.ts";

/**
 * `npm run faults -- [--embedded] [--only R1,E1] [--runs N] [--seed N] [--short] [--json] [--list]`: real processes,
 * real Redis, real RocketMQ, real trouble. `--embedded` is all that happens to the server with its own store and broker,
 * E1 and so on, and needs neither. Started by scripts/faults.mjs, which sees to what must be installed.
 *
 * `npm run faults -- --transactions [--rocketmq] [--kills N] [--seed N] [--minutes N]` is the crash matrix of
 * transactional sends: sending programs killed at each labelled step, in both modes, on a real MariaDB and the embedded
 * broker or a real RocketMQ.
 */
const usage =
  "usage: npm run faults -- [--embedded] [--only R1,E1] [--runs N] [--seed N] [--short] [--json] [--list]\n       npm run faults -- --transactions [--rocketmq] [--kills N] [--minutes N] [--seed N]";

const readArguments = () => {
  try {
    const { values } = parseArgs({
      options: {
        embedded: { type: "boolean", default: false },
        only: { type: "string" },
        runs: { type: "string", default: "1" },
        seed: { type: "string" },
        short: { type: "boolean", default: false },
        json: { type: "boolean", default: false },
        list: { type: "boolean", default: false },
        transactions: { type: "boolean", default: false },
        rocketmq: { type: "boolean", default: false },
        kills: { type: "string", default: "10000" },
        minutes: { type: "string", default: "600" },
      },
    });
    const names = values.only?.split(",").map((name) => name.trim().toLowerCase());
    // R28 means all of its variants.
    const chosen = recipes.filter(
      ({ name, embedded }) =>
        (embedded === true || !values.embedded) &&
        (names?.some((wanted) => name.toLowerCase() === wanted || name.toLowerCase().startsWith(`${wanted}-`)) ?? true),
    );
    const runs = Number(values.runs);
    const seed = values.seed === undefined ? Math.floor(Math.random() * 1e6) : Number(values.seed);
    if (chosen.length === 0)
      throw new Error(`no recipe is called ${values.only}; known are ${recipes.map(({ name }) => name).join(", ")}`);
    if (!Number.isInteger(runs) || runs < 1 || !Number.isInteger(seed))
      throw new Error("--runs and --seed are whole numbers");
    const [kills, minutes] = [Number(values.kills), Number(values.minutes)];
    if (!Number.isInteger(kills) || kills < 1 || !(minutes > 0))
      throw new Error("--kills is a whole number, and --minutes a number, above 0");
    return { ...values, chosen, runs, seed, kills, minutes };
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n${usage}\n`);
    process.exit(2);
  }
};

const { chosen, runs, seed: firstSeed, short, json, list, transactions, rocketmq, kills, minutes } = readArguments();
const out = (line: string): void => void process.stdout.write(`${line}\n`);
const say = (line: string): void => void process.stderr.write(`${line}\n`);

if (list) {
  for (const { name, title, expects } of recipes) out(`${name.padEnd(14)} ${title}\n${" ".repeat(15)}${expects}`);
  process.exit(0);
}

const runDir = resolve(import.meta.dirname, "../../.run/faults");
mkdirSync(runDir, { recursive: true });
if (transactions) process.exit(await killSenders({ runDir, kills, minutes, seed: firstSeed, rocketmq, out, say }));
await stopLeftovers(join(runDir, "recipes"));
const results: RunResult[] = [];
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, async () => {
    say("\nstopping what was started");
    await stopLeftovers(join(runDir, "recipes"));
    await stopServices({ names: ["rocketmq"], runDir });
    process.exit(130);
  });
}
try {
  let rocketmq = chosen.every(({ embedded }) => embedded === true) ? undefined : await startRocketmq({ runDir, say });
  for (const recipe of chosen) {
    if (!json) out(`\n${recipe.name}: ${recipe.title}\n    expects: ${recipe.expects}`);
    for (let run = 0; run < runs; run++) {
      const seed = firstSeed + run;
      const result = await runRecipe({
        recipe,
        seed,
        size: short ? "short" : "long",
        runDir: join(runDir, "recipes"),
        rocketmq,
        say,
      });
      results.push(result);
      if (!json) out(described(result));
      if (recipe.harmsRocketmq === true) rocketmq = await startAgain(rocketmq!);
    }
  }
} finally {
  await stopServices({ names: ["rocketmq"], runDir });
}
if (json) out(JSON.stringify({ seed: firstSeed, results }, null, 2));
else {
  const broken = results.filter(({ failures }) => failures.length > 0);
  out(`\n${results.length - broken.length} held, ${broken.length} broken; first seed ${firstSeed}`);
  // Honest about what so few runs can say: none broken in n bounds the rate of breaking at 3/n, with 95 % confidence.
  for (const recipe of chosen) {
    const mine = results.filter((result) => result.recipe === recipe.name);
    if (mine.every(({ failures }) => failures.length === 0)) {
      out(
        `${recipe.name}: 0 broken of ${mine.length}, so it breaks less often than ${mine.length < 3 ? "anyone can say from so few runs" : `once in ${(mine.length / 3).toFixed(1)} runs`}`,
      );
    }
  }
}
// A consumer of the official client may never let go of a broker that is gone.
process.exit(results.some(({ failures }) => failures.length > 0) ? 1 : 0);
