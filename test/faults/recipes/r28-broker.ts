import { setTimeout as pause } from "node:timers/promises";
import { killService, startAgain } from "../../../scripts/services.mjs";
import type { Lab } from "../lab.ts";
import type { Recipe } from "../recipe.ts";
import { standardDay } from "../standard-day.ts";

/** Duplicate window D3: sends without an answer. Four calls of up to 128 per topic, and one at a time per group. */
const allowD3 = (lab: Lab, fromMs: number): void =>
  lab.allow({ name: "D3", fromMs: fromMs - 4_000, untilMs: Date.now() + 4_000, duplicatesMax: 2_048 });

export const r28Kill: Recipe = {
  name: "R28-kill",
  title: "the broker is killed in the middle of the load and started again",
  expects: "nothing lost, nothing early, groups in order; second copies only of sends without an answer (D3)",
  harmsRocketmq: true,
  run: (lab) =>
    standardDay(lab, {
      quietWithinMs: 90_000,
      recoveryMaxMs: 60_000,
      async strike() {
        const fromMs = Date.now();
        lab.faultBegins("kill -9 the broker");
        await killService(lab.rocketmq, "SIGKILL", { role: "proxy" });
        await pause(lab.random.between(0, 1_500));
        await startAgain(lab.rocketmq);
        await lab.watchAgain();
        allowD3(lab, fromMs);
        lab.faultEnds("the broker is back");
      },
    }),
};

export const r28Pause: Recipe = {
  name: "R28-pause",
  title: "the broker is frozen (SIGSTOP) for 10 s",
  expects: "nothing lost, nothing early, groups in order; second copies only of sends without an answer (D3)",
  harmsRocketmq: true,
  run: (lab) =>
    standardDay(lab, {
      quietWithinMs: 90_000,
      recoveryMaxMs: 60_000,
      async strike() {
        const fromMs = Date.now();
        lab.faultBegins("SIGSTOP the broker");
        await killService(lab.rocketmq, "SIGSTOP", { role: "proxy" });
        await pause(10_000);
        await killService(lab.rocketmq, "SIGCONT", { role: "proxy" });
        await lab.watchAgain();
        allowD3(lab, fromMs);
        lab.faultEnds("SIGCONT the broker");
      },
    }),
};

export const r28NameServer: Recipe = {
  name: "R28-nameserver",
  title: "the name server is away for 8 s",
  expects: "nothing lost, nothing early; the proxy knows its routes, so hardly anybody notices",
  harmsRocketmq: true,
  run: (lab) =>
    standardDay(lab, {
      async strike() {
        const fromMs = Date.now();
        lab.faultBegins("kill -9 the name server");
        await killService(lab.rocketmq, "SIGKILL", { role: "nameserver" });
        await pause(8_000);
        await startAgain(lab.rocketmq);
        allowD3(lab, fromMs);
        lab.faultEnds("the name server is back");
      },
    }),
};
