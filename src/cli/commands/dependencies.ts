import type { Command } from "commander";
import type { DependencyDetails, EscapementClient } from "../../sdk/client.ts";
import { viewDependencies, viewDependency, viewMoment } from "../dependency-view.ts";
import { timeoutMs } from "../flag-values.ts";
import type { Output } from "../output.ts";
import { withSession } from "../session.ts";

type ForceFlags = { readonly for: string; readonly reason: string };
type WatchFlags = { readonly every: number; readonly for?: number };

/** What the consumers call: how it is doing, and held open or closed by hand. */
export const addDependencies = (program: Command, output: Output): void => {
  const dependencies = program
    .command("dependencies")
    .summary("see how what your consumers call is doing, and hold it open or closed")
    .description(
      "A dependency is whatever consumers call under one key: an account, a host, a provider. While it fails, its breaker is open: calls are not made, and messages are parked until it is well again.",
    );
  dependencies
    .command("list")
    .summary("list the dependencies and their states")
    .description("Lists what is not well, is forced or has messages parked, and what else consumers report.")
    .addHelpText("after", "\nExample:\n  escapement dependencies list")
    .action(async (_flags: unknown, command: Command) => {
      await withSession(command, output, async ({ client, json }) => {
        const items = await all(client);
        if (json) for (const item of items) output.printJson(item);
        else output.print(viewDependencies(items, output.nowMs(), output.style).join("\n"));
      });
    });
  dependencies
    .command("show")
    .summary("show one dependency")
    .description("Shows one dependency: its state, what is called and allowed, what is parked, and how it is judged.")
    .argument("<key>", "key of the dependency")
    .addHelpText("after", "\nExample:\n  escapement dependencies show acct:4711")
    .action(async (key: string, _flags: unknown, command: Command) => {
      await withSession(command, output, async ({ client, json }) => {
        const item = await client.dependency(key);
        if (json) output.printJson(item);
        else output.print(viewDependency(item, output.nowMs(), output.style).join("\n"));
      });
    });
  dependencies
    .command("watch")
    .summary("print what happens to dependencies as it happens")
    .description(
      "Prints a line for each dependency whenever something changes: its state, what is called, what is parked. Ends with Ctrl-C.",
    )
    .argument("[key]", "only this one")
    .option("--every <time>", "how often to look", timeoutMs, 1_000)
    .option("--for <time>", "how long to watch (default: until Ctrl-C)", timeoutMs)
    .addHelpText(
      "after",
      "\nExamples:\n  escapement dependencies watch\n  escapement dependencies watch acct:4711 --for 2m",
    )
    .action(async (key: string | undefined, flags: WatchFlags, command: Command) => {
      await withSession(command, output, async ({ client, json }) => {
        const untilMs = output.monotonicMs() + (flags.for ?? Number.POSITIVE_INFINITY);
        const printed = new Map<string, string>();
        let keyWidth = 0;
        for (;;) {
          for (const item of (await all(client)).filter((one) => key === undefined || one.key === key)) {
            const news = newsOf(item);
            if (printed.get(item.key) === news) continue;
            printed.set(item.key, news);
            keyWidth = Math.max(keyWidth, item.key.length);
            if (json) output.printJson(item);
            else output.print(viewMoment(item, output.nowMs(), keyWidth, output.style));
          }
          if (output.monotonicMs() + flags.every > untilMs) return;
          await new Promise((resolve) => setTimeout(resolve, flags.every));
        }
      });
    });
  addForce(dependencies, output, "force-open", "open", "nothing is called and messages are parked, whatever succeeds");
  addForce(dependencies, output, "force-close", "closed", "everything is called, whatever fails");
  dependencies
    .command("auto")
    .summary("leave a dependency to its breaker again")
    .description("Ends what force-open or force-close began.")
    .argument("<key>", "key of the dependency")
    .addHelpText("after", "\nExample:\n  escapement dependencies auto acct:4711")
    .action(async (key: string, _flags: unknown, command: Command) => {
      await withSession(command, output, async ({ client, json }) => {
        const item = await client.forceDependency(key, { state: "auto" });
        if (json) output.printJson(item);
        else output.print(viewDependency(item, output.nowMs(), output.style).join("\n"));
      });
    });
};

const addForce = (parent: Command, output: Output, name: string, state: "open" | "closed", effect: string): void => {
  parent
    .command(name)
    .summary(`hold a dependency ${state} for a while`)
    .description(`Holds a dependency ${state}: ${effect}. All consumers follow within two seconds.`)
    .argument("<key>", "key of the dependency")
    .requiredOption("--for <time>", "for how long, at most 7 days: 30m, 2h")
    .requiredOption("--reason <text>", "why, for those who look at it later")
    .addHelpText(
      "after",
      `\nExample:\n  escapement dependencies ${name} acct:4711 --for 30m --reason "provider maintenance"`,
    )
    .action(async (key: string, flags: ForceFlags, command: Command) => {
      await withSession(command, output, async ({ client, json }) => {
        const item = await client.forceDependency(key, { state, for: flags.for, reason: flags.reason });
        if (json) output.printJson(item);
        else output.print(viewDependency(item, output.nowMs(), output.style).join("\n"));
      });
    });
};

const all = async (client: EscapementClient): Promise<DependencyDetails[]> => {
  const items: DependencyDetails[] = [];
  for (let cursor: string | undefined; ; ) {
    const page = await client.dependencies(cursor === undefined ? {} : { cursor });
    items.push(...page.items);
    if (page.cursor === undefined) return items;
    cursor = page.cursor;
  }
};

/** While it is well only its state is news; else every change is. */
const newsOf = ({ state, forced, parked, callsPerSec, failedPerSec, allowedPerSec }: DependencyDetails): string =>
  JSON.stringify(
    state === "closed" && parked === 0
      ? [state, forced?.until]
      : [state, forced?.until, parked, Math.round(callsPerSec), Math.round(failedPerSec), allowedPerSec],
  );
