import { type Command, Option } from "commander";
import type { Finding } from "../../tx/doctor/findings.ts";
import type { DiscardedHalf, TransactionAdmin } from "../../tx/doctor/transaction-admin.port.ts";
import { brokerOption } from "../brokers.ts";
import { exitCode, QuietExit, UsageError } from "../exit-codes.ts";
import { timeoutMs, wholeNumber, word } from "../flag-values.ts";
import type { Output } from "../output.ts";
import { rocketmqAccess } from "../rocketmq-access.ts";
import type { GlobalFlags } from "../session.ts";
import { printable, table } from "../wording.ts";

/** Transactional (half) messages, as an operator meets them: can this cluster do it, and what has it put aside. */

type Flags = { readonly broker?: string };
type DoctorFlags = Flags & {
  readonly topic: readonly string[];
  readonly endpoint?: string;
  readonly longestTransaction?: number;
  readonly waitForCheck?: number;
  readonly proxyMemory?: number;
};

export const addTx = (program: Command, output: Output): void => {
  const tx = program
    .command("tx")
    .summary("examine a cluster for transactional (half) messages")
    .description(
      "Half messages at the brokers themselves (docs/transactions.md). Does not speak to the Escapement server.",
    );
  tx.command("doctor")
    .summary("say whether this cluster can do what half messages need")
    .description("Asks brokers and proxy, and says for each finding what it rests on and what to do. Changes nothing.")
    .requiredOption("--topic <name>", "topic of half messages; may be given several times", word)
    .addOption(brokerOption())
    .addOption(
      new Option("--endpoint <host:port>", "the RocketMQ 5 proxy, for the two probes").env("ROCKETMQ_ENDPOINT"),
    )
    .option("--longest-transaction <time>", "how long your transactions may take (default: 30s)", timeoutMs)
    .option(
      "--wait-for-check <time>",
      "leave a half open for so long at most, to see whether the broker asks",
      timeoutMs,
    )
    .option(
      "--proxy-memory <time>",
      "leave a half open for so long, to see whether the proxy still knows it",
      timeoutMs,
    )
    .addHelpText(
      "after",
      `
Ends with 1 when something is bad. The probes read ROCKETMQ_TLS, ROCKETMQ_ACCESS_KEY and ROCKETMQ_ACCESS_SECRET as
escapement serve does.

Example:
  escapement tx doctor --topic orders_tx --broker 10.0.0.5:10911 --endpoint 10.0.0.5:8081 --wait-for-check 2m`,
    )
    .action(async (flags: DoctorFlags, command: Command) => {
      const brokers = brokersOf(flags);
      const { endpoint = "", waitForCheck, proxyMemory, longestTransaction } = flags;
      if (endpoint === "" && (waitForCheck !== undefined || proxyMemory !== undefined)) {
        throw new UsageError("The probes send a half message: --endpoint HOST:PORT, or set ROCKETMQ_ENDPOINT.");
      }
      const { examineCluster } = await import("../../half-doctor.ts");
      const { silentLog } = await import("../../runtime/log.ts");
      const report = await examineCluster({
        topics: flags.topic,
        brokers,
        session: { endpoint, ...rocketmqAccess(process.env) },
        log: silentLog,
        ...(waitForCheck === undefined ? {} : { waitForCheckMs: waitForCheck }),
        ...(proxyMemory === undefined ? {} : { proxyMemoryMs: proxyMemory }),
        ...(longestTransaction === undefined ? {} : { longestTransactionMs: longestTransaction }),
      });
      if (command.optsWithGlobals<GlobalFlags>().json) output.printJson(report);
      else output.print(report.findings.flatMap((finding) => viewFinding(finding, output)).join("\n"));
      if (!report.healthy) throw new QuietExit(exitCode.refused);
    });
  const discarded = tx
    .command("discarded")
    .summary("half messages that the broker has put aside")
    .description(
      "Half messages about which nobody answered in time. They lie in the broker's TRANS_CHECK_MAX_TIME_TOPIC.",
    );
  discarded
    .command("list")
    .summary("list them, the newest last")
    .option("--limit <n>", "the newest so many, 1 to 10000", wholeNumber(1, 10_000), 100)
    .addOption(brokerOption())
    .addHelpText("after", "\nExample:\n  escapement tx discarded list --broker 127.0.0.1:10911 --limit 20")
    .action(async (flags: Flags & { readonly limit: number }, command: Command) => {
      const found = await eachBroker(flags, async (admin) =>
        (await newestDiscarded(admin, flags.limit)).map((half) => ({ ...half, broker: admin.broker })),
      );
      const halves = found.flat();
      if (command.optsWithGlobals<GlobalFlags>().json) return output.printJson(halves);
      if (halves.length === 0) return output.tell("none");
      output.print(viewDiscarded(halves).join("\n"));
      output.tell(resumeNote);
    });
  discarded
    .command("resume")
    .summary("have the broker ask about one once more")
    .description(`Opens a discarded half again: its producers are asked as if it had just been sent. ${resumeNote}`)
    .argument("<offset id...>", "as list shows them")
    .addOption(brokerOption())
    .addHelpText(
      "after",
      "\nExample:\n  escapement tx discarded resume 7F00000100002A9F0000000000000A3B --broker 127.0.0.1:10911",
    )
    .action(async (ids: string[], flags: Flags, command: Command) => {
      const wrong = ids.find((id) => !/^([0-9A-F]{32}|[0-9A-F]{56})$/i.test(id));
      if (wrong !== undefined) throw new UsageError(`"${wrong}" is not an offset id as list shows them.`);
      const brokers = brokersOf(flags);
      if (brokers.length !== 1) throw new UsageError("An offset id belongs to one broker: give that one to --broker.");
      await eachBroker(flags, async (admin) => {
        for (const id of ids) await admin.resume(id.toUpperCase());
      });
      if (command.optsWithGlobals<GlobalFlags>().json) return output.printJson({ resumed: ids });
      output.print(`resumed ${ids.length}`);
      output.tell(resumeNote);
    });
};

const resumeNote =
  "Resuming twice makes two halves, and one that was made visible since becomes a second copy unless its producer says otherwise; Escapement's half mode does, and sends its own again by itself.";

const brokersOf = ({ broker = "" }: Flags): string[] => {
  const brokers = broker.split(",").flatMap((part) => part.trim() || []);
  if (brokers.length === 0) throw new UsageError("Say where: --broker HOST:PORT, or set ROCKETMQ_ADMIN.");
  return brokers;
};

const eachBroker = async <T>(flags: Flags, act: (admin: TransactionAdmin) => Promise<T>): Promise<T[]> => {
  const { createTransactionAdmin } = await import("../../adapters/rocketmq/transaction-admin.ts");
  const { systemTimers } = await import("../../adapters/system/system-time.ts");
  const answers: T[] = [];
  for (const broker of brokersOf(flags))
    answers.push(await act(createTransactionAdmin({ broker, timers: systemTimers })));
  return answers;
};

const newestDiscarded = async (admin: TransactionAdmin, limit: number): Promise<DiscardedHalf[]> => {
  const { first, next } = await admin.discarded();
  const found: DiscardedHalf[] = [];
  for (let from = Math.max(first, next - limit); from < next; from = found.at(-1)!.offset + 1) {
    const page = await admin.readDiscarded(from);
    if (page.length === 0) break;
    found.push(...page);
  }
  return found;
};

const marks = {
  ok: ["green", "ok     "],
  warning: ["yellow", "warning"],
  bad: ["red", "bad    "],
  unknown: ["dim", "unknown"],
} as const;

const viewFinding = ({ level, code, about, evidence, advice }: Finding, output: Output): string[] => {
  const [format, mark] = marks[level];
  const line = `${output.style(format, mark)} ${code}  ${printable(about)}: ${printable(evidence)}`;
  return advice === undefined ? [line] : [line, `          ${printable(advice)}`];
};

const viewDiscarded = (halves: readonly (DiscardedHalf & { readonly broker: string })[]): string[] =>
  table([
    ["offset id", "topic", "message id", "ESC_ID", "checks", "put aside", "bytes", "broker"],
    ...halves.map(({ offsetId, topic, messageId, id = "", checks, discardedAtMs, bodyBytes, broker }) => [
      offsetId,
      printable(topic),
      printable(messageId),
      printable(id),
      checks,
      new Date(discardedAtMs).toISOString(),
      bodyBytes,
      broker,
    ]),
  ]);
