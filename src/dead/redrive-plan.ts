import { EscapementError } from "../message/errors.ts";
import { limits, topicPattern } from "../message/message.ts";
import { isObjectName, isReservedProperty } from "../message/reserved-properties.ts";
import { type DurationMs, day, durationMs, hour, minute, second } from "../message/time.ts";
import { JsonReader } from "../retry/json-reader.ts";
import { type DeadFilter, readFilter } from "./filter.ts";
import type { Pace } from "./pace.ts";

/** What a redrive shall do, as asked for: read and checked once, and from then on part of the job. */
export type RedrivePlan = {
  readonly filter: DeadFilter;
  /** So many go first, alone; 0 for none. */
  readonly canary: number;
  /** So long their outcomes are waited for. */
  readonly canaryWaitMs: DurationMs;
  readonly pace: Pace;
  /** Of the outcomes known, in percent. Above it the job stops itself. */
  readonly stopAbovePercent: number;
  /** But not before so many outcomes are known; the canary alone is judged by fewer. */
  readonly stopMinCount: number;
  /** A message that was brought back so often stays dead. */
  readonly replaysMax: number;
  /** So long after the last one was sent, outcomes are gathered. */
  readonly outcomeWaitMs: DurationMs;
  readonly edit?: RedriveEdit;
};

export type RedriveEdit = {
  /** To this topic instead. It is a new message there: whoever retried it before knows nothing of it. */
  readonly topic?: string;
  /** Instead of all that the user gave it. */
  readonly properties?: Readonly<Record<string, string>>;
  readonly bodyBase64?: string;
};

export type RedriveWish = {
  readonly plan: RedrivePlan;
  readonly dryRun: boolean;
  readonly by: string;
  readonly reason: string;
};

export const redriveDefaults = {
  canary: 10,
  canaryWaitMs: minute,
  perSec: 100,
  rampMs: durationMs(10 * second),
  stopAbovePercent: 10,
  stopMinCount: 20,
  replaysMax: 3,
  outcomeWaitMs: durationMs(10 * minute),
} as const;

export const redriveLimits = {
  canaryMax: 1_000,
  /** Beyond this the store, not the job, says how fast it goes. */
  perSecMax: 20_000,
  replaysMax: 100,
  reasonMax: 500,
  byMax: 100,
  /** The job's document has to hold an edited body too. */
  editBodyBytesMax: 64 * 1024,
} as const;

const fields = [
  "filter",
  "dryRun",
  "reason",
  "by",
  "rate",
  "ramp",
  "canary",
  "canaryWait",
  "stopAbove",
  "stopMin",
  "replaysMax",
  "outcomeWait",
  "edit",
  "allowEdit",
] as const;

/** Throws with every mistake at once. */
export const readRedrive = (request: unknown, ownTopics: ReadonlySet<string>): RedriveWish => {
  const reader = new JsonReader();
  const given = reader.object(request, "request", fields);
  const { canaryMax, perSecMax, replaysMax } = redriveLimits;
  const byDefault = redriveDefaults;
  if (given.filter === undefined) {
    throw new EscapementError("missing_field", "filter says which of the dead are meant; {} means all of them.", {
      field: "filter",
    });
  }
  const dryRun = readFlag(given.dryRun, reader, "dryRun");
  const edit = readEdit(given.edit, reader, ownTopics);
  if (edit !== undefined && given.allowEdit !== true) {
    reader.refuse("allowEdit", "must be true where messages are changed: nobody shall do that by accident");
  }
  const wish: RedriveWish = {
    plan: {
      filter: readFilter(given.filter, reader, "filter"),
      canary: reader.whole(given.canary, "canary", 0, canaryMax, byDefault.canary),
      canaryWaitMs: reader.duration(given.canaryWait, "canaryWait", second, hour, byDefault.canaryWaitMs),
      pace: {
        perSec: reader.number(given.rate, "rate", 0.01, perSecMax, byDefault.perSec),
        rampMs: reader.duration(given.ramp, "ramp", durationMs(0), hour, byDefault.rampMs),
      },
      stopAbovePercent: reader.number(given.stopAbove, "stopAbove", 0, 100, byDefault.stopAbovePercent),
      stopMinCount: reader.whole(given.stopMin, "stopMin", 1, 1_000, byDefault.stopMinCount),
      replaysMax: reader.whole(given.replaysMax, "replaysMax", 1, replaysMax, byDefault.replaysMax),
      outcomeWaitMs: reader.duration(given.outcomeWait, "outcomeWait", second, day, byDefault.outcomeWaitMs),
      ...(edit === undefined ? {} : { edit }),
    },
    dryRun,
    ...readWho(given, reader, dryRun),
  };
  reader.finish();
  return wish;
};

/** Who and why, for the audit. Nothing is changed without a reason. */
export const readWho = (
  given: Readonly<Record<string, unknown>>,
  reader: JsonReader,
  mayBeSilent = false,
): { readonly by: string; readonly reason: string } => {
  if (given.reason === undefined && !mayBeSilent) {
    reader.refuse("reason", "is missing: say in a few words why; it stands in the audit");
  }
  return {
    by: readWords(given.by, reader, "by", redriveLimits.byMax) ?? "unknown",
    reason: readWords(given.reason, reader, "reason", redriveLimits.reasonMax) ?? "",
  };
};

const readWords = (value: unknown, reader: JsonReader, path: string, lengthMax: number): string | undefined => {
  if (value === undefined) return undefined;
  const isText = typeof value === "string" && value.trim().length > 0 && value.length <= lengthMax;
  if (isText && !/[\u0000-\u001f\u007f-\u009f]/.test(value)) return value;
  reader.refuse(path, `must be a text of 1 to ${lengthMax} characters in one line`);
  return undefined;
};

const readFlag = (value: unknown, reader: JsonReader, path: string): boolean => {
  if (value !== undefined && typeof value !== "boolean") reader.refuse(path, "must be true or false");
  return value === true;
};

const readEdit = (value: unknown, reader: JsonReader, ownTopics: ReadonlySet<string>): RedriveEdit | undefined => {
  if (value === undefined) return undefined;
  const { topic, properties, body, bodyBase64 } = reader.object(value, "edit", [
    "topic",
    "properties",
    "body",
    "bodyBase64",
  ]);
  if (topic !== undefined && !(typeof topic === "string" && topicPattern.test(topic) && !ownTopics.has(topic))) {
    reader.refuse("edit.topic", "must be a topic of yours: 1 to 127 letters, digits and %|_-");
  }
  if (body !== undefined && bodyBase64 !== undefined)
    reader.refuse("edit.body", "and edit.bodyBase64 exclude each other");
  const bytes = readBody(body, bodyBase64, reader);
  const edit = {
    ...(topic === undefined ? {} : { topic: topic as string }),
    ...(properties === undefined ? {} : { properties: readProperties(properties, reader) }),
    ...(bytes === undefined ? {} : { bodyBase64: bytes.toString("base64") }),
  };
  if (Object.keys(edit).length === 0) reader.refuse("edit", "changes nothing; leave it out");
  return edit;
};

const readBody = (body: unknown, bodyBase64: unknown, reader: JsonReader): Buffer | undefined => {
  const [path, given] = body === undefined ? ["edit.bodyBase64", bodyBase64] : ["edit.body", body];
  if (given === undefined) return undefined;
  const isText = typeof given === "string" && (body === undefined || given.isWellFormed());
  const bytes = isText ? Buffer.from(given, body === undefined ? "base64" : "utf8") : Buffer.alloc(0);
  const { editBodyBytesMax } = redriveLimits;
  const isBase64 = body !== undefined || bytes.toString("base64") === given;
  if (isText && isBase64 && bytes.length > 0 && bytes.length <= editBodyBytesMax) return bytes;
  reader.refuse(path, `must be 1 to ${editBodyBytesMax} bytes${body === undefined ? ", as base64 with padding" : ""}`);
  return undefined;
};

const readProperties = (value: unknown, reader: JsonReader): Record<string, string> => {
  const found: Record<string, string> = {};
  const entries = typeof value === "object" && value !== null && !Array.isArray(value) ? Object.entries(value) : [];
  if (entries.length === 0 && JSON.stringify(value) !== "{}") reader.refuse("edit.properties", "must be an object");
  if (entries.length > limits.propertiesMax) reader.refuse("edit.properties", `may be ${limits.propertiesMax} at most`);
  let bytes = 0;
  for (const [name, text] of entries.slice(0, limits.propertiesMax)) {
    const path = `edit.properties.${name.slice(0, 64)}`;
    if (isReservedProperty(name)) reader.refuse(path, "is a name that RocketMQ or Escapement keeps for itself");
    else if (isObjectName(name) || name.length === 0 || !isPlain(name))
      reader.refuse(path, "is not a name for a property");
    else if (typeof text !== "string" || text.length === 0 || !isPlain(text)) {
      reader.refuse(path, "must be a text without control characters, and not empty");
    } else {
      found[name] = text;
      bytes += Buffer.byteLength(name) + Buffer.byteLength(text);
    }
  }
  if (bytes > limits.propertyBytesMax)
    reader.refuse("edit.properties", `are larger than ${limits.propertyBytesMax} bytes`);
  return found;
};

const isPlain = (text: string): boolean => text.isWellFormed() && !/[\u0000-\u001f\u007f]/.test(text);
