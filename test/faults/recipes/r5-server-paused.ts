import { setTimeout as pause } from "node:timers/promises";
import type { Lab } from "../lab.ts";
import type { Recipe, RecipeOutcome } from "../recipe.ts";
import type { ServerProcess } from "../server-process.ts";
import { standardDay } from "../standard-day.ts";

const leaseMs = 3_000;
const environment = { LEASE_MS: String(leaseMs) };

/** Duplicate window D4: what a paused owner had out. The bound is the dispatcher's own for everything that is out. */
const allowD4 = (lab: Lab, fromMs: number, untilMs: number): void =>
  lab.allow({ name: "D4", fromMs: fromMs - 2_000, untilMs: untilMs + 1_000, duplicatesMax: 8_192 });

/** The zombie must have noticed; that it changed nothing afterwards is what the ledger shows. */
const noticed = (victim: ServerProcess): string[] =>
  /lease could not be renewed|taken over by another/.test(victim.logText())
    ? []
    : [`I9 one owner: server ${victim.name} did not notice that it lost its shards; see ${victim.logFile}`];

const paused = async (
  lab: Lab,
  preload: readonly string[],
  extra: Readonly<Record<string, string>>,
  freeze: (victim: ServerProcess) => Promise<void>,
): Promise<RecipeOutcome> => {
  let victim: ServerProcess | undefined;
  const outcome = await standardDay(lab, {
    preload,
    servers: { a: { ...environment, ...extra }, b: { ...environment, ...extra } },
    async strike() {
      victim = lab.servers[lab.random.between(0, 1)]!;
      const fromMs = Date.now();
      await freeze(victim);
      allowD4(lab, fromMs, Date.now());
    },
    listenMs: 3_000,
  });
  return { ...outcome, failures: [...outcome.failures, ...noticed(victim!)] };
};

export const r5: Recipe = {
  name: "R5",
  title: "a server is frozen (SIGSTOP) for longer than its lease, loses its shards, and wakes up",
  expects: "nothing lost, the zombie changes nothing, second copies only of what it had out (D4)",
  run: (lab) =>
    paused(lab, [], {}, async (victim) => {
      lab.faultBegins(`SIGSTOP server ${victim.name}`);
      victim.signal("SIGSTOP");
      await pause(lab.random.between(leaseMs * 1.2, leaseMs * 2));
      victim.signal("SIGCONT");
      lab.faultEnds(`SIGCONT server ${victim.name}`);
    }),
};

const blockMs = Math.round(leaseMs * 1.5);

export const r6: Recipe = {
  name: "R6",
  title: "a server computes for longer than its lease without returning to its event loop",
  expects: "as a frozen server: nothing lost, the zombie changes nothing, D4 only",
  run: (lab) =>
    paused(lab, ["block.ts"], { LAB_BLOCK_MS: String(blockMs) }, async (victim) => {
      lab.faultBegins(`server ${victim.name} blocks its event loop for ${blockMs} ms`);
      victim.signal("SIGUSR2");
      await pause(blockMs);
      lab.faultEnds("it should be back");
    }),
};
