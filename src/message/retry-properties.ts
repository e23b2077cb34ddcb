/**
 * Properties by which consumer and service speak of a failed message: the consumer writes them, the receiver of the
 * ingest topic reads them, and the first stays on the message, also among the dead.
 */
export const retryProperty = {
  /** The envelope: group, origin, attempts, history (retry/envelope-codec.ts). */
  envelope: "ESC_RETRY",
  /** Park it under this dependency. */
  park: "ESC_PARK",
  /** Keep it among the dead, for this reason. */
  dead: "ESC_DEAD",
} as const;
