import { type ErrorCode, EscapementError, errorTable } from "../message/errors.ts";
import { problemOf } from "../wire/problem.ts";
import { ProblemSchema } from "./reply-schemas.ts";

/** The errors of each route for the API reference, made from the error table; nothing decides by them. */

/** Error replies of a route by status, with one example for each code. */
export const problems = (...codes: readonly ErrorCode[]): Record<number, object> => {
  const byStatus = Map.groupBy(codes, (code) => errorTable[code].status);
  return Object.fromEntries(
    [...byStatus].map(([status, some]) => [
      status,
      {
        description: some.map((code) => `\`${code}\` ${errorTable[code].title}`).join("\n\n"),
        content: {
          "application/problem+json": {
            schema: { $ref: `${ProblemSchema.$id}#` },
            examples: Object.fromEntries(some.map((code) => [code, { value: exampleProblem(code) }])),
          },
        },
      },
    ]),
  );
};

const exampleProblem = (code: ErrorCode) =>
  problemOf(new EscapementError(code, "In a sentence: what was wrong and what to change."));

/** What any route that reads a body can answer. */
export const requestProblems = [
  "invalid_json",
  "invalid_utf8",
  "invalid_request",
  "request_timeout",
  "request_too_large",
  "unsupported_media_type",
  "overloaded",
] as const satisfies readonly ErrorCode[];

/** What checking the fields of a message can answer. */
export const fieldProblems = [
  "invalid_field",
  "unknown_field",
  "missing_field",
  "reserved_property",
  "too_many_properties",
  "properties_too_large",
  "empty_body",
  "body_too_large",
  "time_missing",
  "time_ambiguous",
  "invalid_time",
  "delay_too_long",
  "expires_before_due",
] as const satisfies readonly ErrorCode[];

/** What the state of the service can answer. */
export const serviceProblems = [
  "store_unavailable",
  "store_refusing",
  "store_full",
  "shutting_down",
  "internal",
] as const satisfies readonly ErrorCode[];
