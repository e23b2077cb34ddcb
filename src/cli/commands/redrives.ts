import { setTimeout as pause } from "node:timers/promises";
import type { Command } from "commander";
import type { RedriveReply } from "../../wire/dead.ts";
import { whoOf } from "../dead-flags.ts";
import { countsText, viewRedrive, viewRedrives } from "../dead-view.ts";
import { wholeNumber } from "../flag-values.ts";
import type { Output } from "../output.ts";
import { withSession } from "../session.ts";
import { printable } from "../wording.ts";

const watchEveryMs = 1_000;
/** Nothing more happens until somebody says so. */
const still: ReadonlySet<RedriveReply["state"]> = new Set(["finished", "paused", "stopped", "canceled"]);

/** Redrives that were begun with `dead redrive`. */
export const addRedrives = (program: Command, output: Output): void => {
  const redrives = program
    .command("redrives")
    .summary("watch, pause, resume and cancel redrives of dead messages")
    .description("Redrives bring dead messages back; `escapement dead redrive` begins one.");
  redrives
    .command("list")
    .summary("list redrives, oldest first")
    .option("--limit <n>", "how many at most", wholeNumber(1, 1_000), 100)
    .option("--cursor <text>", "go on where the last list ended")
    .addHelpText("after", "\nExample:\n  escapement redrives list")
    .action(async (flags: { readonly limit: number; readonly cursor?: string }, command: Command) => {
      await withSession(command, output, async ({ client, json }) => {
        const page = await client.dead.redrives(flags);
        if (json) output.printJson(page);
        else {
          output.print(
            page.items.length === 0
              ? "no redrives yet; begin one with: escapement dead redrive"
              : viewRedrives(page.items, output.style, output.nowMs()).join("\n"),
          );
          if (page.cursor !== undefined) output.tell(`there is more: --cursor '${page.cursor}'`);
        }
      });
    });
  redrives
    .command("show")
    .summary("show how far a redrive is")
    .argument("<id>", "its id")
    .option("--outcomes [outcome]", "also each message, or those with this outcome, such as dead-again")
    .addHelpText("after", "\nExample:\n  escapement redrives show mg3v0k2h1x9q --outcomes dead-again")
    .action(async (id: string, flags: { readonly outcomes?: string | true }, command: Command) => {
      await withSession(command, output, async ({ client, json }) => {
        const redrive = await client.dead.redriveOf(id);
        if (json) output.printJson(redrive);
        else output.print(viewRedrive(redrive, output.style, output.nowMs()).join("\n"));
        if (flags.outcomes === undefined) return;
        const query = flags.outcomes === true ? {} : { outcome: flags.outcomes };
        let cursor: string | undefined;
        do {
          const page = await client.dead.outcomes(id, { ...query, ...(cursor === undefined ? {} : { cursor }) });
          for (const item of page.items) {
            if (json) output.printJson(item);
            else output.print(`${item.id}  ${item.outcome}`);
          }
          cursor = page.cursor;
        } while (cursor !== undefined);
      });
    });
  redrives
    .command("watch")
    .summary("follow a redrive until it ends, stops or is paused")
    .argument("<id>", "its id")
    .addHelpText("after", "\nExample:\n  escapement redrives watch mg3v0k2h1x9q")
    .action(async (id: string, _flags: unknown, command: Command) => {
      await withSession(command, output, async ({ client, json }) => {
        let shown = "";
        for (;;) {
          const redrive = await client.dead.redriveOf(id);
          const line = `${redrive.state}: ${countsText(redrive)}`;
          if (line !== shown) {
            if (json) output.printJson(redrive);
            else output.print(line);
            shown = line;
          }
          if (still.has(redrive.state)) {
            if (!json && redrive.note !== undefined) output.print(printable(redrive.note));
            return;
          }
          await pause(watchEveryMs);
        }
      });
    });
  for (const [name, summary] of [
    ["pause", "pause a redrive; what is due within a second or two may still go"],
    ["resume", "go on with a redrive that is paused or has stopped itself"],
    ["cancel", "end a redrive; what it has not sent stays dead"],
  ] as const) {
    redrives
      .command(name)
      .summary(summary)
      .argument("<id>", "its id")
      .option("--reason <text>", "why; stands in the audit")
      .option("--by <name>", "who (default: your user name)")
      .addHelpText("after", `\nExample:\n  escapement redrives ${name} mg3v0k2h1x9q --reason "as agreed"`)
      .action(async (id: string, flags: { readonly reason?: string; readonly by?: string }, command: Command) => {
        await withSession(command, output, async ({ client, json }) => {
          const who = { by: whoOf(flags), ...(flags.reason === undefined ? {} : { reason: flags.reason }) };
          const redrive = await client.dead.command(id, name, who);
          if (json) output.printJson(redrive);
          else output.print(viewRedrive(redrive, output.style, output.nowMs()).join("\n"));
        });
      });
  }
};
