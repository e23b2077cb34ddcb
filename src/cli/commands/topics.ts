import { type Command, Option } from "commander";
import { atEachBroker, type BrokerFlags, brokerOption, deleteAtBrokers, listAtBrokers } from "../brokers.ts";
import { wholeNumber } from "../flag-values.ts";
import type { Output } from "../output.ts";
import type { GlobalFlags } from "../session.ts";
import { printable } from "../wording.ts";

type CreateFlags = BrokerFlags & {
  readonly type: "NORMAL" | "FIFO" | "DELAY" | "TRANSACTION";
  readonly queues: number;
};

export const addTopics = (program: Command, output: Output): void => {
  const topics = program
    .command("topics")
    .summary("create, list and delete RocketMQ topics")
    .description(
      "Creates, lists and deletes RocketMQ topics. This speaks to the brokers themselves, not to the Escapement server.",
    );
  topics
    .command("create")
    .summary("create a topic at the brokers")
    .description(
      "Creates a topic at every broker given, or changes its number of queues. The type of an existing topic cannot be changed.",
    )
    .argument("<name>", "name of the topic: letters, digits, _ - % |, at most 127")
    .addOption(
      new Option("--type <type>", "what the topic is for; messages scheduled with a message group need FIFO")
        .choices(["NORMAL", "FIFO", "DELAY", "TRANSACTION"])
        .default("NORMAL"),
    )
    .option("--queues <n>", "read and write queues, 1 to 1024", wholeNumber(1, 1_024), 8)
    .addOption(brokerOption())
    .addHelpText(
      "after",
      `
Examples:
  escapement topics create orders --broker 127.0.0.1:8081    at npm start or escapement broker
  ROCKETMQ_ADMIN=10.0.0.5:10911,10.0.0.6:10911 escapement topics create steps --type FIFO --queues 16`,
    )
    .action(async (name: string, flags: CreateFlags, command: Command) => {
      const { json } = command.optsWithGlobals<GlobalFlags>();
      let { queues } = flags;
      const brokers = await atEachBroker(flags, command, async (admin) => {
        await admin.createTopic({ name, type: flags.type, queues: flags.queues });
        // The embedded broker takes none away: fewer would hide messages.
        queues = Math.max(queues, (await admin.topic(name))?.queues ?? 0);
      });
      const topic = { name, type: flags.type, queues, brokers };
      if (json) output.printJson(topic);
      else output.print(`${printable(name)} is there: ${flags.type}, ${queues} queues, at ${brokers.join(", ")}`);
    });
  topics
    .command("list")
    .summary("list the topics that the brokers have")
    .description("Lists the topics of every broker given: one row where brokers agree, one for each way they differ.")
    .option("--all", "also RocketMQ's own, and the topics in which it keeps retries")
    .addOption(brokerOption())
    .addHelpText(
      "after",
      `
Examples:
  escapement topics list --broker 127.0.0.1:8081
  ROCKETMQ_ADMIN=10.0.0.5:10911,10.0.0.6:10911 escapement topics list --json | jq -r '.[].name'`,
    )
    .action(async (flags: BrokerFlags & { readonly all?: boolean }, command: Command) => {
      await listAtBrokers("topics", flags, command, output, async (admin) =>
        (await admin.topics(flags)).map(({ name, type, queues }) => ({ name, type, queues })),
      );
    });
  topics
    .command("delete")
    .summary("delete a topic and its messages at the brokers")
    .description("Deletes a topic with all its messages, without asking, at every broker given that has it.")
    .argument("<name>", "name of the topic")
    .addOption(brokerOption())
    .addHelpText(
      "after",
      `
${routeNote}

Example:
  escapement topics delete orders --broker 127.0.0.1:8081`,
    )
    .action(async (name: string, flags: BrokerFlags, command: Command) => {
      const { json } = command.optsWithGlobals<GlobalFlags>();
      const brokers = await deleteAtBrokers(
        `topic ${name}`,
        flags,
        command,
        (admin) => admin.topicExists(name),
        (admin) => admin.deleteTopic(name),
      );
      if (json) return output.printJson({ name, deleted: true, brokers });
      output.print(`deleted topic ${printable(name)} at ${brokers.join(", ")}`);
      output.tell(routeNote);
    });
};

/** Seen at RocketMQ 5.5.0: the broker forgets the topic at once, the name server still had its route minutes later. */
const routeNote =
  "The name servers of a RocketMQ cluster may go on showing its route for a while;\nmqadmin deleteTopic removes it there, too.";
