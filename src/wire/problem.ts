import { type EscapementError, errorTable } from "../message/errors.ts";
import type { Problem } from "./http.ts";

/**
 * How an error looks on the wire (RFC 9457). Used for whole replies and for single items of a batch. `type` leads to
 * the page that explains the code, relative to where the API was reached.
 */
export const problemOf = (error: EscapementError): Problem => {
  const { status, title } = errorTable[error.code];
  const problem: Problem = { type: problemType(error.code), title, status, code: error.code, detail: error.message };
  if (error.field !== undefined) problem.field = error.field;
  return problem;
};

export const problemType = (code: string): string => `/docs/errors#${code}`;
