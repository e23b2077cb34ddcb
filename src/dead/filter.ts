import { EscapementError } from "../message/errors.ts";
import { type MessageId, parseMessageId } from "../message/id.ts";
import type { EpochMs } from "../message/time.ts";
import { JsonReader } from "../retry/json-reader.ts";
import { type DeadMessage, fingerprintOf, topicOf } from "./dead-message.ts";

/** Which of the dead are meant: everything that is given must fit. Pure; an empty filter means all. */
export type DeadFilter = {
  /** Where it was meant to go, or for a consumer's dead also where it came from. */
  readonly topic?: string;
  /** The consumer group that gave it up. */
  readonly group?: string;
  /** Of its last failure. */
  readonly fingerprint?: string;
  /** Why it is dead, or the code of its last failure. */
  readonly code?: string;
  /** Died at or after `from`, and before `until`. */
  readonly from?: EpochMs;
  readonly until?: EpochMs;
  /** Stands, in any case of its letters, in the reason, a failure's text, the key, the keys or the id at its origin. */
  readonly text?: string;
  /** Only these. */
  readonly ids?: readonly MessageId[];
};

export const filterFields = ["topic", "group", "fingerprint", "code", "from", "until", "text", "ids"] as const;

const nameMax = 256;
/** One document has to hold them together with the job. */
export const idsMax = 1_000;

/** Reads a filter from JSON; what is wrong is told to `reader` under `path`. */
export const readFilter = (value: unknown, reader: JsonReader, path: string): DeadFilter => {
  const fields = reader.object(value, path, filterFields);
  const name = (field: "topic" | "group" | "fingerprint" | "code" | "text"): object =>
    fields[field] === undefined ? {} : { [field]: readName(fields[field], reader, `${path}.${field}`) };
  const time = (field: "from" | "until"): object =>
    fields[field] === undefined ? {} : { [field]: reader.instant(fields[field], `${path}.${field}`) };
  return {
    ...name("topic"),
    ...name("group"),
    ...name("fingerprint"),
    ...name("code"),
    ...name("text"),
    ...time("from"),
    ...time("until"),
    ...(fields.ids === undefined ? {} : { ids: readIds(fields.ids, reader, `${path}.ids`) }),
  };
};

/** The same from a query string, where numbers are text and there are no ids. */
export const filterOfQuery = (query: Readonly<Record<string, string | undefined>>): DeadFilter => {
  const reader = new JsonReader();
  const given = Object.entries(query).filter(([, text]) => text !== undefined);
  const fields = given.map(([name, text]) => [
    name,
    (name === "from" || name === "until") && /^\d+$/.test(text!) ? Number(text) : text,
  ]);
  // The path is dropped: a query parameter is named by its name alone.
  const filter = readFilter(Object.fromEntries(fields), reader, "query");
  reader.finish();
  return filter;
};

export const matches = (filter: DeadFilter, dead: DeadMessage): boolean => {
  const { topic, group, fingerprint, code, from, until, text, ids } = filter;
  const { envelope, message, reason, diedAtMs } = dead;
  if (from !== undefined && diedAtMs < from) return false;
  if (until !== undefined && diedAtMs >= until) return false;
  if (ids !== undefined && !ids.includes(dead.id)) return false;
  if (topic !== undefined && topicOf(dead) !== topic && message?.topic !== topic) return false;
  if (group !== undefined && envelope?.group !== group) return false;
  if (fingerprint !== undefined && fingerprintOf(dead) !== fingerprint) return false;
  if (code !== undefined && reason.code !== code && envelope?.history.at(-1)?.code !== code) return false;
  return text === undefined || textsOf(dead).some((one) => one.toLowerCase().includes(text.toLowerCase()));
};

const textsOf = ({ id, reason, message, envelope }: DeadMessage): string[] => [
  id,
  reason.detail,
  ...(message?.key === undefined ? [] : [message.key]),
  ...(message?.keys ?? []),
  ...(envelope === undefined ? [] : [envelope.originId, ...envelope.history.map(({ text }) => text)]),
];

const readName = (value: unknown, reader: JsonReader, path: string): string => {
  if (typeof value === "string" && value.length > 0 && value.length <= nameMax) return value;
  reader.refuse(path, `must be a text of 1 to ${nameMax} characters`);
  return "";
};

const readIds = (value: unknown, reader: JsonReader, path: string): readonly MessageId[] => {
  const ids = reader.array(value, path, idsMax).map((one, i) => {
    const id = typeof one === "string" ? parseMessageId(one) : undefined;
    if (id === undefined) reader.refuse(`${path}[${i}]`, "must be the id of a message, a UUID");
    return id!;
  });
  if (Array.isArray(value) && ids.length === 0) reader.refuse(path, "is empty; leave it out to mean all");
  return [...new Set(ids)];
};

/** An id from a path. */
export const readId = (text: string): MessageId => {
  const id = parseMessageId(text);
  if (id === undefined) throw new EscapementError("invalid_id", "the id must be a UUID", { field: "id" });
  return id;
};
