import { type Command, Option } from "commander";
import { parsePolicy } from "../../retry/parse-policy.ts";
import { presets } from "../../retry/presets.ts";
import { type Candidate, readReplay, replayAll } from "../../retry/replay-request.ts";
import { asUsage, UsageError } from "../exit-codes.ts";
import { wholeNumber } from "../flag-values.ts";
import { jsonIn, linesIn } from "../json-file.ts";
import type { Output } from "../output.ts";
import { viewReplay, viewReplayed } from "../policy-view.ts";
import { type GlobalFlags, withSession } from "../session.ts";

type ReplayFlags = {
  readonly policy?: string;
  readonly preset?: string;
  readonly name?: string;
  readonly against?: readonly string[];
  readonly seed: number;
  readonly messages?: boolean;
};

/**
 * Lives through recorded failures in this process; a server is asked only for the policies that are named. That is the
 * same function that the server has, and the record need not leave the machine.
 */
export const addReplay = (retry: Command, output: Output): void => {
  retry
    .command("replay")
    .summary("live through recorded failures under another policy")
    .description(
      "Lives through recorded failures once more under a policy, on a virtual clock: how many calls it would have made, how late messages would have been, and which would have died.",
    )
    .argument("<file>", "the failures, one a line as JSON: message, atMs, and as you like class, code, status, …")
    .option("--policy <file>", "a file with a policy as JSON")
    .addOption(
      new Option("--preset <name>", "a policy that comes with the program").choices(presets.map(({ name }) => name)),
    )
    .option("--name <name>", "a stored policy, name or name@version")
    .option("--against <name...>", "more stored policies or presets to compare with")
    .option("--seed <n>", "of chance: the same seed gives the same answer", wholeNumber(0, 2 ** 32 - 1), 1)
    .option("--messages", "also what became of each message")
    .addHelpText(
      "after",
      `
A failure: {"message":"order-7","atMs":1800000000000,"class":"transient","code":"http_503","status":503,
"retryAfterMs":1000,"attempt":1,"succeededAtMs":1800000060000}. Needed are message and atMs.
Between two failures the first is taken to go on, and a message to succeed from succeededAtMs on; without one, never.

Examples:
  escapement retry replay failures.ndjson --policy candidate.json --against orders
  escapement retry replay failures.ndjson --preset rocketmq-ladder --messages`,
    )
    .action(async (file: string, flags: ReplayFlags, command: Command) => {
      const { json } = command.optsWithGlobals<GlobalFlags>();
      const candidates = await candidatesOf(flags, command, output);
      const failures = await linesIn(file, "the failures");
      const question = asUsage(() =>
        readReplay({ failures, seed: flags.seed, ...(flags.messages ? { messages: true } : {}) }),
      );
      const answer = await replayAll(question, candidates, async () => {});
      if (json) return output.printJson(answer);
      output.print(viewReplay(answer, output.style).join("\n"));
      for (const { policy, perMessage } of answer.results) {
        if (perMessage === undefined) continue;
        output.print(`\n${output.style("bold", policy)}\n${viewReplayed(perMessage, output.style).join("\n")}`);
      }
    });
};

const candidatesOf = async (flags: ReplayFlags, command: Command, output: Output): Promise<Candidate[]> => {
  const { policy, preset, name, against = [] } = flags;
  if ([policy, preset, name].filter((one) => one !== undefined).length > 1) {
    throw new UsageError("Give one of --policy, --preset and --name; --against takes more names.");
  }
  const first: Candidate[] = [];
  if (policy !== undefined) {
    const input = await jsonIn(policy, "the policy");
    first.push({ name: "candidate", policy: asUsage(() => parsePolicy(input)) });
  }
  const names = [...(preset === undefined ? [] : [preset]), ...(name === undefined ? [] : [name]), ...against];
  if (first.length + names.length === 0) throw new UsageError("Say with which policy: --policy, --preset or --name.");
  const isStored = (one: string) => !presets.some((candidate) => candidate.name === one);
  const known = (one: string): Candidate => ({
    name: one,
    policy: presets.find((candidate) => candidate.name === one)!.policy,
  });
  if (!names.some(isStored)) return [...first, ...names.map(known)];
  const found: Candidate[] = [];
  await withSession(command, output, async ({ client }) => {
    for (const one of names) {
      if (!isStored(one)) {
        found.push(known(one));
        continue;
      }
      const stored = await client.policies.get(one);
      if (stored.policy === null) throw new UsageError(`${one} is the version that deleted it.`);
      found.push({ name: `${stored.name}@${stored.version}`, policy: parsePolicy(stored.policy) });
    }
  });
  return [...first, ...found];
};
