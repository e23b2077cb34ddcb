import { type Command, Option } from "commander";
import { policyLimits } from "../../retry/policy.ts";
import { presets } from "../../retry/presets.ts";
import { simulateRetries } from "../../retry/simulate.ts";
import { asUsage, UsageError } from "../exit-codes.ts";
import { wholeNumber } from "../flag-values.ts";
import { jsonIn } from "../json-file.ts";
import type { Output } from "../output.ts";
import { viewExplanation } from "../retry-view.ts";
import { type GlobalFlags, withSession } from "../session.ts";
import { table } from "../wording.ts";
import { addBindings, addPolicies } from "./retry-policies.ts";
import { addReplay } from "./retry-replay.ts";

type ExplainFlags = {
  readonly policy?: string;
  readonly preset?: string;
  readonly name?: string;
  readonly attempts: number;
  readonly error?: string;
  readonly retryAfter?: string;
};

/** Rows that fit a screen. */
const attemptsShownDefault = 20;

/** About retry policies. What they would do is found out here, by the function that decides in production. */
export const addRetry = (program: Command, output: Output): void => {
  const retry = program
    .command("retry")
    .summary("show, store and bind retry policies, and what they would do")
    .description(
      "Retry policies: what one would do before it does it, those that are stored on the server, and whose messages they decide about.",
    );
  retry
    .command("explain")
    .summary("print a policy's schedule and what ends it")
    .description(
      "Prints what happens after each attempt when an error goes on: how long the wait is with its bounds, and which limit ends it.",
    )
    .option("--policy <file>", "a file with a policy as JSON")
    .addOption(
      new Option("--preset <name>", "a policy with a name (default: default)")
        .choices(presets.map(({ name }) => name))
        .conflicts("policy"),
    )
    .addOption(new Option("--name <name>", "a stored policy, name or name@version").conflicts(["policy", "preset"]))
    .option(
      "--attempts <n>",
      "how many attempts to list",
      wholeNumber(1, policyLimits.attemptsMax),
      attemptsShownDefault,
    )
    .option("--error <class[:code]>", "what goes on failing, such as throttled:http_429 (default: transient)")
    .option("--retry-after <time>", "how long the other side asks to be left alone")
    .addHelpText(
      "after",
      `
Classes of errors: transient, throttled, permanent, unknown (it may have taken effect), crash.

Examples:
  escapement retry explain
  escapement retry explain --preset rocketmq-ladder --attempts 5
  escapement retry explain --name orders
  escapement retry explain --policy policy.json --error throttled:http_429 --retry-after 30s`,
    )
    .action(async (flags: ExplainFlags, command: Command) => {
      const { json } = command.optsWithGlobals<GlobalFlags>();
      const which =
        flags.policy === undefined
          ? flags.name === undefined
            ? { preset: flags.preset ?? "default" }
            : { policy: await storedPolicy(flags.name, command, output) }
          : { policy: await jsonIn(flags.policy, "the policy") };
      const explanation = simulated({
        ...which,
        error: {
          ...errorFrom(flags.error),
          ...(flags.retryAfter === undefined ? {} : { retryAfter: flags.retryAfter }),
        },
        attempts: flags.attempts,
        firstFailedAt: output.nowMs(),
      });
      if (json) output.printJson(explanation);
      else output.print(viewExplanation(explanation, output.style).join("\n"));
    });
  addPolicies(retry, output);
  addBindings(retry, output);
  addReplay(retry, output);
  retry
    .command("presets")
    .summary("list the policies with a name")
    .description("Lists the policies with a name. With --json each is a line with its policy, to begin a file with.")
    .addHelpText(
      "after",
      `
Examples:
  escapement retry presets
  escapement retry presets --json | jq 'select(.name == "default").policy' > policy.json`,
    )
    .action((_flags: unknown, command: Command) => {
      if (command.optsWithGlobals<GlobalFlags>().json) {
        for (const { name, summary, input } of presets) output.printJson({ name, summary, policy: input });
      } else output.print(table(presets.map(({ name, summary }) => [name, summary])).join("\n"));
    });
};

const simulated = (request: object) => asUsage(() => simulateRetries(request));

const storedPolicy = async (name: string, command: Command, output: Output): Promise<unknown> => {
  let policy: unknown;
  await withSession(command, output, async ({ client }) => {
    policy = (await client.policies.get(name)).policy;
  });
  if (policy === null) throw new UsageError(`${name} is the version that deleted it.`);
  return policy;
};

const errorFrom = (text = ""): { class?: string; code?: string } => {
  const colon = text.indexOf(":");
  if (colon < 0) return text === "" ? {} : { class: text };
  return { class: text.slice(0, colon), code: text.slice(colon + 1) };
};
