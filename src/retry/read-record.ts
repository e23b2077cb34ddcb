import { type DurationMs, durationMs, type EpochMs, epochMs, epochMsMax } from "../message/time.ts";
import type { JsonReader } from "./json-reader.ts";
import { failureClasses, policyLimits } from "./policy.ts";
import { byMessage, type RecordedMessage } from "./replay.ts";

/** Recorded failures from JSON: one object for each. What is wrong is told by the reader with its place. */
export const readRecord = (reader: JsonReader, lines: readonly unknown[], path: string): RecordedMessage[] => {
  if (lines.length === 0) reader.refuse(path, "is empty; there is nothing to live through");
  if (lines.length > recordLimits.failuresMax) {
    reader.refuse(path, `has ${lines.length} failures, ${recordLimits.failuresMax} are allowed`);
    return [];
  }
  return byMessage(lines.map((line, i) => readFailure(reader, line, `${path}[${i}]`)));
};

export const recordLimits = {
  /** Some 8 MB of JSON. */
  failuresMax: 50_000,
  messageLengthMax: 256,
} as const;

const names = ["message", "atMs", "class", "code", "status", "retryAfterMs", "attempt", "succeededAtMs"];

const readFailure = (reader: JsonReader, line: unknown, path: string) => {
  const fields = reader.object(line, path, names);
  if (fields.message === undefined) reader.refuse(`${path}.message`, "is missing; which message failed?");
  const failureClass = reader.choice(fields.class, `${path}.class`, failureClasses, "transient");
  const status = reader.whole(fields.status, `${path}.status`, 100, 599, 0);
  const byDefault = status === 0 ? failureClass : `http_${status}`;
  const atMs = instant(reader, fields.atMs, `${path}.atMs`);
  const succeededAtMs =
    fields.succeededAtMs === undefined ? undefined : instant(reader, fields.succeededAtMs, `${path}.succeededAtMs`);
  if (succeededAtMs !== undefined && succeededAtMs < atMs) reader.refuse(`${path}.succeededAtMs`, "is before atMs");
  return {
    message: reader.text(fields.message, `${path}.message`, recordLimits.messageLengthMax, ""),
    atMs,
    attempt: reader.whole(fields.attempt, `${path}.attempt`, 1, policyLimits.attemptsMax, 1),
    succeededAtMs,
    failure: {
      class: failureClass,
      code: reader.text(fields.code, `${path}.code`, policyLimits.textMax, byDefault),
      ...(status === 0 ? undefined : { status }),
      ...(fields.retryAfterMs === undefined
        ? undefined
        : {
            retryAfterMs: reader.duration(
              fields.retryAfterMs,
              `${path}.retryAfterMs`,
              durationMs(0),
              epochMsMax as number as DurationMs,
              durationMs(0),
            ),
          }),
    },
  };
};

/** As a number only: this is written by programs, millions of times. */
const instant = (reader: JsonReader, value: unknown, path: string): EpochMs => {
  if (value === undefined) reader.refuse(path, "is missing; give epoch milliseconds");
  // 10^11 ms is March 1973; a smaller number is an epoch in seconds.
  return epochMs(reader.whole(value, path, 100_000_000_000, epochMsMax, epochMsMax));
};
