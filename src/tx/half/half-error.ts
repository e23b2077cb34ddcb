/** What half mode refuses beside what every mode refuses, with codes that programs may decide by. Nothing was sent. */
export type HalfErrorCode =
  | "half_with_group"
  | "half_with_delay"
  | "half_body_not_kept"
  | "half_refused"
  | "half_finished"
  | "half_fenced";

export class HalfError extends Error {
  override readonly name = "HalfError";
  readonly code: HalfErrorCode;

  constructor(code: HalfErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}
