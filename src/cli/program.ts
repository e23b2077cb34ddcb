import { readFileSync } from "node:fs";
import { Command, CommanderError, Option } from "commander";
import { addBroker } from "./commands/broker.ts";
import { addCancel } from "./commands/cancel.ts";
import { addDead } from "./commands/dead.ts";
import { addDependencies } from "./commands/dependencies.ts";
import { addGet } from "./commands/get.ts";
import { addGroups } from "./commands/groups.ts";
import { addHealth } from "./commands/health.ts";
import { addOutbox, addRelay } from "./commands/outbox.ts";
import { addRedrives } from "./commands/redrives.ts";
import { addReschedule } from "./commands/reschedule.ts";
import { addRetry } from "./commands/retry.ts";
import { addSchedule } from "./commands/schedule.ts";
import { addServe } from "./commands/serve.ts";
import { addStats } from "./commands/stats.ts";
import { addTopics } from "./commands/topics.ts";
import { addTx } from "./commands/tx.ts";
import { errorAsJson, exitCode, exitCodeLegend, exitCodeOf, explain, QuietExit, UsageError } from "./exit-codes.ts";
import { timeoutMs } from "./flag-values.ts";
import type { Output } from "./output.ts";
import type { GlobalFlags } from "./session.ts";
import { printable } from "./wording.ts";

/** The command line as a whole: its commands, its help, and how it ends. */

/** Runs the command line and answers its exit code. Never throws; what went wrong has been said. */
export const runProgram = async (argv: readonly string[], output: Output): Promise<number> => {
  const program = buildProgram(output);
  try {
    await program.parseAsync(argv, { from: "user" });
    return exitCode.ok;
  } catch (error) {
    // Commander has printed its own errors, and help and version end this way too.
    if (error instanceof CommanderError) return error.exitCode === 0 ? exitCode.ok : exitCode.usage;
    report(error, program.opts<GlobalFlags>().json ?? false, output);
    return exitCodeOf(error);
  }
};

const report = (error: unknown, json: boolean, output: Output): void => {
  if (error instanceof QuietExit) return;
  if (json && !(error instanceof UsageError)) {
    output.printJson(errorAsJson(error));
    return;
  }
  const [what, ...advice] = explain(error).map(printable);
  output.tell(`${output.styleErr(["red", "bold"], "error:")} ${what}`);
  for (const line of advice) output.tell(`  ${line}`);
};

const buildProgram = (output: Output): Command => {
  const program = new Command("escapement");
  program
    .description("Delays for RocketMQ: hand over a message and a time, receive it on an ordinary topic at that time.")
    .usage("<command> [options]")
    .version(version(), "-V, --version", "print the version")
    .addOption(
      new Option("--url <address>", "address of the server (default: http://127.0.0.1:7361)").env("ESCAPEMENT_URL"),
    )
    .option("--timeout <time>", "how long one request may take: 500ms, 10s (default: 10s)", timeoutMs)
    .option("--json", "print results as JSON, one value, or one a line where there are many")
    .helpOption("-h, --help", "show help")
    .helpCommand("help [command]", "show the help of a command")
    .configureHelp({ showGlobalOptions: true, styleTitle: (text) => output.style("bold", text) })
    .configureOutput({
      writeOut: (text) => output.write("out", text),
      writeErr: (text) => output.write("err", text),
      outputError: (text, write) => write(text.replace(/^error: /, `${output.styleErr(["red", "bold"], "error:")} `)),
    })
    .showHelpAfterError("  Add --help to see what is possible.")
    .exitOverride()
    .addHelpText("after", examples);
  addServe(program);
  addSchedule(program, output);
  addGet(program, output);
  addCancel(program, output);
  addReschedule(program, output);
  addStats(program, output);
  addDead(program, output);
  addRedrives(program, output);
  addTopics(program, output);
  addGroups(program, output);
  addHealth(program, output);
  addRetry(program, output);
  addDependencies(program, output);
  addBroker(program);
  addOutbox(program, output);
  addRelay(program);
  addTx(program, output);
  return program;
};

const examples = `
Examples:
  escapement schedule --topic orders --body hello --delay 5s
  escapement schedule --file messages.ndjson
  escapement cancel --key order-7
  escapement stats --url http://10.0.0.7:7361

Exit codes:
${exitCodeLegend.map(([code, text]) => `  ${code}  ${text}`).join("\n")}

With --json an error is a JSON value on standard output too: {"error":{"code":…,"detail":…}}.`;

const version = (): string => {
  const manifest = new URL("../../package.json", import.meta.url);
  return (JSON.parse(readFileSync(manifest, "utf8")) as { version: string }).version;
};
