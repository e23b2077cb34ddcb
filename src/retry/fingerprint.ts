import { isEscapementError } from "../message/errors.ts";
import { parseDuration } from "../message/parse-time.ts";
import { type DurationMs, durationMs, epochMsMax } from "../message/time.ts";
import type { Failure } from "./decide.ts";
import { boundedText, envelopeLimits } from "./envelope-codec.ts";
import { type FailureClass, failureClasses } from "./policy.ts";

/**
 * What a handler threw, as facts for a decision: class, code, HTTP status, Retry-After, a fingerprint by which failures
 * of one cause are counted together, and the beginning of its text.
 *
 * Anything can be thrown: nothing at all, an object whose getters throw, ten megabytes, an error that is its own cause.
 * Whatever it is, this answers, in time that does not depend on its size.
 *
 * What surprised us: that no answer came does not mean that nothing happened. A refused connection was certainly no
 * call, so it is `transient`; a timeout or a reset connection may have been one and is `unknown`.
 */
export type ThrownFailure = Failure & { readonly fingerprint: string; readonly text: string };

export const failureOf = (thrown: unknown, nowMs: number): ThrownFailure => {
  const known = knownClass(thrown) ?? httpFailure(thrown, nowMs) ?? ioFailure(thrown);
  const failure: Failure = known ?? { class: "transient", code: codeOf(thrown) };
  const retryAfterMs = failure.retryAfterMs ?? waitAsked(thrown, nowMs);
  return {
    ...failure,
    ...(retryAfterMs === undefined ? undefined : { retryAfterMs }),
    fingerprint: fingerprintOf(thrown, failure.code),
    text: textOf(thrown),
  };
};

// --- classes --------------------------------------------------------------------------------------------------------

const knownClass = (thrown: unknown): Failure | undefined => {
  const said = field(thrown, "failureClass");
  if (!failureClasses.includes(said as FailureClass)) return undefined;
  const status = statusOf(thrown);
  return {
    class: said as FailureClass,
    code: codeOf(thrown),
    ...(status === undefined ? undefined : { status }),
  };
};

/**
 * What a client error may yet become is not permanent: credentials (401, 403, 407) and addresses are everybody's
 * trouble and are mended by somebody, and would empty a whole topic into the dead; 408, 409, 421, 423 and 425 say
 * "not now".
 */
const notPermanent: ReadonlySet<number> = new Set([401, 403, 407, 408, 409, 421, 423, 425, 429]);

const httpFailure = (thrown: unknown, nowMs: number): Failure | undefined => {
  const status = statusOf(thrown);
  if (status === undefined || status < 400) return undefined;
  const retryAfterMs = headerWait(thrown, nowMs);
  const failureClass =
    status === 429 ? "throttled" : status < 500 && !notPermanent.has(status) ? "permanent" : "transient";
  return {
    class: failureClass,
    code: `http_${status}`,
    status,
    ...(retryAfterMs === undefined ? undefined : { retryAfterMs }),
  };
};

const statusOf = (thrown: unknown): number | undefined => {
  for (const value of [
    field(thrown, "status"),
    field(thrown, "statusCode"),
    field(field(thrown, "response"), "status"),
  ]) {
    if (Number.isInteger(value) && (value as number) >= 100 && (value as number) <= 599) return value as number;
  }
  return undefined;
};

/** No byte of the request can have left. */
const neverCalled: ReadonlySet<string> = new Set([
  "ECONNREFUSED",
  "ENOTFOUND",
  "EAI_AGAIN",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "UND_ERR_CONNECT_TIMEOUT",
]);
const noAnswer: ReadonlySet<string> = new Set([
  "ECONNRESET",
  "EPIPE",
  "ETIMEDOUT",
  "ESOCKETTIMEDOUT",
  "ECONNABORTED",
  "UND_ERR_SOCKET",
  "UND_ERR_HEADERS_TIMEOUT",
  "UND_ERR_BODY_TIMEOUT",
  "UND_ERR_ABORTED",
]);
const noAnswerNames: ReadonlySet<string> = new Set(["AbortError", "TimeoutError"]);

/** `fetch` hides what happened one cause deep, and a host with several addresses one deeper. */
const causesMax = 5;

const ioFailure = (thrown: unknown): Failure | undefined => {
  let error = thrown;
  for (let depth = 0; depth < causesMax && error !== undefined && error !== null; depth++) {
    const code = field(error, "code");
    if (typeof code === "string") {
      if (neverCalled.has(code) || (code === "ETIMEDOUT" && field(error, "syscall") === "connect")) {
        return { class: "transient", code };
      }
      if (noAnswer.has(code)) return { class: "unknown", code };
    }
    const name = field(error, "name");
    if (typeof name === "string" && noAnswerNames.has(name)) return { class: "unknown", code: name };
    error = field(error, "cause");
  }
  return undefined;
};

// --- Retry-After ----------------------------------------------------------------------------------------------------

/** `retryAfter` of our own error, in its units; `retryAfterMs` of anybody's. Other people's `retryAfter` has no unit. */
const waitAsked = (thrown: unknown, nowMs: number): DurationMs | undefined => {
  const inMs = field(thrown, "retryAfterMs");
  if (typeof inMs === "number") return bounded(inMs);
  if (field(thrown, "failureClass") === undefined) return headerWait(thrown, nowMs);
  const asked = field(thrown, "retryAfter");
  if (typeof asked === "number") return bounded(asked);
  if (asked instanceof Date) return bounded(asked.getTime() - nowMs);
  return typeof asked === "string" ? (readHeader(asked, nowMs) ?? readDuration(asked)) : undefined;
};

const headerWait = (thrown: unknown, nowMs: number): DurationMs | undefined => {
  for (const headers of [field(thrown, "headers"), field(field(thrown, "response"), "headers")]) {
    const value = headerOf(headers);
    if (value !== undefined) return readHeader(value, nowMs);
  }
  return undefined;
};

const headerOf = (headers: unknown): string | undefined => {
  const get = field(headers, "get");
  let value: unknown;
  try {
    value =
      typeof get === "function"
        ? get.call(headers, "retry-after")
        : (field(headers, "retry-after") ?? field(headers, "Retry-After"));
  } catch {
    return undefined;
  }
  return typeof value === "string" || typeof value === "number" ? String(value) : undefined;
};

const headerLengthMax = 64;

/** Seconds, or an HTTP date. One that is over asks for nothing. */
const readHeader = (value: string, nowMs: number): DurationMs | undefined => {
  const text = value.trim();
  if (text.length === 0 || text.length > headerLengthMax) return undefined;
  if (/^[-+]?\d+(\.\d+)?$/.test(text)) return bounded(Number(text) * 1_000);
  // Every form of an HTTP date has its time with colons, and no duration has.
  return text.includes(":") ? bounded(Date.parse(text) - nowMs) : undefined;
};

const readDuration = (text: string): DurationMs | undefined => {
  try {
    return parseDuration(text);
  } catch (error) {
    if (!isEscapementError(error)) throw error;
    return undefined;
  }
};

/** Not a number asks for nothing; what is too long is not believed later on (`retryAfterMaxMs`). */
const bounded = (ms: number): DurationMs | undefined =>
  Number.isNaN(ms) ? undefined : durationMs(Math.ceil(Math.min(Math.max(ms, 0), epochMsMax)));

// --- names ----------------------------------------------------------------------------------------------------------

const codePattern = /^[\w.:/-]{1,64}$/;

const codeOf = (thrown: unknown): string => {
  const code = field(thrown, "code");
  if ((typeof code === "string" || typeof code === "number") && codePattern.test(String(code))) return String(code);
  if (typeof thrown !== "object" || thrown === null) return `threw_${thrown === null ? "null" : typeof thrown}`;
  const name = field(thrown, "name");
  return typeof name === "string" && codePattern.test(name) ? name : "threw_object";
};

/** The code and a hash of name, code and place: `http_503@charge-0c9a1f02`. Where there is no place, the text's shape. */
const fingerprintOf = (thrown: unknown, code: string): string => {
  const place = placeOf(field(thrown, "stack"), field(thrown, "message"));
  const name = field(thrown, "name");
  const shape = place === undefined ? shapeOf(textOf(thrown)) : `${place.function}@${place.file}`;
  const hash = fnv1a(`${typeof name === "string" ? boundedText(name, 64) : ""}\0${code}\0${shape}`);
  const label = place === undefined ? code : `${code}@${place.function}`;
  return `${boundedText(label, envelopeLimits.fingerprintMax - 9)}-${hash}`;
};

/** Frames come after the text, however long that is and whatever it looks like; ten take one or two kilobytes. */
const framesMax = 8_192;
const stackHeadMax = 256;
const foreignFrame = /node_modules|\(node:|at node:|<anonymous>\)$/;

/** The innermost frame that is the user's own; without line numbers, which change with every edit. */
const placeOf = (
  stack: unknown,
  message: unknown,
): { readonly function: string; readonly file: string } | undefined => {
  if (typeof stack !== "string") return undefined;
  const text = typeof message === "string" ? message : "";
  const textAt = stack.slice(0, text.length + stackHeadMax).indexOf(text);
  const frames = stack
    .slice(textAt < 0 ? 0 : textAt + text.length)
    .slice(0, framesMax)
    .split("\n")
    .filter((line) => /^\s+at /.test(line));
  const frame = frames.find((line) => !foreignFrame.test(line)) ?? frames[0];
  const parts = /^\s+at (?:async )?(?:(.{1,200}?) \()?(.{1,1000}?)(?::\d+){0,2}\)?$/.exec(frame?.slice(0, 1_200) ?? "");
  if (parts === null) return undefined;
  const file = parts[2]!.slice(Math.max(parts[2]!.lastIndexOf("/"), parts[2]!.lastIndexOf("\\")) + 1);
  return { function: parts[1] ?? file, file };
};

/** A text without what varies: numbers, hexadecimal, what stands in quotes. */
const shapeOf = (text: string): string => text.replace(/"[^"]*"|'[^']*'|`[^`]*`|\b[0-9a-f-]*\d[0-9a-f-]*\b/gi, "#");

const textOf = (thrown: unknown): string => {
  const max = envelopeLimits.errorTextMax;
  if (typeof thrown === "string") return boundedText(thrown, max);
  if (thrown === undefined || thrown === null) return `${thrown} was thrown`;
  const message = field(thrown, "message");
  if (typeof message === "string") return boundedText(message, max);
  if (typeof thrown !== "object" && typeof thrown !== "function") return boundedText(String(thrown), max);
  return `a thrown ${typeof thrown} without a message`;
};

/** A property of anything; getters and proxies may throw. */
const field = (value: unknown, name: string): unknown => {
  if (value === null || value === undefined) return undefined;
  try {
    return (value as Record<string, unknown>)[name];
  } catch {
    return undefined;
  }
};

const fnv1a = (text: string): string => {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return (hash >>> 0).toString(16).padStart(8, "0");
};
