import { setTimeout as pause } from "node:timers/promises";
import type { Lab } from "../lab.ts";
import type { Recipe } from "../recipe.ts";
import { standardDay } from "../standard-day.ts";

/** Duplicate window D2: what was sent in the moments before a kill, and not yet recorded. */
export const allowD2 = (lab: Lab, killedMs: number): void => {
  // The sends under way of two lanes (the plain topic and the ordered one). A settle takes milliseconds; two seconds
  // before the kill is what a busy machine may make of them.
  lab.allow({ name: "D2", fromMs: killedMs - 2_000, untilMs: killedMs + 100, duplicatesMax: 2 * 2_048 });
};

export const r1: Recipe = {
  name: "R1",
  title: "one of two servers is killed at a random moment and comes back after a while",
  expects: "nothing lost, nothing early, second copies only of what was being sent (D2), books agree",
  run: (lab) =>
    standardDay(lab, {
      leavesIngestWaiting: true,
      async strike() {
        const victim = lab.servers[lab.random.between(0, 1)]!;
        lab.faultBegins(`kill -9 server ${victim.name}`);
        allowD2(lab, Date.now());
        await victim.kill();
        await pause(lab.random.between(0, 4_000));
        await lab.server(`${victim.name}2`);
        lab.faultEnds(`server ${victim.name}2 is ready`);
      },
    }),
};
