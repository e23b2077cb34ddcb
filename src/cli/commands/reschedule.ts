import type { Command } from "commander";
import { property, timeOrText } from "../flag-values.ts";
import { type ChangeFlags, changeFrom, withBodyFlags, withTimeFlags } from "../message-flags.ts";
import { viewReply } from "../message-view.ts";
import type { Output } from "../output.ts";
import { type RefFlags, refOf, withRefFlags, withSession } from "../session.ts";

export const addReschedule = (program: Command, output: Output): void => {
  withBodyFlags(
    withTimeFlags(withRefFlags(program.command("reschedule").summary("give a waiting message another time"))),
  )
    .description(
      "Gives a waiting message another time, and as you like another body, other properties or another expiry.",
    )
    .option(
      "-p, --property <name=value>",
      "a property; all given ones together replace the old; repeat for more",
      property,
    )
    .option(
      "-e, --expire-after <time>",
      "not delivered later than this after it is due, or than this instant",
      timeOrText,
    )
    .option("--no-expire", "remove the expiry")
    .addHelpText(
      "after",
      `
Examples:
  escapement reschedule 01939af8-7c1e-7b2a-9f00-2f8f6d1c4a07 --delay 1h
  escapement reschedule --key order-7 --deliver-at 2030-01-01T09:00:00+08:00 --body 'new text'`,
    )
    .action(async (id: string | undefined, flags: RefFlags & ChangeFlags, command: Command) => {
      const ref = refOf(id, flags);
      const change = await changeFrom(flags);
      await withSession(command, output, async ({ client, json }) => {
        const reply = await client.reschedule(ref, change);
        if (json) output.printJson(reply);
        else output.print(viewReply("rescheduled", reply, output.nowMs()));
      });
    });
};
