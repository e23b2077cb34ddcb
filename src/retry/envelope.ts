import type { DurationMs, EpochMs } from "../message/time.ts";
import type { FailureClass } from "./policy.ts";

/**
 * What a message that failed carries with it from attempt to attempt, beside its own tag, keys, properties and body:
 * where it came from and what happened to it. It travels as one property and is bounded, however long errors are.
 */
export type RetryEnvelope = {
  /** The consumer group that failed. Only it gets the message again. */
  readonly group: string;
  /** Where the group first received it. */
  readonly originTopic: string;
  /** The id of that message: sender's id, host and birth, because an id alone is not unique. */
  readonly originId: string;
  readonly originBornAtMs: EpochMs;
  /** Its `ESC_ID`, where it had one: the same for all copies of a message, which the id above is not. */
  readonly originEscId?: string;
  /** The user's own message group at its origin, where it had one. */
  readonly originMessageGroup?: string;
  /**
   * Raised with every hand-over, whatever its reason. Handing over the same hop of the same origin twice (a crash
   * between hand-over and acknowledgement) is one message.
   */
  readonly hop: number;
  /** Attempts taken so far. */
  readonly attempt: number;
  /** Of these, how many ended without an outcome. */
  readonly crashes: number;
  readonly firstFailedAtMs?: EpochMs;
  /** Since then, how long it was parked, without the stay under way. */
  readonly parkedMs: DurationMs;
  /** When the stay under way began; and whose key it waits for. */
  readonly parkedAtMs?: EpochMs;
  readonly parkedFor?: string;
  /** The wait before the next attempt. */
  readonly previousDelayMs?: DurationMs;
  /** `name@version` of the policy that decided last. */
  readonly policy: string;
  /** Nobody knows whether the last attempt took effect: this must be found out before the next. */
  readonly mustVerify?: boolean;
  /** The last ones, oldest first; the first failure of all is kept as well. */
  readonly history: readonly PastFailure[];
  /** Times it was brought back from the dead. */
  readonly replays: number;
  /** The redrive job that last did so. */
  readonly redrive?: string;
  /** Times a policy sent it to another topic; ends a circle. */
  readonly redirects: number;
};

export type PastFailure = {
  readonly attempt: number;
  readonly atMs: EpochMs;
  readonly class: FailureClass;
  readonly code: string;
  /** Equal for failures of one cause: made from the error's name, code and place, without what varies. */
  readonly fingerprint: string;
  /** The beginning of the error's text. */
  readonly text: string;
};
