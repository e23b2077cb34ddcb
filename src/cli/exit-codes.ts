import { isEscapementError } from "../message/errors.ts";
import {
  EscapementApiError,
  EscapementBatchStoppedError,
  EscapementClientError,
  EscapementInputError,
  EscapementUnreachableError,
} from "../sdk/client.ts";

/**
 * How a command ends: the number that scripts read, and the sentences that people read. Pure; what is printed and
 * where is decided elsewhere.
 */
export const exitCode = {
  ok: 0,
  refused: 1,
  usage: 2,
  unreachable: 3,
  partlyRejected: 4,
  notFound: 5,
  tooLate: 6,
  interrupted: 130,
  outputClosed: 141,
} as const;

/** As the help shows it. */
export const exitCodeLegend: readonly (readonly [number, string])[] = [
  [exitCode.ok, "done"],
  [exitCode.refused, "the server refused, failed, or is not healthy"],
  [exitCode.usage, "the command line is wrong, or a file cannot be read"],
  [exitCode.unreachable, "no server answered"],
  [exitCode.partlyRejected, "some lines of --file were rejected; the others are scheduled"],
  [exitCode.notFound, "no message with that id or key, no topic, group or policy of that name"],
  [exitCode.tooLate, "too late: the message is being sent or has ended"],
];

/** A mistake on the command line that only shows after parsing. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** What is wrong stands in a file or the flags, so it is a usage error and no answer of a server. */
export const asUsage = <T>(read: () => T): T => {
  try {
    return read();
  } catch (error) {
    if (isEscapementError(error)) throw new UsageError(error.message);
    throw error;
  }
};

/** What a command names is not there. */
export class NotFoundError extends Error {
  override readonly name = "NotFoundError";
  readonly code = "not_found";
}

/** Ends the command with this code; what there was to say has been said. */
export class QuietExit extends Error {
  override readonly name = "QuietExit";
  readonly code: number;

  constructor(code: number) {
    super(`exit ${code}`);
    this.code = code;
  }
}

const notFoundCodes: ReadonlySet<string> = new Set(["not_found", "policy_not_found", "binding_not_found"]);

export const exitCodeOf = (error: unknown): number => {
  if (error instanceof QuietExit) return error.code;
  if (error instanceof UsageError || error instanceof EscapementInputError) return exitCode.usage;
  if (error instanceof NotFoundError) return exitCode.notFound;
  if (error instanceof EscapementBatchStoppedError) return exitCodeOf(error.cause);
  if (error instanceof EscapementUnreachableError) return exitCode.unreachable;
  if (error instanceof EscapementClientError && notFoundCodes.has(error.code)) return exitCode.notFound;
  if (error instanceof EscapementClientError && error.code === "too_late") return exitCode.tooLate;
  return exitCode.refused;
};

/** The error as one JSON value, for `--json`. */
export const errorAsJson = (error: unknown): { error: Record<string, unknown> } => {
  if (error instanceof EscapementBatchStoppedError) return errorAsJson(error.cause);
  const { code = "error", status, field, effect, retryAfterMs } = error as Partial<EscapementApiError>;
  return { error: { code, detail: messageOf(error), status, field, effect, retryAfterMs } };
};

/** What happened, then what to do about it: the first line is the error, the others are advice. */
export const explain = (error: unknown): string[] => {
  const lines = [messageOf(error)];
  if (error instanceof EscapementApiError) {
    lines[0] = `${error.code}: ${error.message}`;
    if (error.field !== undefined) lines.push(`The field at fault: ${error.field}`);
    if (error.retryAfterMs !== undefined) lines.push(`Try again in ${Math.ceil(error.retryAfterMs / 1_000)} s.`);
    if (error.effect === "unknown") lines.push(repeatAdvice);
  } else if (error instanceof EscapementUnreachableError) {
    if (error.effect === "none") lines.push("Is the server running? It is started with: escapement serve");
    lines.push("To ask another server, give --url or set ESCAPEMENT_URL.");
    if (error.effect === "unknown") lines.push(repeatAdvice);
  }
  return lines;
};

const repeatAdvice =
  "It is not known whether this took effect. It is safe to repeat what names a message by id or --key.";

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
