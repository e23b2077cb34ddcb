import type { FailureClass } from "./policy.ts";

/**
 * Errors by which a handler says itself what kind of failure it met. They are known by `failureClass`, not by their
 * class, so that two copies of this package in one program understand each other.
 */
export class ClassifiedError extends Error {
  override readonly name: string = "ClassifiedError";
  readonly failureClass: FailureClass;
  readonly code: string;

  constructor(failureClass: FailureClass, code: string, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.failureClass = failureClass;
    this.code = code;
  }
}

export type ErrorDetails = {
  /** Stable, for the rules of a policy and for counting, such as `account_locked`. */
  readonly code?: string;
  readonly cause?: unknown;
};

/** It will work later. */
export class TransientError extends ClassifiedError {
  override readonly name = "TransientError";
  constructor(message: string, { code = "transient", cause }: ErrorDetails = {}) {
    super("transient", code, message, cause);
  }
}

/** The other side asks for patience. */
export class ThrottledError extends ClassifiedError {
  override readonly name = "ThrottledError";
  readonly retryAfter: RetryAfter | undefined;

  /** @param retryAfter a duration (`"30s"`, or milliseconds), an instant, or a `Retry-After` header as it came. */
  constructor(
    retryAfter?: RetryAfter,
    message = "asked for patience",
    { code = "throttled", cause }: ErrorDetails = {},
  ) {
    super("throttled", code, message, cause);
    this.retryAfter = retryAfter;
  }
}

/** Milliseconds as a number; a text of digits is what a header holds, and so seconds. */
export type RetryAfter = string | number | Date;

/** It can never work as it is. */
export class PermanentError extends ClassifiedError {
  override readonly name = "PermanentError";
  constructor(message: string, { code = "permanent", cause }: ErrorDetails = {}) {
    super("permanent", code, message, cause);
  }
}

/** It may have taken effect, and nobody knows. */
export class UnknownOutcomeError extends ClassifiedError {
  override readonly name = "UnknownOutcomeError";
  constructor(message: string, { code = "unknown_outcome", cause }: ErrorDetails = {}) {
    super("unknown", code, message, cause);
  }
}
