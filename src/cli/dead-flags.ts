import { userInfo } from "node:os";
import type { Command } from "commander";
import { parseDuration } from "../message/parse-time.ts";
import type { DeadQuery } from "../sdk/client.ts";
import type { DeadFilterInput } from "../wire/dead.ts";
import { UsageError } from "./exit-codes.ts";
import { timeOrText } from "./flag-values.ts";

/** The flags that say which of the dead, and who asks. */
export type FilterFlags = {
  readonly topic?: string;
  readonly group?: string;
  readonly fingerprint?: string;
  readonly code?: string;
  readonly since?: string;
  readonly from?: string | number;
  readonly until?: string | number;
  readonly text?: string;
};

export const addFilterFlags = (command: Command): Command =>
  command
    .option("--topic <name>", "the topic it was meant for, or came from")
    .option("--group <name>", "the consumer group that gave it up")
    .option("--fingerprint <text>", "the fingerprint of its last failure")
    .option("--code <code>", "why it is dead, or the code of its last failure")
    .option("--since <time>", "died within this time: 2h, 30m")
    .option("--from <instant>", "died at or after: RFC 3339 or epoch milliseconds", timeOrText)
    .option("--until <instant>", "died before", timeOrText)
    .option("--text <text>", "stands in the reason, a failure, the key, the keys or an id");

export const filterOf = (flags: FilterFlags, nowMs: number): DeadQuery & DeadFilterInput => {
  const { topic, group, fingerprint, code, since, until, text } = flags;
  if (since !== undefined && flags.from !== undefined) throw new UsageError("Give either --since or --from.");
  const from = since === undefined ? flags.from : nowMs - durationOf(since);
  const given = { topic, group, fingerprint, code, from, until, text };
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
};

const durationOf = (text: string): number => {
  try {
    return parseDuration(text, "--since");
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
};

/** Who types this; nobody checks it until there are credentials. */
export const whoOf = ({ by }: { readonly by?: string }): string => by ?? userInfo().username;

/** Messages named by their ids, or those that fit the flags; all of them only when that is said. */
export const selectionOf = (
  ids: readonly string[],
  flags: FilterFlags & { readonly all?: boolean },
  nowMs: number,
): DeadFilterInput => {
  const filter: DeadFilterInput = filterOf(flags, nowMs);
  if (ids.length > 0) return { ...filter, ids: [...ids] };
  if (Object.keys(filter).length > 0 || flags.all === true) return filter;
  throw new UsageError("Say which: by ids, by flags such as --group, or --all.");
};
