import { readFile } from "node:fs/promises";
import { type Command, Option } from "commander";
import type { MessageChange, MessageInput } from "../sdk/client.ts";
import { UsageError } from "./exit-codes.ts";
import { decimalNumber, property, timeOrText, wholeNumber, word } from "./flag-values.ts";

/** The flags for a message's fields, one for each, and the message that they make. */

export type BodyFlags = { readonly body?: string; readonly bodyFile?: string };

export type TimeFlags = { readonly delay?: string | number; readonly deliverAt?: string | number };

export type MessageFlags = BodyFlags &
  TimeFlags & {
    readonly topic?: string;
    readonly tag?: string;
    readonly keys?: string[];
    readonly property?: Record<string, string>;
    readonly messageGroup?: string;
    readonly key?: string;
    readonly onConflict?: "keep" | "replace";
    readonly expireAfter?: string | number;
    readonly maxAttempts?: number;
    readonly retryInitial?: string | number;
    readonly retryMax?: string | number;
    readonly retryMultiplier?: number;
    readonly waitForTopic?: boolean;
  };

export const withTimeFlags = (command: Command): Command =>
  command
    .option("-d, --delay <time>", "how long from now: 5s, 30m, 1h30m, 7d, PT30M, level:3, or milliseconds", timeOrText)
    .option("-a, --deliver-at <instant>", "when: 2030-01-01T09:00:00+08:00, or epoch milliseconds", timeOrText);

export const withBodyFlags = (command: Command): Command =>
  command
    .option("-b, --body <text>", "the body as text")
    .option("--body-file <path>", "the body as the bytes of a file, - for standard input");

export const withMessageFlags = (command: Command): Command =>
  withTimeFlags(withBodyFlags(command.option("-t, --topic <name>", "an existing topic of yours")))
    .option("-k, --key <name>", "your own name for the message: the same key is one message")
    .addOption(
      new Option("--on-conflict <what>", "when the key is known: keep the first message, or replace it").choices([
        "keep",
        "replace",
      ]),
    )
    .option("--tag <tag>", "RocketMQ tag")
    .option("--keys <word>", "RocketMQ message key, to search by; repeat for more", word)
    .option("-p, --property <name=value>", "a property; repeat for more", property)
    .option("-g, --message-group <name>", "FIFO: messages of one group are sent in order")
    .option(
      "-e, --expire-after <time>",
      "not delivered later than this after it is due, or than this instant",
      timeOrText,
    )
    .option("--max-attempts <n>", "sends to the broker in all (default: 80)", wholeNumber(1, 1_000))
    .option("--retry-initial <time>", "wait after the first failed send (default: 1s)", timeOrText)
    .option("--retry-max <time>", "longest wait between two sends (default: 30m)", timeOrText)
    .option("--retry-multiplier <x>", "growth of the wait, 1 to 10 (default: 2)", decimalNumber)
    .option("--wait-for-topic", "accept although the topic does not exist yet");

export const messageFrom = async (flags: MessageFlags): Promise<MessageInput> => {
  if (flags.topic === undefined) throw new UsageError("Say where to: --topic NAME. (Or give --file.)");
  const time = timeFrom(flags);
  if (time === undefined) throw new UsageError("Say when: --delay 30m, or --deliver-at 2030-01-01T09:00:00Z.");
  const body = await bodyFrom(flags);
  if (body === undefined) throw new UsageError("Say what: --body TEXT, or --body-file PATH.");
  const retry = {
    ...given("maxAttempts", flags.maxAttempts),
    ...given("initial", flags.retryInitial),
    ...given("max", flags.retryMax),
    ...given("multiplier", flags.retryMultiplier),
  };
  return {
    topic: flags.topic,
    body,
    ...time,
    ...given("key", flags.key),
    ...given("onConflict", flags.onConflict),
    ...given("tag", flags.tag),
    ...given("keys", flags.keys),
    ...given("properties", flags.property),
    ...given("messageGroup", flags.messageGroup),
    ...given("expireAfter", flags.expireAfter),
    ...(Object.keys(retry).length === 0 ? {} : { retry }),
    ...given("waitForTopic", flags.waitForTopic),
  };
};

export type ChangeFlags = BodyFlags &
  TimeFlags & {
    readonly property?: Record<string, string>;
    readonly expireAfter?: string | number;
    readonly expire?: false;
  };

export const changeFrom = async (flags: ChangeFlags): Promise<MessageChange> => {
  const time = timeFrom(flags);
  if (time === undefined) throw new UsageError("Say when: --delay 30m, or --deliver-at 2030-01-01T09:00:00Z.");
  return {
    ...time,
    ...given("body", await bodyFrom(flags)),
    ...given("properties", flags.property),
    ...given("expireAfter", flags.expire === false ? null : flags.expireAfter),
  };
};

const timeFrom = ({ delay, deliverAt }: TimeFlags) => {
  if (delay !== undefined && deliverAt !== undefined) throw new UsageError("Give --delay or --deliver-at, not both.");
  if (delay !== undefined) return { delay };
  return deliverAt === undefined ? undefined : { deliverAt };
};

const bodyFrom = async ({ body, bodyFile }: BodyFlags): Promise<string | Uint8Array | undefined> => {
  if (body !== undefined && bodyFile !== undefined) throw new UsageError("Give --body or --body-file, not both.");
  if (bodyFile === undefined) return body;
  try {
    return bodyFile === "-" ? await readAll(process.stdin) : await readFile(bodyFile);
  } catch (error) {
    throw new UsageError(`Cannot read the body from ${bodyFile}: ${(error as Error).message}`);
  }
};

/** More than the server accepts; reading on would only fill the memory. */
const bodyBytesMax = 8 * 1024 * 1024;

const readAll = async (input: AsyncIterable<Uint8Array>): Promise<Uint8Array> => {
  const parts: Uint8Array[] = [];
  let bytes = 0;
  for await (const part of input) {
    bytes += part.length;
    if (bytes > bodyBytesMax) throw new Error(`more than ${bodyBytesMax} bytes`);
    parts.push(part);
  }
  return Buffer.concat(parts);
};

/** `{ name: value }`, or nothing where there is no value: a field that is undefined is not a field that is absent. */
const given = <Name extends string, Value>(name: Name, value: Value | undefined): { [N in Name]?: Value } =>
  value === undefined ? {} : ({ [name]: value } as { [N in Name]?: Value });
