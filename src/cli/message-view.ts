import type { MessageReply, StoredMessage } from "../sdk/client.ts";
import { fromNow, number, printable } from "./wording.ts";

/** Messages as people read them: pure functions from a reply to lines. */

/** A body longer than this is cut in what people see; programs get all of it. */
const bodyCharactersMax = 2_000;
const hexBytesMax = 64;

export const viewReply = (verb: string, reply: MessageReply, nowMs: number): string => {
  const due = reply.state === "scheduled" ? `  ${when(reply.deliverAt, nowMs)}` : "";
  return `${verb} ${printable(reply.id)}${due}`;
};

/** A message that was handed over. An equal key is worth a word, since nothing new was stored. */
export const viewScheduled = (reply: MessageReply, nowMs: number): string => {
  if (!reply.deduplicated) return viewReply("scheduled", reply, nowMs);
  return `${viewReply("known already", reply, nowMs)}${reply.state === "scheduled" ? "" : `  ${reply.state}`}`;
};

export const viewDetails = (message: StoredMessage, nowMs: number): string[] => {
  const properties = Object.entries(message.properties ?? {}).map(([name, value]) => `${name}=${value}`);
  const rows: [string, string | undefined][] = [
    ["id", message.id],
    ["state", message.state],
    ["parked for", message.parkedFor],
    ["parked", message.parkedSince && when(message.parkedSince, nowMs)],
    [dueWordOf(message), when(message.deliverAt, nowMs)],
    ["ended", message.endedAt && when(message.endedAt, nowMs)],
    ["attempts", number(message.attempt)],
    ["reason", message.reason && `${message.reason.code}: ${message.reason.detail}`],
    ["topic", message.topic],
    ["key", message.key],
    ["group", message.messageGroup],
    ["tag", message.tag],
    ["keys", message.keys && message.keys.length > 0 ? message.keys.join(" ") : undefined],
    ...properties.map((text, i): [string, string] => [i === 0 ? "properties" : "", text]),
    ["accepted", message.acceptedAt && when(message.acceptedAt, nowMs)],
    ["expires", message.expireAt && when(message.expireAt, nowMs)],
    ["size", message.bodyBytes === undefined ? undefined : `${number(message.bodyBytes)} bytes`],
  ];
  const lines = rows.flatMap(([name, text]) => (text === undefined ? [] : [`${name.padEnd(10)}  ${printable(text)}`]));
  return message.body === undefined ? lines : [...lines, "", ...viewBody(message.body)];
};

const dueWordOf = ({ state, parkedSince }: StoredMessage): string => {
  if (parkedSince !== undefined) return "at latest";
  return state === "scheduled" ? "due" : "was due";
};

const when = (instant: string, nowMs: number): string => {
  const distance = fromNow(instant, nowMs);
  return distance === "" ? instant : `${instant} (${distance})`;
};

/** Text as text, its lines kept; anything else as the beginning of its bytes in hex. */
const viewBody = (body: Uint8Array): string[] => {
  const text = asText(body);
  if (text === undefined) {
    const hex = Array.from(body.subarray(0, hexBytesMax), (byte) => byte.toString(16).padStart(2, "0")).join(" ");
    return [body.length > hexBytesMax ? `${hex} … (use --json for all of it)` : hex];
  }
  const shown = text.slice(0, bodyCharactersMax).split("\n").map(printable);
  return text.length > bodyCharactersMax ? [...shown, "… (use --json for all of it)"] : shown;
};

const asText = (body: Uint8Array): string | undefined => {
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(body);
    // Tab, line feed and carriage return are text; any other control character says that this is not.
    return /[\u0000-\u0008\u000b\u000c\u000e-\u001f]/.test(text) ? undefined : text;
  } catch {
    return undefined;
  }
};
