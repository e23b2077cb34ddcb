import type { Command } from "commander";
import { atEachBroker, type BrokerFlags, brokerOption, deleteAtBrokers, listAtBrokers } from "../brokers.ts";
import { wholeNumber } from "../flag-values.ts";
import type { Output } from "../output.ts";
import type { GlobalFlags } from "../session.ts";
import { printable } from "../wording.ts";

type CreateFlags = BrokerFlags & { readonly retries: number };

export const addGroups = (program: Command, output: Output): void => {
  const groups = program
    .command("groups")
    .summary("create, list and delete RocketMQ consumer groups")
    .description(
      "Creates, lists and deletes RocketMQ consumer groups. This speaks to the brokers themselves, not to the Escapement server.",
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
  groups
    .command("list")
    .summary("list the consumer groups that the brokers have")
    .description(
      "Lists the consumer groups of every broker given: one row where brokers agree, one for each way they differ.",
    )
    .option("--all", "also RocketMQ's own")
    .addOption(brokerOption())
    .addHelpText("after", "\nExample:\n  escapement groups list --broker 127.0.0.1:8081")
    .action(async (flags: BrokerFlags & { readonly all?: boolean }, command: Command) => {
      await listAtBrokers("consumer groups", flags, command, output, async (admin) =>
        (await admin.groups(flags)).map(({ name, retryMaxTimes, orderly }) => ({
          name,
          retries: retryMaxTimes,
          ordered: orderly,
        })),
      );
    });
  groups
    .command("delete")
    .summary("delete a consumer group at the brokers")
    .description(
      "Deletes a consumer group and how far it has read, without asking, at every broker given that has it. One of the same name begins anew, and a consumer that is still running may bring it back.",
    )
    .argument("<name>", "name of the group")
    .addOption(brokerOption())
    .addHelpText("after", "\nExample:\n  escapement groups delete billing --broker 127.0.0.1:8081")
    .action(async (name: string, flags: BrokerFlags, command: Command) => {
      const { json } = command.optsWithGlobals<GlobalFlags>();
      const brokers = await deleteAtBrokers(
        `consumer group ${name}`,
        flags,
        command,
        // Not by name: a broker with its default settings makes the group that it is asked for.
        async (admin) => (await admin.groups({ all: true })).some((group) => group.name === name),
        (admin) => admin.deleteGroup(name),
      );
      if (json) output.printJson({ name, deleted: true, brokers });
      else output.print(`deleted consumer group ${printable(name)} at ${brokers.join(", ")}`);
    });
};
