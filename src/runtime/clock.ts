import type { EpochMs } from "../message/time.ts";

/** The time of day and the time since start. The only two questions about time that a room may ask. */
export interface Clock {
  /** Checked wall clock; never goes backward within a process. */
  nowMs(): EpochMs;
  /** Monotonic milliseconds with fractions, for deadlines and leases. */
  monotonicMs(): number;
}
