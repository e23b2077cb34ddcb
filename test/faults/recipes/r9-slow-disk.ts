import { setTimeout as pause } from "node:timers/promises";
import { killService, startAgain } from "../../../scripts/services.mjs";
import type { Lab } from "../lab.ts";
import type { Recipe, RecipeOutcome } from "../recipe.ts";
import { SlowDisk } from "../slow-disk.ts";
import { standardDay } from "../standard-day.ts";

/** Every sync of the append-only file takes this long: a disk that others are busy with. */
const syncMs = 700;

const killedDuringSync = async (lab: Lab, durability: "always" | "everysec"): Promise<RecipeOutcome> => {
  const disk = new SlowDisk(lab.folder);
  const redis = await lab.redis({ appendfsync: durability }, "main", disk.environment);
  const environment = { LEASE_MS: "20000", DURABILITY: durability };
  return standardDay(lab, {
    servers: { a: environment, b: environment },
    // The load must still be coming in when Redis dies.
    load: { messages: lab.options.size === "long" ? 10_500 : 4_000 },
    strikeBetween: [0.1, 0.2],
    quietWithinMs: durability === "always" ? 60_000 : 8_000,
    async strike() {
      lab.faultBegins(`every sync takes ${syncMs} ms now`);
      disk.syncTakes(syncMs);
      await pause(lab.random.between(300, 1_200));
      await disk.insideSync(syncMs * 0.8);
      lab.options.say("  kill -9 Redis inside a sync");
      await killService(redis);
      disk.syncTakes(0);
      await startAgain(redis);
      lab.faultEnds("Redis is back, on a fast disk");
    },
  });
};

export const r9: Recipe = {
  name: "R9",
  title: "Redis (appendfsync always) on a slow disk is killed in the middle of a sync",
  expects: "0 lost, 0 second copies",
  run: (lab) => killedDuringSync(lab, "always"),
};

export const r9Control: Recipe = {
  name: "R9-control",
  title: "the same with appendfsync everysec, which the service was told to accept",
  expects: "accepted messages are lost: the oracle sees what `always` prevents",
  control: true,
  async run(lab) {
    const { verdict, notes } = await killedDuringSync(lab, "everysec");
    const failures = verdict!.lost > 0 ? [] : ["the control lost nothing, so this run says nothing about R9"];
    return { verdict: verdict!, failures, notes };
  },
};
