import { type Command, Option } from "commander";
import { UsageError } from "../exit-codes.ts";
import { wholeNumber } from "../flag-values.ts";

type BrokerFlags = {
  readonly host: string;
  readonly port: number;
  readonly data?: string;
  readonly autoCreate: boolean;
  readonly flush: "sync" | "async";
  readonly keepHours: number;
  readonly keepGib?: number;
  readonly transactionCheckMs: number;
};

export const addBroker = (program: Command): void => {
  program
    .command("broker")
    .summary("run the RocketMQ-5-compatible broker alone")
    .description(
      "Runs a small RocketMQ 5 broker in this process until SIGTERM or SIGINT, for development, tests and one machine: gRPC, plaintext and TLS, on one port. It has no replicas and no name server; for production run Apache RocketMQ (docs/operations.md shows a cluster).",
    )
    .option("--host <host>", "address to listen on; it asks nobody for a password", "127.0.0.1")
    .option("--port <port>", "port to listen on, 0 for a free one", wholeNumber(0, 65_535), 8_081)
    .option("--data <folder>", "where messages are kept; without it they are in memory and end with the process")
    .option("--no-auto-create", "refuse topics that were not created; by default their first use creates them")
    .addOption(
      new Option("--flush <when>", "sync: a send is answered when it is on disk; async: half a second may be lost")
        .choices(["sync", "async"])
        .default("sync"),
    )
    .option("--keep-hours <n>", "how long messages are kept, 1 to 8760", wholeNumber(1, 8_760), 72)
    .option(
      "--keep-gib <n>",
      "and how many GiB at most, 1 to 10000 (default: 8, in memory 0.25)",
      wholeNumber(1, 10_000),
    )
    .option(
      "--transaction-check-ms <n>",
      "how long a transaction is open before its producer is asked, 500 to 600000",
      wholeNumber(500, 600_000),
      6_000,
    )
    .addHelpText(
      "after",
      `
Topics and groups are made as at a RocketMQ broker, on the same port:
  escapement topics create orders --type FIFO --broker 127.0.0.1:8081

Examples:
  escapement broker
  escapement broker --port 8081 --data ./mq`,
    )
    .action(async (flags: BrokerFlags) => {
      // Loaded only here: every other command starts without the broker and its dependencies.
      const { runBroker } = await import("../../run-broker.ts");
      const { data, keepHours, keepGib, ...rest } = flags;
      if (data === "") throw new UsageError("Say where: --data FOLDER, or leave it out to keep messages in memory.");
      const keepBytes = keepGib === undefined ? undefined : keepGib * 1024 ** 3;
      await runBroker({ ...rest, folder: data, keepMs: keepHours * 3_600_000, keepBytes });
    });
};
