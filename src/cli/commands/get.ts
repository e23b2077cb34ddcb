import type { Command } from "commander";
import { viewDetails } from "../message-view.ts";
import type { Output } from "../output.ts";
import { type RefFlags, refOf, withRefFlags, withSession } from "../session.ts";

export const addGet = (program: Command, output: Output): void => {
  withRefFlags(program.command("get").summary("show a message and its state"))
    .description(
      "Shows what is known of a message. After it has ended, its outcome is kept for a while (an hour by default).",
    )
    .option("--body", "show the body too")
    .addHelpText(
      "after",
      `
Examples:
  escapement get 01939af8-7c1e-7b2a-9f00-2f8f6d1c4a07 --body
  escapement get --key order-7
  escapement get --key order-7 --json --body | jq -r .bodyBase64 | base64 -d`,
    )
    .action(async (id: string | undefined, flags: RefFlags & { body?: boolean }, command: Command) => {
      const ref = refOf(id, flags);
      await withSession(command, output, async ({ client, json }) => {
        const message = await client.get(ref, { body: flags.body ?? false });
        if (!json) {
          output.print(viewDetails(message, output.nowMs()).join("\n"));
          return;
        }
        const { body, ...details } = message;
        const bodyBase64 = body && Buffer.from(body.buffer, body.byteOffset, body.length).toString("base64");
        output.printJson({ ...details, bodyBase64 });
      });
    });
};
