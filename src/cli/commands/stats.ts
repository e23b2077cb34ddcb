import type { Command } from "commander";
import type { Output } from "../output.ts";
import { withSession } from "../session.ts";
import { viewStats } from "../stats-view.ts";

export const addStats = (program: Command, output: Output): void => {
  program
    .command("stats")
    .summary("show what waits, what is due soon, and how late messages are")
    .description("Shows what waits, what is due soon, how late messages are sent, and who owns which shard.")
    .addHelpText(
      "after",
      `
Examples:
  escapement stats
  escapement stats --json | jq .waiting.total`,
    )
    .action(async (_flags: unknown, command: Command) => {
      await withSession(command, output, async ({ client, json }) => {
        const stats = await client.stats();
        if (json) output.printJson(stats);
        else output.print(viewStats(stats, output.style).join("\n"));
      });
    });
};
