/** The waits of half mode. They hang together: whoever changes one should see the others. */
export type HalfTiming = {
  /**
   * How long one attempt to make a message visible has the field to itself before a check or the backstop may try. Above
   * `commitWithinMs`, and above what a message takes to be received from its topic by us.
   */
  readonly turnMs: number;
  /** A client that comes later than this after writing its row asks for the turn first. Below `turnMs`. */
  readonly commitWithinMs: number;
  /** Committed, and nobody has tried for so long: sent again. Above the broker's own checks (60 s + 30 s as advised). */
  readonly backstopAfterMs: number;
  /** The backstop waits for a watch that lags behind its topic, but not for ever. */
  readonly backstopLatestMs: number;
  /** A settled row is forgotten then. Above the longest that a business transaction can last. */
  readonly keepSettledMs: number;
};

export const halfTimingDefault: HalfTiming = {
  turnMs: 10_000,
  commitWithinMs: 5_000,
  backstopAfterMs: 120_000,
  backstopLatestMs: 1_200_000,
  keepSettledMs: 3 * 86_400_000,
};
