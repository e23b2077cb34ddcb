import type { Command } from "commander";
import { atEachBroker, type BrokerFlags, brokerOption } from "../brokers.ts";
import { wholeNumber } from "../flag-values.ts";
import type { Output } from "../output.ts";
import type { GlobalFlags } from "../session.ts";
import { printable } from "../wording.ts";

type CreateFlags = BrokerFlags & { readonly retries: number };

export const addGroups = (program: Command, output: Output): void => {
  const groups = program
    .command("groups")
    .summary("create RocketMQ consumer groups")
    .description(
      "Creates RocketMQ consumer groups. This speaks to the brokers themselves, not to the Escapement server.",
    );
  groups
    .command("create")
    .summary("create a consumer group at the brokers")
    .description(
      "Creates a consumer group at every broker given, or changes its number of retries. A proxy refuses consumers of groups that do not exist.",
    )
    .argument("<name>", "name of the group: letters, digits, _ - % |, at most 120")
    .option(
      "--retries <n>",
      "redeliveries before a message goes to the group's dead letter topic",
      wholeNumber(0, 1_000_000),
      16,
    )
    .addOption(brokerOption())
    .addHelpText("after", "\nExample:\n  escapement groups create billing --broker 127.0.0.1:8081")
    .action(async (name: string, flags: CreateFlags, command: Command) => {
      const { json } = command.optsWithGlobals<GlobalFlags>();
      const brokers = await atEachBroker(flags, command, (admin) =>
        admin.createGroup({ name, retryMaxTimes: flags.retries }),
      );
      if (json) output.printJson({ name, retries: flags.retries, brokers });
      else output.print(`${printable(name)} is there: ${flags.retries} retries, at ${brokers.join(", ")}`);
    });
};
