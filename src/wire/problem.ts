import { type EscapementError, errorTable } from "../message/errors.ts";
import type { Problem } from "./http.ts";

/** How an error looks on the wire (RFC 9457). Used for whole replies and for single items of a batch. */
export const problemOf = (error: EscapementError): Problem => {
  const { status, title } = errorTable[error.code];
  const problem: Problem = {
    type: `urn:escapement:error:${error.code}`,
    title,
    status,
    code: error.code,
    detail: error.message,
  };
  if (error.field !== undefined) problem.field = error.field;
  return problem;
};
