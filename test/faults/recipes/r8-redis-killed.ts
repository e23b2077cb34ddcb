import { setTimeout as pause } from "node:timers/promises";
import { killService, startAgain } from "../../../scripts/services.mjs";
import type { Recipe } from "../recipe.ts";
import { standardDay } from "../standard-day.ts";

/** Longer than Redis is away: the shards keep their owners, so nobody may send anything twice. */
const environment = { LEASE_MS: "10000" };

export const r8: Recipe = {
  name: "R8",
  title: "Redis (appendfsync always) is killed in the middle of the load and started again on its data",
  expects: "0 lost, 0 second copies: what was accepted is in its append-only file",
  run: (lab) =>
    standardDay(lab, {
      servers: { a: environment, b: environment },
      async strike() {
        const redis = await lab.redis();
        lab.faultBegins("kill -9 Redis");
        await killService(redis);
        await pause(lab.random.between(100, 1_500));
        await startAgain(redis);
        lab.faultEnds("Redis is back");
      },
    }),
};
