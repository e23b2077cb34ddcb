import { type Command, Option } from "commander";
import { UsageError } from "../exit-codes.ts";
import { timeoutMs, wholeNumber } from "../flag-values.ts";
import type { Output } from "../output.ts";
import { rocketmqAccess } from "../rocketmq-access.ts";
import type { GlobalFlags } from "../session.ts";
import { duration, number, printable, table } from "../wording.ts";

/** The commands of transactional sends. They speak to the database and the broker, not to the Escapement server. */

type MysqlFlags = { readonly mysql?: string };

const mysqlOption = (): Option =>
  new Option(
    "--mysql <url>",
    "the database: mysql://user:password@host:3306/name (a password is better in MYSQL_URL)",
  ).env("MYSQL_URL");

const mysqlOf = ({ mysql }: MysqlFlags): string => {
  if (mysql === undefined || mysql === "") throw new UsageError("Say which database: --mysql URL, or set MYSQL_URL.");
  if (!URL.canParse(mysql) || !/^(mysql|mariadb):$/.test(new URL(mysql).protocol)) {
    throw new UsageError("--mysql is an address such as mysql://user:password@host:3306/name.");
  }
  return mysql.replace(/^mariadb:/, "mysql:");
};

export const addOutbox = (program: Command, output: Output): void => {
  const outbox = program
    .command("outbox")
    .summary("the tables of transactional sends: make, show, send again")
    .description("The tables in your database that transactional sends need (docs/transactions.md).");
  outbox
    .command("migrate")
    .summary("make or upgrade the tables")
    .description(
      "Makes the tables, or brings them up to this version. May be run again at any time, by several at once; tables of a newer version are left as they are.",
    )
    .addOption(mysqlOption())
    .addHelpText(
      "after",
      `
Examples:
  escapement outbox migrate --mysql mysql://app@127.0.0.1:3306/shop
  MYSQL_URL=mysql://app:secret@db:3306/shop escapement outbox migrate`,
    )
    .action(async (flags: MysqlFlags, command: Command) => {
      const url = mysqlOf(flags);
      const { migrate } = await import("../../tx-producer.ts");
      const report = await migrate(url);
      if (command.optsWithGlobals<GlobalFlags>().json) output.printJson(report);
      else if (report.from === report.to) output.print(`the outbox has version ${report.to}; nothing to do`);
      else
        output.print(`the outbox now has version ${report.to} (before: ${report.from === 0 ? "none" : report.from})`);
    });
  outbox
    .command("show")
    .summary("what waits, what fails, what was put aside")
    .description("Counts what waits in the outbox and what was put aside, with the reasons.")
    .addOption(mysqlOption())
    .addHelpText("after", "\nExample:\n  MYSQL_URL=mysql://app@db:3306/shop escapement outbox show")
    .action(async (flags: MysqlFlags, command: Command) => {
      const url = mysqlOf(flags);
      const { withOutboxDesk } = await import("../../tx-producer.ts");
      const overview = await withOutboxDesk(url, (desk) => desk.overview());
      if (command.optsWithGlobals<GlobalFlags>().json) return output.printJson(overview);
      const { waiting, tried, oldestMs, troubles, dead } = overview;
      const age = waiting === 0 ? "" : `, the oldest for ${duration(oldestMs)}`;
      output.print(`${number(waiting)} wait${age}; ${number(tried)} of them were tried in vain`);
      const rows = [
        ...troubles.map(({ topic, lastError, messages }) => ["waits", topic, number(messages), printable(lastError)]),
        ...dead.map(({ topic, reason, messages }) => ["aside", topic, number(messages), printable(reason)]),
      ];
      if (rows.length > 0) output.print(table(rows).join("\n"));
    });
  outbox
    .command("resend")
    .summary("send again what was put aside")
    .description(
      "Moves messages that were put aside back into the outbox: after their topic was made, or its type put right. They keep their ids; the order among them is not kept.",
    )
    .option("--topic <name>", "only those of this topic")
    .addOption(mysqlOption())
    .addHelpText("after", "\nExample:\n  MYSQL_URL=mysql://app@db:3306/shop escapement outbox resend --topic orders")
    .action(async (flags: MysqlFlags & { readonly topic?: string }, command: Command) => {
      const url = mysqlOf(flags);
      const { withOutboxDesk } = await import("../../tx-producer.ts");
      const moved = await withOutboxDesk(url, (desk) => desk.resend(flags.topic));
      if (command.optsWithGlobals<GlobalFlags>().json) output.printJson({ resent: moved });
      else output.print(`${number(moved)} are in the outbox again`);
    });
};

type RelayFlags = MysqlFlags & {
  readonly endpoint?: string;
  readonly ingestTopic: string;
  readonly batch: number;
  readonly perSecond: number;
  readonly inboxKeepHours?: number;
  readonly sendTimeout: number;
};

export const addRelay = (program: Command): void => {
  program
    .command("relay")
    .summary("send what waits in an outbox, in this process")
    .description(
      "Sends what waits in the outbox of a database until SIGTERM or SIGINT. Any number of them share the work. Applications that let their producer run the relay need none.",
    )
    .addOption(mysqlOption())
    .addOption(new Option("--endpoint <host:port>", "the RocketMQ 5 proxy").env("ROCKETMQ_ENDPOINT"))
    .addOption(
      new Option("--ingest-topic <name>", "where delayed messages go in").env("INGEST_TOPIC").default("ESC_INGEST"),
    )
    .option("--batch <n>", "rows read at a time from a shard, 1 to 1000", wholeNumber(1, 1_000), 200)
    .option("--per-second <n>", "messages a second at most, when catching up", wholeNumber(1, 1_000_000), 5_000)
    .option("--send-timeout <time>", "how long one send may take: 500ms, 3s", timeoutMs, 3_000)
    .option(
      "--inbox-keep-hours <n>",
      "also remove rows of the inbox that are older, 1 to 87600 (default: the inbox is left alone)",
      wholeNumber(1, 87_600),
    )
    .addHelpText(
      "after",
      `
With --url (or ESCAPEMENT_URL), the delay server's address, it also sends cancels of delayed messages.
ROCKETMQ_TLS, ROCKETMQ_ACCESS_KEY and ROCKETMQ_ACCESS_SECRET are read as by escapement serve.

Example:
  MYSQL_URL=mysql://app@127.0.0.1:3306/shop escapement relay --endpoint 127.0.0.1:8081`,
    )
    .action(async (flags: RelayFlags, command: Command) => {
      const mysql = mysqlOf(flags);
      const { url: delayServer } = command.optsWithGlobals<GlobalFlags>();
      const { endpoint, ingestTopic, batch, perSecond, inboxKeepHours, sendTimeout } = flags;
      if (endpoint === undefined || endpoint === "") {
        throw new UsageError("Say where RocketMQ is: --endpoint HOST:PORT, or set ROCKETMQ_ENDPOINT.");
      }
      const { runRelay } = await import("../../run-relay.ts");
      await runRelay({
        mysql,
        rocketmq: {
          endpoint,
          sendTimeoutMs: sendTimeout,
          ...rocketmqAccess(process.env),
        },
        ...(delayServer === undefined ? undefined : { delayServer }),
        ingestTopic,
        batch,
        perSecondMax: perSecond,
        ...(inboxKeepHours === undefined ? undefined : { inboxKeepMs: inboxKeepHours * 3_600_000 }),
      });
    });
};
