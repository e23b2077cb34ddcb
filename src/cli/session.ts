import type { Command } from "commander";
import { type ClientOptions, EscapementClient, type MessageRef } from "../sdk/client.ts";
import { UsageError } from "./exit-codes.ts";
import type { Output } from "./output.ts";

/** What every command has: the global flags, a client made from them, and the output. */

export type GlobalFlags = { readonly url?: string; readonly json?: boolean; readonly timeout?: number };

export type Session = { readonly client: EscapementClient; readonly json: boolean; readonly output: Output };

/** Runs a command's work with a client, and closes the client behind it. */
export const withSession = async (
  command: Command,
  output: Output,
  work: (session: Session) => Promise<void>,
): Promise<void> => {
  const { url, json = false, timeout } = command.optsWithGlobals<GlobalFlags>();
  const options: ClientOptions = {
    ...(url === undefined ? {} : { url }),
    ...(timeout === undefined ? {} : { timeoutMs: timeout }),
  };
  const client = new EscapementClient(options);
  try {
    await work({ client, json, output });
  } finally {
    client.close();
  }
};

export type RefFlags = { readonly key?: string; readonly messageGroup?: string };

/** The message that is meant: by id, or by key with its message group. Exactly one of the two. */
export const refOf = (id: string | undefined, { key, messageGroup }: RefFlags): MessageRef => {
  if ((id === undefined) === (key === undefined)) {
    throw new UsageError("Name the message either by its ID or with --key NAME.");
  }
  if (id !== undefined) {
    if (messageGroup !== undefined) throw new UsageError("--message-group goes with --key; an id needs no group.");
    return id;
  }
  return messageGroup === undefined ? { key: key! } : { key: key!, messageGroup };
};

/** The flags by which commands name a message. */
export const withRefFlags = (command: Command): Command =>
  command
    .argument("[id]", "id of the message, as schedule printed it")
    .option("-k, --key <name>", "your own key instead of the id")
    .option("-g, --message-group <name>", "the key's message group, where it has one");
