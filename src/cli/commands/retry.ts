import { readFile } from "node:fs/promises";
import { type Command, Option } from "commander";
import { isEscapementError } from "../../message/errors.ts";
import { policyLimits } from "../../retry/policy.ts";
import { presets } from "../../retry/presets.ts";
import { simulateRetries } from "../../retry/simulate.ts";
import { UsageError } from "../exit-codes.ts";
import { wholeNumber } from "../flag-values.ts";
import type { Output } from "../output.ts";
import { viewExplanation } from "../retry-view.ts";
import type { GlobalFlags } from "../session.ts";
import { table } from "../wording.ts";

type ExplainFlags = {
  readonly policy?: string;
  readonly preset?: string;
  readonly attempts: number;
  readonly error?: string;
  readonly retryAfter?: string;
};

/** Rows that fit a screen. */
const attemptsShownDefault = 20;

/** About retry policies. No server is asked: the same function that decides in production is in here. */
export const addRetry = (program: Command, output: Output): void => {
  const retry = program
    .command("retry")
    .summary("show what a retry policy would do")
    .description("Shows what a retry policy would do, before it does it. No server is asked.");
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
  escapement retry explain --policy policy.json --error throttled:http_429 --retry-after 30s`,
    )
    .action(async (flags: ExplainFlags, command: Command) => {
      const { json } = command.optsWithGlobals<GlobalFlags>();
      const explanation = simulated({
        ...(flags.policy === undefined
          ? { preset: flags.preset ?? "default" }
          : { policy: await policyIn(flags.policy) }),
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

const simulated = (request: object) => {
  try {
    return simulateRetries(request);
  } catch (error) {
    // What is wrong stands in the file or the flags, so it is a usage error and no answer of a server.
    if (isEscapementError(error)) throw new UsageError(error.message);
    throw error;
  }
};

const errorFrom = (text = ""): { class?: string; code?: string } => {
  const colon = text.indexOf(":");
  if (colon < 0) return text === "" ? {} : { class: text };
  return { class: text.slice(0, colon), code: text.slice(colon + 1) };
};

const policyIn = async (path: string): Promise<unknown> => {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    throw new UsageError(`Cannot read the policy from ${path}: ${(error as Error).message}`);
  }
  try {
    return JSON.parse(text);
  } catch {
    throw new UsageError(`${path} is not JSON.`);
  }
};
