import type { ErrorCode } from "../message/errors.ts";
import type { MessageDetails } from "../wire/http.ts";

/**
 * Every error the client throws on purpose. Decide by `code`, never by the text of the message: codes are stable, the
 * sentences get better over time. All extend {@link EscapementClientError}; what an AbortSignal of yours carries as its
 * reason is thrown as it is, the way `fetch` does it.
 */

/**
 * Whether the request may have taken effect.
 * - `none`: it certainly had no effect.
 * - `unknown`: it may have taken effect. Repeat it with the same `key` (schedule) or as it is (cancel, reschedule).
 */
export type Effect = "none" | "unknown";

/** Codes that only the client uses, beside those of the server ({@link ErrorCode}). */
export type ClientErrorCode =
  | "invalid_argument"
  | "unreachable"
  | "unexpected_reply"
  | "wait_timeout"
  | "wait_ended"
  | "batch_stopped"
  | "closed";

/** Known codes, and room for those of a newer server. */
export type EscapementCode = ErrorCode | ClientErrorCode | (string & {});

export class EscapementClientError extends Error {
  override readonly name: string = "EscapementClientError";
  readonly code: EscapementCode;

  constructor(code: EscapementCode, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
  }
}

/** An argument that cannot be sent at all, found before anything was sent. `field` names it. */
export class EscapementInputError extends EscapementClientError {
  override readonly name = "EscapementInputError";
  readonly field: string | undefined;

  constructor(message: string, field?: string) {
    super("invalid_argument", message);
    this.field = field;
  }
}

/** The server answered, and its answer is no. `message` is its sentence on what to change. */
export class EscapementApiError extends EscapementClientError {
  override readonly name = "EscapementApiError";
  /** HTTP status. For one item of a batch: the status it would have had alone. */
  readonly status: number;
  /** The field at fault, for example `properties.color`. */
  readonly field: string | undefined;
  /** When another try makes sense, in milliseconds from the reply; only where the server says so. */
  readonly retryAfterMs: number | undefined;
  /** `unknown` after `store_unavailable` and the like, and when an earlier try of the same call got no answer. */
  readonly effect: Effect;
  /** Requests sent for this call, retries included. */
  readonly attempts: number;

  constructor(
    code: EscapementCode,
    message: string,
    details: { status: number; field?: string; retryAfterMs?: number; effect: Effect; attempts: number },
  ) {
    super(code, message);
    this.status = details.status;
    this.field = details.field;
    this.retryAfterMs = details.retryAfterMs;
    this.effect = details.effect;
    this.attempts = details.attempts;
  }
}

/** No answer: nobody listens, the connection broke, or time ran out. `effect` says whether anything may have happened. */
export class EscapementUnreachableError extends EscapementClientError {
  override readonly name = "EscapementUnreachableError";
  readonly effect: Effect;
  readonly attempts: number;

  constructor(message: string, details: { effect: Effect; attempts: number; cause: unknown }) {
    super("unreachable", message, details.cause);
    this.effect = details.effect;
    this.attempts = details.attempts;
  }
}

/**
 * `waitFor` gave up: `wait_timeout` when time ran out, `wait_ended` when the message ended in another state, which
 * nothing leaves by itself. `last` is what was known of the message, undefined when it was never found.
 */
export class EscapementWaitError extends EscapementClientError {
  override readonly name = "EscapementWaitError";
  readonly last: MessageDetails | undefined;

  constructor(code: "wait_timeout" | "wait_ended", message: string, last: MessageDetails | undefined) {
    super(code, message);
    this.last = last;
  }
}

/**
 * A batch could not go on, for the reason in `cause` (for example the server went away). Items before `firstIndex`
 * have had their results. Those from `firstIndex` on may or may not be stored: send them again under the same keys of
 * your own, and each is still one message.
 */
export class EscapementBatchStoppedError extends EscapementClientError {
  override readonly name = "EscapementBatchStoppedError";
  readonly firstIndex: number;

  constructor(firstIndex: number, cause: unknown) {
    super("batch_stopped", `The batch stopped at item ${firstIndex}: ${textOf(cause)}`, cause);
    this.firstIndex = firstIndex;
  }
}

const textOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
