import type { Recipe } from "../recipe.ts";
import { standardDay } from "../standard-day.ts";

/** A stop waits up to 8 s for what is being sent; the rest is for closing. */
const stopMaxMs = 10_000;

export const r4: Recipe = {
  name: "R4",
  title: "both servers are stopped with SIGTERM and replaced, one after the other",
  expects: "nothing lost, not one second copy, each stop within 10 s and with exit code 0",
  async run(lab) {
    const slow: string[] = [];
    const took: number[] = [];
    const outcome = await standardDay(lab, {
      strikeBetween: [0.25, 0.4],
      async strike() {
        lab.faultBegins("rolling SIGTERM");
        for (const server of [...lab.running]) {
          const { code, tookMs } = await server.stop(stopMaxMs + 5_000);
          took.push(tookMs);
          if (code !== 0) slow.push(`server ${server.name} stopped with exit code ${code}, 0 expected`);
          if (tookMs > stopMaxMs)
            slow.push(`server ${server.name} took ${tookMs} ms to stop, at most ${stopMaxMs} allowed`);
          await lab.server(`${server.name}2`);
        }
        lab.faultEnds("both are replaced");
      },
    });
    return {
      ...outcome,
      failures: [...outcome.failures, ...slow],
      notes: { ...outcome.notes, stopMs: Math.max(...took) },
    };
  },
};
