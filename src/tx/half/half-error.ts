/**
 * What half mode refuses, with codes that programs may decide by. Nothing was sent; except for `half_fenced` nothing
 * was written either.
 */
export type HalfErrorCode =
  | "half_with_group"
  | "half_with_delay"
  | "half_empty_body"
  | "half_body_too_large"
  | "half_body_not_kept"
  | "half_properties"
  | "half_reserved_property"
  | "half_invalid_topic"
  | "half_invalid_tag"
  | "half_invalid_key"
  | "half_fenced"
  | "half_refused"
  | "half_finished";

export class HalfError extends Error {
  override readonly name = "HalfError";
  readonly code: HalfErrorCode;

  constructor(code: HalfErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}
