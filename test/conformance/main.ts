import { writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { parseArgs } from "node:util";
import { allBehaviours } from "./behaviour-table.ts";
import { clients } from "./client-table.ts";
import { markdown, terminalLines } from "./report.ts";
import { runAll } from "./run-all.ts";
import type { TargetName } from "./target.ts";

/** The conformance suite by hand. Exit code 1 when something differs without a reason, or a reason is needless. */
const usage =
  "usage: node test/conformance/main.ts [--client node,java,python,go] [--target real,embedded] [--only NAME,…] [--write-docs] [--list]";

const page = resolve(import.meta.dirname, "../../docs/conformance.md");
const out = (line: string): void => void process.stdout.write(`${line}\n`);
const say = (line: string): void => {
  process.stderr.write(`${(performance.now() / 1_000).toFixed(0).padStart(4)} s  ${line}\n`);
};

const chosen = (given: string | undefined, known: readonly string[], what: string): string[] => {
  const names = given?.split(",") ?? [...known];
  const unknown = names.filter((name) => !known.includes(name));
  if (unknown.length > 0) throw new Error(`no ${what} is called ${unknown.join(", ")}; known are ${known.join(", ")}`);
  return names;
};

const readArguments = () => {
  const { values } = parseArgs({
    options: {
      client: { type: "string" },
      target: { type: "string" },
      only: { type: "string" },
      "write-docs": { type: "boolean", default: false },
      list: { type: "boolean", default: false },
    },
  });
  const behaviours = allBehaviours.map(({ name }) => name);
  const partial = values.client !== undefined || values.target !== undefined || values.only !== undefined;
  if (values["write-docs"] && partial) throw new Error("--write-docs is for a whole run: it writes the whole page");
  return {
    list: values.list,
    writeDocs: values["write-docs"],
    clients: chosen(
      values.client,
      clients.map(({ name }) => name),
      "client",
    ),
    targets: chosen(values.target, ["real", "embedded"], "target") as TargetName[],
    only: chosen(values.only, behaviours, "behaviour"),
  };
};

let asked: ReturnType<typeof readArguments>;
try {
  asked = readArguments();
} catch (error) {
  process.stderr.write(`${(error as Error).message}\n${usage}\n`);
  process.exit(2);
}
if (asked.list) {
  for (const { name, what } of allBehaviours) out(`${name.padEnd(26)} ${what}`);
  process.exit(0);
}
const { only, ...options } = asked;
const outcome = await runAll({ ...options, chosen: ({ name }) => only.includes(name), say });
for (const line of terminalLines(outcome)) out(line);
for (const { client, why } of outcome.skipped) out(`SKIPPED ${client}: ${why}`);
for (const { behaviour, fact, clients: who, saw } of outcome.needless) {
  out(`NEEDLESS reason: ${behaviour}, ${String(who)}, ${fact}: ${saw}`);
}
out(
  `${outcome.results.length} results, ${outcome.found.length} differences, ${outcome.unexplained.length} without a reason`,
);
if (options.writeDocs) writeFileSync(page, markdown(outcome));
process.exit(outcome.unexplained.length + outcome.needless.length + outcome.skipped.length === 0 ? 0 : 1);
