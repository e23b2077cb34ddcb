import { type Command, Option } from "commander";
import { UsageError } from "../exit-codes.ts";
import { wholeNumber } from "../flag-values.ts";
import { type MessageFlags, messageFrom, withMessageFlags } from "../message-flags.ts";
import { viewScheduled } from "../message-view.ts";
import type { Output } from "../output.ts";
import { scheduleFile } from "../schedule-file.ts";
import { withSession } from "../session.ts";

type ScheduleFlags = MessageFlags & {
  readonly file?: string;
  readonly batchSize?: number;
  readonly concurrency?: number;
};

const fileFlags = new Set(["file", "batchSize", "concurrency"]);

export const addSchedule = (program: Command, output: Output): void => {
  withMessageFlags(program.command("schedule").summary("hand a message over for later, or a file of messages"))
    .description(
      "Hands a message over: at its time it appears on your topic. Prints its id.\n\nWith --file, every line is one message as JSON, with the fields of the HTTP API.",
    )
    .optionsGroup("A file of messages:")
    .addOption(new Option("-f, --file <path>", "one message as JSON on each line, - for standard input"))
    .option("--batch-size <n>", "lines in one request (default: 200)", wholeNumber(1, 1_000))
    .option("--concurrency <n>", "requests under way at a time (default: 4)", wholeNumber(1, 64))
    .addHelpText("after", examples)
    .action(async (flags: ScheduleFlags, command: Command) => {
      checkTogether(flags);
      await withSession(command, output, async ({ client, json }) => {
        if (flags.file !== undefined) {
          const { file, batchSize, concurrency } = flags;
          await scheduleFile(client, { file, batchSize, concurrency, json }, output);
          return;
        }
        const reply = await client.schedule(await messageFrom(flags));
        if (json) output.printJson(reply);
        else output.print(viewScheduled(reply, output.nowMs()));
      });
    });
};

const checkTogether = (flags: ScheduleFlags): void => {
  const ofMessage = Object.keys(flags).filter((name) => !fileFlags.has(name) && name in flags);
  const local = ofMessage.filter((name) => name !== "url" && name !== "json" && name !== "timeout");
  if (flags.file !== undefined && local.length > 0) {
    throw new UsageError("With --file, the fields of a message stand on its line; drop the other message flags.");
  }
  if (flags.file === undefined && (flags.batchSize !== undefined || flags.concurrency !== undefined)) {
    throw new UsageError("--batch-size and --concurrency go with --file.");
  }
};

const examples = `
Examples:
  escapement schedule --topic orders --body '{"order":7}' --delay 30m
  escapement schedule -t orders -b hello -a 2030-01-01T09:00:00+08:00 --key order-7 -p color=red
  escapement schedule -t images --body-file picture.png --delay 5s
  escapement schedule --file messages.ndjson
  escapement schedule --file - --json < messages.ndjson > results.ndjson

A line of such a file:
  {"topic":"orders","body":"hello","delay":"30m","key":"order-7"}

Rejected lines are printed with their number to standard error; with --json every line gives one line of JSON,
{"line":1,"message":{…}} or {"line":2,"error":{…}}. A "json" field is taken as a body that is a JSON value.`;
