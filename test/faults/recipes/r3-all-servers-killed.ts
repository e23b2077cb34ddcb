import { setTimeout as pause } from "node:timers/promises";
import type { Recipe } from "../recipe.ts";
import { standardDay } from "../standard-day.ts";
import { allowD2 } from "./r1-server-killed.ts";

export const r3: Recipe = {
  name: "R3",
  title: "both servers are killed in the same instant and start again",
  expects: "nothing lost, nothing early, D2 only, alive again within the lease",
  run: (lab) =>
    standardDay(lab, {
      leavesIngestWaiting: true,
      async strike() {
        lab.faultBegins("kill -9 both servers");
        allowD2(lab, Date.now());
        await Promise.all(lab.running.map((server) => server.kill()));
        await pause(lab.random.between(0, 3_000));
        await Promise.all([lab.server("a2"), lab.server("b2")]);
        lab.faultEnds("both are ready");
      },
    }),
};
