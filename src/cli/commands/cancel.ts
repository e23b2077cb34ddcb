import type { Command } from "commander";
import { viewReply } from "../message-view.ts";
import type { Output } from "../output.ts";
import { type RefFlags, refOf, withRefFlags, withSession } from "../session.ts";

export const addCancel = (program: Command, output: Output): void => {
  withRefFlags(program.command("cancel").summary("take a message back"))
    .description("Takes a message back. Once this says canceled, no copy of it is ever sent. Canceling twice is fine.")
    .addHelpText(
      "after",
      `
Examples:
  escapement cancel 01939af8-7c1e-7b2a-9f00-2f8f6d1c4a07
  escapement cancel --key order-7
  escapement cancel --key step-3 --message-group order-7`,
    )
    .action(async (id: string | undefined, flags: RefFlags, command: Command) => {
      const ref = refOf(id, flags);
      await withSession(command, output, async ({ client, json }) => {
        const reply = await client.cancel(ref);
        if (json) output.printJson(reply);
        else output.print(viewReply("canceled", reply, output.nowMs()));
      });
    });
};
