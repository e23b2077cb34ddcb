/**
 * Errors of a consumer that its program sees; decide by `code`.
 *
 * - `invalid_option`: what the program gave; `field` names it.
 * - `group_missing`: the consumer group or its retry topic does not exist and cannot be created from here. The message
 *   has the commands.
 * - `broker_unavailable`: RocketMQ does not answer at `endpoint`.
 */
export type ConsumerErrorCode = "invalid_option" | "group_missing" | "broker_unavailable";

export class EscapementConsumerError extends Error {
  override readonly name = "EscapementConsumerError";
  readonly code: ConsumerErrorCode;
  readonly field: string | undefined;

  constructor(code: ConsumerErrorCode, message: string, details: { field?: string; cause?: unknown } = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.field = details.field;
  }
}

export const invalidOption = (field: string, why: string): EscapementConsumerError =>
  new EscapementConsumerError("invalid_option", `${field} ${why}.`, { field });
