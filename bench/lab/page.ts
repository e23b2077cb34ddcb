import type { Machine } from "./machine.ts";
import type { Row } from "./row.ts";
import { cpuOf, figure, measuredOf, mustOf, numbersOf } from "./show.ts";
import { judge } from "./targets.ts";

/** docs/benchmarks.md, made from the JSON of a run. The prose about limits is written by hand, in limits.md beside it. */
export type Run = {
  readonly date: string;
  readonly command: string;
  readonly quick: boolean;
  readonly machine: Machine;
  readonly rows: readonly Row[];
  readonly failed: readonly string[];
};

const chapters: readonly [prefix: RegExp, title: string][] = [
  [/^(http|ingest)\//, "In"],
  [/^store\//, "The store alone"],
  [/^(dispatch|burst|rocketmq)\//, "Out"],
  [/^end to end\//, "The whole way"],
  [/^(takeover|event loop|memory)\//, "Bad days, memory, event loop"],
  [/^bullmq\//, "Side by side with BullMQ"],
  [/^(retry|parked|redrive|dead)\//, "Retries, parking, redrives"],
  [/^bullmq retries\//, "Retries side by side with BullMQ"],
  [/^rocketmq timer\//, "Side by side with RocketMQ's own timer"],
  [/^transactions\//, "Transactional sends"],
  [/^wheel\//, "The near window alone"],
];

const cell = (text: string): string => text.replaceAll("|", "\\|");

export const pageOf = (run: Run, limits: string): string => {
  const { machine } = run;
  const verdicts = judge(run.rows);
  const counted = (verdict: string): number => verdicts.filter((one) => one.verdict === verdict).length;
  const whatOf = new Map(run.rows.map(({ id, what, durability }) => [id, `${what}, \`${durability}\``]));
  const lines = [
    "# Benchmarks",
    "",
    `Measured on ${run.date} with \`${run.command}\`. This page is written by that command; do not edit it.`,
    "",
    `One machine with ${machine.cores} cores (${machine.cpu}), ${machine.memoryGiB} GiB, ${machine.system}, kernel ${machine.kernel}; Node ${machine.node}, Redis ${machine.redis}, RocketMQ ${machine.rocketmq} on Java ${machine.java}, BullMQ ${machine.bullmq}. Everything runs on those cores at once: generator, server, Redis, the broker, and the consumer where there is one. So a rate here is what the machine gives to all of them together, and **CPU µs per message** of each process is what carries over to other machines.`,
    "",
    "- `always`: acknowledged means on disk (Redis `appendfsync always`). `everysec`: a crash may lose a second. `none`: memory only.",
    "- Bodies are 200 B. A row is void when the generator used more than 80 % of a core, or the host took more than 2 % of the machine.",
    "- Lateness of *dispatch* is the instant of sending minus the due time, from the server's histogram: exact at 1, 2, 5, 10, 25, 50, 100, 250 ms, interpolated between. Lateness *at a consumer* is the official RocketMQ client's clock when it has the message, minus the due time. *Early* counts messages before their time.",
    "- Redis does not rewrite its append-only file during a benchmark; in operation a rewrite costs a fork and some seconds of a core.",
    "",
    ...(run.quick ? ["**This was a short run: the numbers show that the benchmarks work, no more.**", ""] : []),
    ...(run.failed.length > 0 ? [`Not measured, because they failed: ${run.failed.join(", ")}.`, ""] : []),
    `## Targets: ${counted("reached")} reached, ${counted("missed")} missed, ${counted("void")} void`,
    "",
    "| what | number | must | measured | |",
    "|---|---|---|---|---|",
    ...verdicts.map((verdict) => {
      const what = whatOf.get(verdict.row) ?? verdict.row;
      const against =
        verdict.against === undefined ? "" : `, against ${whatOf.get(verdict.against) ?? verdict.against}`;
      const number = verdict.number === "perSecond" ? "rate" : verdict.number;
      const mark = verdict.verdict === "missed" ? "**missed**" : verdict.verdict;
      return `| ${cell(what + against)} | ${number} | ${mustOf(verdict)} | ${measuredOf(verdict)} | ${mark} |`;
    }),
    "",
  ];
  for (const [prefix, title] of chapters) {
    const rows = run.rows.filter(({ id }) => prefix.test(id));
    if (rows.length === 0) continue;
    lines.push(
      `## ${title}`,
      "",
      "| what | durable | per second | CPU µs per message | else |",
      "|---|---|---|---|---|",
    );
    for (const row of rows) {
      const rate = row.perSecond === undefined ? "" : figure(row.perSecond);
      const others =
        (row.othersShare ?? 0) > 0.1 ? `others used ${figure((row.othersShare ?? 0) * 100)} % of the machine` : "";
      const rest = [numbersOf(row), others, row.void === undefined ? "" : `**void**: ${row.void}`].filter(
        (part) => part !== "",
      );
      lines.push(`| ${cell(row.what)} | ${row.durability} | ${rate} | ${cpuOf(row)} | ${rest.join("; ")} |`);
    }
    lines.push("");
  }
  lines.push(limits.trim(), "");
  return lines.join("\n");
};
