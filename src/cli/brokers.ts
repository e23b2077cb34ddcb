import { type Command, Option } from "commander";
import type { RemotingAdmin } from "../adapters/rocketmq/remoting-admin.ts";
import { NotFoundError, UsageError } from "./exit-codes.ts";
import type { Output } from "./output.ts";
import type { GlobalFlags } from "./session.ts";
import { printable, table } from "./wording.ts";

/** What the commands share that speak to the brokers themselves and not to the Escapement server. */

export type BrokerFlags = { readonly broker?: string };

/** A topic or a group as the list shows it; its fields are the columns. */
export type Listed = { readonly name: string; readonly [field: string]: string | number | boolean };
export type AtBrokers<T extends Listed> = { readonly one: T; readonly brokers: readonly string[] };

export const brokerOption = (): Option =>
  new Option(
    "--broker <host:port>",
    "where the broker itself listens, for most port 10911, for the embedded one 8081; several with commas",
  ).env("ROCKETMQ_ADMIN");

/** Does the same at every broker in turn; answers with their addresses. */
export const atEachBroker = async (
  flags: BrokerFlags,
  command: Command,
  act: (admin: RemotingAdmin, broker: string) => Promise<void>,
): Promise<string[]> => {
  const { timeout } = command.optsWithGlobals<GlobalFlags>();
  const brokers = (flags.broker ?? "").split(",").flatMap((part) => part.trim() || []);
  if (brokers.length === 0) throw new UsageError("Say where: --broker HOST:PORT, or set ROCKETMQ_ADMIN.");
  // Loaded only here: no other command needs the broker's protocol.
  const { createRemotingAdmin } = await import("../adapters/rocketmq/remoting-admin.ts");
  const { systemTimers } = await import("../adapters/system/system-time.ts");
  const options = timeout === undefined ? {} : { timeoutMs: timeout };
  for (const broker of brokers) {
    await act(createRemotingAdmin({ broker, timers: systemTimers, ...options }), broker);
  }
  return brokers;
};

/** Prints what the brokers have: one row where they agree, one for each way in which they differ. */
export const listAtBrokers = async <T extends Listed>(
  what: string,
  flags: BrokerFlags,
  command: Command,
  output: Output,
  read: (admin: RemotingAdmin) => Promise<readonly T[]>,
): Promise<void> => {
  const lists: [string, readonly T[]][] = [];
  const brokers = await atEachBroker(flags, command, async (admin, broker) => {
    lists.push([broker, await read(admin)]);
  });
  const rows = merged(lists);
  if (command.optsWithGlobals<GlobalFlags>().json) {
    return output.printJson(rows.map(({ one, brokers }) => ({ ...one, brokers })));
  }
  const [header, ...lines] = viewListed(rows, brokers);
  if (header === undefined) return output.tell(`no ${what} at ${brokers.join(", ")}`);
  output.print([output.style("bold", header), ...lines].join("\n"));
};

/**
 * Deletes at every broker that has it. All are asked before the first one deletes: an address that does not answer
 * leaves nothing half done.
 */
export const deleteAtBrokers = async (
  what: string,
  flags: BrokerFlags,
  command: Command,
  has: (admin: RemotingAdmin) => Promise<boolean>,
  remove: (admin: RemotingAdmin) => Promise<void>,
): Promise<string[]> => {
  const having: string[] = [];
  const asked = await atEachBroker(flags, command, async (admin, broker) => {
    if (await has(admin)) having.push(broker);
  });
  if (having.length === 0) throw new NotFoundError(`There is no ${what} at ${asked.join(", ")}; nothing was deleted.`);
  return await atEachBroker({ broker: having.join(",") }, command, remove);
};

/** Sorted by name. What brokers have in the same way is one entry. */
export const merged = <T extends Listed>(lists: readonly (readonly [string, readonly T[]])[]): AtBrokers<T>[] => {
  const found = new Map<string, { readonly one: T; readonly brokers: string[] }>();
  for (const [broker, list] of lists) {
    for (const one of list) {
      const same = JSON.stringify(one);
      const known = found.get(same);
      if (known === undefined) found.set(same, { one, brokers: [broker] });
      else known.brokers.push(broker);
    }
  }
  return [...found.values()].sort(({ one: a }, { one: b }) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
};

/** Which brokers is said only where there are several to tell apart. */
export const viewListed = (rows: readonly AtBrokers<Listed>[], asked: readonly string[]): string[] => {
  const [first] = rows;
  if (first === undefined) return [];
  const several = asked.length > 1;
  const lines = rows.map(({ one, brokers }) => {
    const where = brokers.length === asked.length ? "all" : brokers.join(", ");
    return [...Object.values(one).map(cell), ...(several ? [where] : [])];
  });
  return table([[...Object.keys(first.one), ...(several ? ["brokers"] : [])], ...lines]);
};

const cell = (value: Listed[string]): string | number => {
  if (typeof value === "number") return value;
  if (typeof value === "boolean") return value ? "yes" : "no";
  return printable(value);
};
