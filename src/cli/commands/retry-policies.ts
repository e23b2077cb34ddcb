import type { Command } from "commander";
import type { RetryBindingPlace, RetryPolicyInput } from "../../wire/http.ts";
import { UsageError } from "../exit-codes.ts";
import { wholeNumber } from "../flag-values.ts";
import { jsonIn } from "../json-file.ts";
import type { Output } from "../output.ts";
import { viewBindings, viewPolicies, viewPolicy, viewVersions } from "../policy-view.ts";
import { withSession } from "../session.ts";
import { counted, printable } from "../wording.ts";

/** Retry policies that are stored on the server, and what they are bound to. */

const versionMax = 999_999_999;

type WhoFlags = { readonly by?: string; readonly why?: string; readonly ifVersion?: number };
const who = ({ by, why, ifVersion }: WhoFlags) => ({
  ...(by === undefined ? {} : { by }),
  ...(why === undefined ? {} : { why }),
  ...(ifVersion === undefined ? {} : { ifVersion }),
});

export const addPolicies = (retry: Command, output: Output): void => {
  const policies = retry
    .command("policies")
    .summary("list, show, write and delete stored policies")
    .description(
      "Stored retry policies: a change holds everywhere within two seconds, and every version stays readable.",
    );
  policies
    .command("list")
    .summary("list the policies of the server")
    .description("Lists the policies of the server, and in how many places each is bound.")
    .addHelpText("after", "\nExample:\n  escapement retry policies list")
    .action(async (_flags: unknown, command: Command) => {
      await withSession(command, output, async ({ client, json }) => {
        const found = await client.policies.list();
        if (json) for (const policy of found.policies) output.printJson(policy);
        else output.print(viewPolicies(found, output.style).join("\n"));
      });
    });
  policies
    .command("show")
    .summary("print a policy, or its versions")
    .description("Prints a policy as it was written; with --versions who changed it when and why, newest first.")
    .argument("<name>", "its name, or name@version")
    .option("--versions", "the versions instead of the policy")
    .option("--before <version>", "with --versions: only those before this one", wholeNumber(1, versionMax))
    .addHelpText(
      "after",
      `
Examples:
  escapement retry policies show orders
  escapement retry policies show orders@3 --json | jq .policy > policy.json
  escapement retry policies show orders --versions`,
    )
    .action(async (name: string, flags: { versions?: boolean; before?: number }, command: Command) => {
      await withSession(command, output, async ({ client, json }) => {
        if (flags.versions) {
          const found = await client.policies.versions(name, flags.before);
          if (json) output.printJson(found);
          else output.print(viewVersions(found, output.style).join("\n"));
          return;
        }
        const found = await client.policies.get(name);
        if (json) output.printJson(found);
        else output.print(viewPolicy(found, output.style).join("\n"));
      });
    });
  policies
    .command("put")
    .summary("write a policy from a file")
    .description("Writes a policy: a new version, unless it says what the newest one says.")
    .argument("<name>", "letters, digits, . _ -; at most 64")
    .argument("<file>", "a file with the policy as JSON")
    .option(
      "--if-version <n>",
      "only when this is the newest version; 0: only when there is none",
      wholeNumber(0, versionMax),
    )
    .option("--by <who>", "who changes it, kept with the version")
    .option("--why <text>", "why, kept with the version")
    .addHelpText(
      "after",
      `
Examples:
  escapement retry policies put orders policy.json --why "the provider asks for 10 s"
  escapement retry policies put orders policy.json --if-version 3`,
    )
    .action(async (name: string, file: string, flags: WhoFlags, command: Command) => {
      const policy = (await jsonIn(file, "the policy")) as RetryPolicyInput;
      await withSession(command, output, async ({ client, json }) => {
        const written = await client.policies.put(name, { policy, ...who(flags) });
        if (json) return output.printJson(written);
        const reference = `${name}@${written.version}`;
        output.print(written.changed ? `wrote ${reference}` : `nothing to change: ${reference} says just that`);
      });
    });
  policies
    .command("delete")
    .summary("delete a policy")
    .description("Deletes a policy that is bound nowhere. Its versions stay readable, for messages in flight.")
    .argument("<name>", "its name")
    .option("--with-bindings", "remove its bindings too")
    .option("--if-version <n>", "only when this is the newest version", wholeNumber(1, versionMax))
    .option("--by <who>", "who deletes it, kept with the version")
    .option("--why <text>", "why, kept with the version")
    .addHelpText("after", "\nExample:\n  escapement retry policies delete orders --with-bindings")
    .action(async (name: string, flags: WhoFlags & { withBindings?: boolean }, command: Command) => {
      await withSession(command, output, async ({ client, json }) => {
        const deleted = await client.policies.delete(name, {
          ...who(flags),
          ...(flags.withBindings ? { withBindings: true } : {}),
        });
        if (json) return output.printJson(deleted);
        const { length } = deleted.bindingsRemoved;
        output.print(`deleted ${name}${length === 0 ? "" : ` and ${counted(length, "binding")}`}`);
      });
    });
};

type PlaceFlags = RetryBindingPlace & { readonly everything?: boolean };

export const addBindings = (retry: Command, output: Output): void => {
  const bindings = retry
    .command("bindings")
    .summary("list, set and remove what policies are bound to")
    .description(
      "Whose messages which policy decides about. Who names more is the more special, and of as many a group before a topic before a tag. What names no group holds for the server's own sends too, which go by it without age, parking and verifying.",
    );
  bindings
    .command("list")
    .summary("list the bindings, the most special first")
    .description("Lists the bindings. The first that fits a message holds; * fits everything.")
    .addHelpText("after", "\nExample:\n  escapement retry bindings list")
    .action(async (_flags: unknown, command: Command) => {
      await withSession(command, output, async ({ client, json }) => {
        const found = await client.policies.bindings();
        if (json) for (const binding of found.bindings) output.printJson(binding);
        else output.print(viewBindings(found.bindings, output.style).join("\n"));
      });
    });
  placed(bindings.command("set"))
    .summary("bind a policy")
    .description("Binds a policy, instead of the one that was bound to the same.")
    .argument("<policy>", "its name; presets too")
    .addHelpText(
      "after",
      `
Examples:
  escapement retry bindings set slow --topic orders
  escapement retry bindings set slow --topic orders --group billing --tag paid
  escapement retry bindings set rocketmq-ladder --everything`,
    )
    .action(async (policy: string, flags: PlaceFlags, command: Command) => {
      const place = placeOf(flags);
      await withSession(command, output, async ({ client, json }) => {
        const { bindings: all } = await client.policies.bind({ ...place, policy });
        if (json) for (const binding of all) output.printJson(binding);
        else output.print(viewBindings(all, output.style).join("\n"));
      });
    });
  placed(bindings.command("remove"))
    .summary("remove a binding")
    .description("Removes the binding of exactly this topic, group and tag.")
    .addHelpText("after", "\nExample:\n  escapement retry bindings remove --topic orders")
    .action(async (flags: PlaceFlags, command: Command) => {
      const place = placeOf(flags);
      await withSession(command, output, async ({ client, json }) => {
        const { bindings: left } = await client.policies.unbind(place);
        if (json) for (const binding of left) output.printJson(binding);
        else output.print(viewBindings(left, output.style).join("\n"));
      });
    });
};

const placed = (command: Command): Command =>
  command
    .option("--topic <name>", "messages of this topic")
    .option("--group <name>", "messages that this consumer group receives")
    .option("--tag <tag>", "messages with this tag")
    .option("--everything", "all messages");

const placeOf = ({ topic, group, tag, everything = false }: PlaceFlags): RetryBindingPlace => {
  const place = {
    ...(topic === undefined ? {} : { topic }),
    ...(group === undefined ? {} : { group }),
    ...(tag === undefined ? {} : { tag }),
  };
  if ((Object.keys(place).length === 0) === everything) return place;
  throw new UsageError(
    everything
      ? `--everything goes without --topic, --group and --tag; you gave ${printable(JSON.stringify(place))}.`
      : "Say for what: --topic, --group, --tag, several of them, or --everything.",
  );
};
