import { Buffer } from "node:buffer";
import type { MessageDetails, RescheduleRequest, RetryInput, ScheduleRequest } from "../wire/http.ts";
import { EscapementInputError } from "./errors.ts";

/**
 * What callers hand over, and how it becomes the JSON of the HTTP contract. Only what JSON cannot say is converted or
 * refused here (bytes, Date, NaN); every other rule is the server's, so that there is one place that knows it. Fields
 * that we do not know pass through, and the server names them.
 */

/** A Date, epoch milliseconds, or RFC 3339 text with an offset. Seconds are not understood. */
export type Instant = Date | number | string;

/** Milliseconds as a number, or text: `"30m"`, `"1h30m"`, `"PT30M"`, `"level:3"`. */
export type Duration = number | string;

/** The body in one of three forms. RocketMQ refuses an empty body. */
export type BodyInput =
  | {
      /** Text (sent as UTF-8) or bytes. At most 4,000,000 bytes. */
      body: string | Uint8Array;
      json?: undefined;
    }
  | {
      /** Any value that JSON.stringify accepts; the body becomes its JSON text. */
      json: unknown;
      body?: undefined;
    };

/** When to deliver: exactly one of the two. */
export type TimeInput =
  | {
      /** The instant. A past one is delivered now. At most 365 days away by default. */
      deliverAt: Instant;
      delay?: undefined;
    }
  | {
      /** How long from now, counted by the server when the request reaches it. */
      delay: Duration;
      deliverAt?: undefined;
    };

export type MessageInput = BodyInput &
  TimeInput & {
    /** An existing topic of yours. */
    topic: string;
    /** RocketMQ tag, at most 127 bytes. */
    tag?: string;
    /** RocketMQ message keys, at most 32: words to find the message by in RocketMQ's own tools. Not `key`. */
    keys?: string[];
    /** At most 125, at most 16 KiB together with tag and keys. */
    properties?: Record<string, string>;
    /** FIFO: messages of one group are sent in order, one after the other. At most 63 bytes. */
    messageGroup?: string;
    /**
     * Your own name for the message, at most 256 bytes: the same key (within its message group) is one message. Use
     * it to cancel and reschedule without keeping ids, and so that two runs of your program schedule once.
     */
    key?: string;
    /** When the key is known: `keep` the first message (default) or `replace` it. */
    onConflict?: "keep" | "replace";
    /** Not delivered later than this: milliseconds or text counted from deliverAt, or a Date or RFC 3339 instant. */
    expireAfter?: Duration | Date;
    /** How a failed send to the broker is retried. */
    retry?: RetryInput;
    /** Accept although the topic does not exist yet. Default false. */
    waitForTopic?: boolean;
  };

/** What to change of a waiting message: a new time, and as you like a new body, properties or expiry. */
export type MessageChange = TimeInput & {
  /** Null removes the expiry. */
  expireAfter?: Duration | Date | null;
  body?: string | Uint8Array;
  json?: unknown;
  /** Replaces all properties. */
  properties?: Record<string, string>;
};

/** A message by its id, or by your own key (with its message group, where it has one). */
export type MessageRef = string | { readonly key: string; readonly messageGroup?: string };

/** What is known of a message. `body` is there when it was asked for and is still kept. */
export type StoredMessage = Omit<MessageDetails, "bodyBase64"> & { body?: Uint8Array };

export const toScheduleRequest = (message: MessageInput): ScheduleRequest => {
  requireObject(message, "message");
  const { body, json, deliverAt, expireAfter, ...rest } = message as Loose;
  return {
    ...rest,
    ...bodyFields(body, json),
    ...(deliverAt === undefined ? {} : { deliverAt: instantText(deliverAt, "deliverAt") }),
    ...(rest.delay === undefined ? {} : { delay: finite(rest.delay, "delay") }),
    ...(expireAfter === undefined ? {} : { expireAfter: instantText(expireAfter, "expireAfter") }),
  } as ScheduleRequest;
};

export const toRescheduleRequest = (change: MessageChange): RescheduleRequest => {
  requireObject(change, "change");
  const { expireAfter, ...rest } = change as Loose;
  const request = toScheduleRequest(rest as MessageInput) as RescheduleRequest;
  if (expireAfter === undefined) return request;
  return { ...request, expireAfter: expireAfter === null ? null : instantText(expireAfter, "expireAfter") };
};

/** 122 random bits: two clients never draw the same one. The prefix tells a reader of the store where it is from. */
export const generatedKey = (): string => `auto-${crypto.randomUUID()}`;

/** The path of a message. Ids and keys are the user's text and are escaped. */
export const messagePath = (ref: MessageRef, query: Record<string, string> = {}): string => {
  const search = new URLSearchParams(query);
  let path = "/v1/messages";
  if (typeof ref === "string") {
    if (ref === "") throw new EscapementInputError("The id is empty.", "ref");
    path += `/${encodeURIComponent(wellFormed(ref, "ref"))}`;
  } else {
    requireObject(ref, "ref");
    if (typeof ref.key !== "string" || ref.key === "") {
      throw new EscapementInputError("Name the message by its id or as { key }.", "ref");
    }
    search.set("key", wellFormed(ref.key, "ref.key"));
    if (ref.messageGroup !== undefined) search.set("messageGroup", wellFormed(ref.messageGroup, "ref.messageGroup"));
  }
  return search.size === 0 ? path : `${path}?${search}`;
};

export const toStoredMessage = ({ bodyBase64, ...details }: MessageDetails): StoredMessage =>
  bodyBase64 === undefined ? details : { ...details, body: Buffer.from(bodyBase64, "base64") };

export const describeRef = (ref: MessageRef): string => (typeof ref === "string" ? ref : `with key ${ref.key}`);

// The typed unions above serve the caller; programs in plain JavaScript may hand over anything.
type Loose = Record<string, unknown>;

const bodyFields = (body: unknown, json: unknown): { body?: string; bodyBase64?: string } => {
  if (body !== undefined && json !== undefined) throw new EscapementInputError("Give body or json, not both.", "body");
  if (json !== undefined) return { body: jsonText(json) };
  if (body === undefined) return {};
  if (typeof body === "string") return { body };
  if (body instanceof Uint8Array) {
    return { bodyBase64: Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString("base64") };
  }
  throw new EscapementInputError(
    "The body must be a string or a Uint8Array; for a value to be sent as JSON use json.",
    "body",
  );
};

const jsonText = (value: unknown): string => {
  let text: string | undefined;
  try {
    text = JSON.stringify(value);
  } catch (error) {
    throw new EscapementInputError(`The value cannot be written as JSON: ${(error as Error).message}`, "json");
  }
  if (text === undefined) throw new EscapementInputError("A function or symbol cannot be written as JSON.", "json");
  return text;
};

const instantText = (value: unknown, field: string): string | number => {
  if (!(value instanceof Date)) return finite(value, field);
  if (Number.isNaN(value.getTime())) throw new EscapementInputError(`${field} is an invalid Date.`, field);
  return value.toISOString();
};

/** JSON would turn NaN and Infinity into null, and the server would complain about a null that nobody wrote. */
const finite = (value: unknown, field: string): string | number => {
  if (typeof value === "number" && !Number.isFinite(value)) {
    throw new EscapementInputError(`${field} is ${value}; give milliseconds as a finite number, or text.`, field);
  }
  return value as string | number;
};

/** A lone surrogate has no UTF-8 form, so it cannot be part of a URL. */
const wellFormed = (text: string, field: string): string => {
  if (!text.isWellFormed()) throw new EscapementInputError(`${field} is not well-formed text.`, field);
  return text;
};

const requireObject = (value: unknown, field: string): void => {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new EscapementInputError(`The ${field} must be an object.`, field);
  }
};
