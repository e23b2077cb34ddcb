import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Failpoint } from "../../../src/runtime/failpoint.ts";
import { eventually } from "../lab.ts";
import type { Recipe } from "../recipe.ts";
import { standardDay } from "../standard-day.ts";
import { allowD2 } from "./r1-server-killed.ts";

type Point = {
  readonly point: Failpoint;
  /** Which time of reaching it is fatal, drawn from 1 to this. */
  readonly nthMax: number;
  /** What else must happen for the point to be reached: another server comes, or the other one dies. */
  readonly needs?: "newcomer" | "widow";
};

const points: readonly Point[] = [
  { point: "schedule-stored", nthMax: 60 },
  { point: "before-reply", nthMax: 200 },
  { point: "ingest-stored", nthMax: 5 },
  { point: "loaded", nthMax: 10 },
  { point: "claimed", nthMax: 100 },
  { point: "sent", nthMax: 100 },
  { point: "before-settle", nthMax: 100 },
  { point: "settled", nthMax: 100 },
  { point: "renewed", nthMax: 5 },
  { point: "taking", nthMax: 4, needs: "widow" },
  { point: "handing-over", nthMax: 1, needs: "newcomer" },
];

export const r2: readonly Recipe[] = points.map(({ point, nthMax, needs }) => ({
  name: `R2-${point}`,
  title: `a server is killed exactly at the point "${point}"`,
  expects: "nothing lost, nothing early, second copies only of what was being sent (D2), books agree",
  run: (lab) => {
    const nth = lab.random.between(1, nthMax);
    // So that the crash falls into the load and not into the start.
    const countingFile = join(lab.folder, "the load has begun");
    return standardDay(lab, {
      preload: ["failpoint.ts"],
      leavesIngestWaiting: point !== "ingest-stored",
      servers: { a: {}, b: { ESC_FAILPOINT: `${point}:${nth}`, ESC_FAILPOINT_FILE: countingFile } },
      strikeBetween: [0.2, 0.3],
      async strike() {
        const [other, victim] = [lab.servers[0]!, lab.servers[1]!];
        victim.expectsToEnd = true;
        lab.faultBegins(`server b will die at ${point}, time ${nth}`);
        writeFileSync(countingFile, "");
        if (needs === "newcomer") await lab.server("c");
        if (needs === "widow") {
          allowD2(lab, Date.now());
          await other.kill();
        }
        if (!(await eventually(25_000, () => !victim.runs)))
          throw new Error(`server b never came to "${point}" for time ${nth}`);
        if (victim.ending?.signal !== "SIGKILL")
          throw new Error(`server b ended with ${JSON.stringify(victim.ending)}, not at its failpoint`);
        allowD2(lab, Date.now());
        lab.options.say(`  server b is dead`);
        if (needs === "widow") await lab.server("a2");
        await lab.server("b2");
        lab.faultEnds("all servers are back");
      },
    });
  },
}));
