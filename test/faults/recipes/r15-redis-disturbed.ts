import { setTimeout as pause } from "node:timers/promises";
import { killService } from "../../../scripts/services.mjs";
import type { Recipe } from "../recipe.ts";
import { standardDay } from "../standard-day.ts";

/** Longer than every pause here, so the shards keep their owners and nothing may be sent twice. */
const environment = { LEASE_MS: "10000" };
const servers = { a: environment, b: environment };

export const r15: Recipe = {
  name: "R15",
  title: "Redis is frozen (SIGSTOP) for 3 s",
  expects: "nothing lost, nothing early, not one second copy, the backlog drains",
  run: (lab) =>
    standardDay(lab, {
      servers,
      async strike() {
        const redis = await lab.redis();
        lab.faultBegins("SIGSTOP Redis");
        await killService(redis, "SIGSTOP");
        await pause(3_000);
        await killService(redis, "SIGCONT");
        lab.faultEnds("SIGCONT Redis");
      },
    }),
};

export const r20: Recipe = {
  name: "R20",
  title: "Redis forgets its scripts, ends every connection, and sleeps for 1.5 s, one after the other",
  expects: "nothing lost, not one second copy",
  run: (lab) =>
    standardDay(lab, {
      servers,
      strikeBetween: [0.2, 0.4],
      async strike() {
        lab.faultBegins("SCRIPT FLUSH");
        await lab.redisSay("SCRIPT", "FLUSH");
        await pause(lab.random.between(200, 500));
        lab.options.say("  CLIENT KILL");
        await lab.redisSay("CLIENT", "KILL", "TYPE", "normal");
        await lab.redisSay("CLIENT", "KILL", "TYPE", "pubsub");
        await pause(lab.random.between(300, 800));
        lab.options.say("  DEBUG SLEEP");
        await lab.redisSay("DEBUG", "SLEEP", 1.5);
        await lab.redisSay("SCRIPT", "FLUSH");
        lab.faultEnds("Redis is left alone");
      },
    }),
};
