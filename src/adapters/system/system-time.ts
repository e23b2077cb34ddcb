import type { MachineClock } from "../../runtime/clock.ts";
import type { Timers } from "../../runtime/timers.ts";

/** The machine's own clocks and timers: the only file of the server that asks for the time or sets a timer. */

export const machineClock: MachineClock = {
  wallMs: () => Date.now(),
  monotonicMs: () => performance.now(),
};

export const systemTimers: Timers = {
  after(delayMs, callback) {
    // setImmediate for "now": setTimeout(0) would wait a full millisecond.
    if (delayMs <= 0) {
      const immediate = setImmediate(callback);
      return { cancel: () => clearImmediate(immediate) };
    }
    const timeout = setTimeout(callback, delayMs);
    return { cancel: () => clearTimeout(timeout) };
  },
};
