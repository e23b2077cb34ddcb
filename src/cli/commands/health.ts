import type { Command } from "commander";
import { exitCode, QuietExit } from "../exit-codes.ts";
import type { Output } from "../output.ts";
import { withSession } from "../session.ts";
import { printable } from "../wording.ts";

export const addHealth = (program: Command, output: Output): void => {
  program
    .command("health")
    .summary("say whether the server is well")
    .description("Says whether the server is ready to accept and to send. Ends with 0 only when all is well.")
    .addHelpText("after", "\nExample:\n  until escapement health; do sleep 1; done")
    .action(async (_flags: unknown, command: Command) => {
      await withSession(command, output, async ({ client, json }) => {
        const health = await client.health();
        const well = health.status === "ok";
        if (json) output.printJson(health);
        else {
          output.print(output.style(well ? "green" : "yellow", printable(health.status)));
          for (const { code, detail } of health.problems) output.print(`  ${printable(`${code}: ${detail}`)}`);
        }
        if (!well) throw new QuietExit(exitCode.refused);
      });
    });
};
