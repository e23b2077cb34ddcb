import { expect, it } from "vitest";
import { clients } from "./client-table.ts";
import { runAll } from "./run-all.ts";

/** The script itself is in behaviours/; by hand, and with the whole table: node test/conformance/main.ts. */

const runMaxMs = 600_000; // four minutes on two cores that do nothing else

it(
  "four official clients see the same of the embedded broker as of RocketMQ, but for differences with a reason",
  async () => {
    const lines: string[] = [];
    const outcome = await runAll({
      targets: ["real", "embedded"],
      clients: clients.map(({ name }) => name),
      say: (line) => lines.push(line),
    });
    for (const { client, why } of outcome.skipped) console.warn(`the ${client} client was left out: ${why}`);
    expect(outcome.unexplained, lines.join("\n")).toEqual([]);
    expect(outcome.needless).toEqual([]);
    expect(outcome.results.length).toBeGreaterThan(0);
  },
  runMaxMs,
);
