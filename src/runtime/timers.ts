/** The one way to wait. The system's timers live in adapters/system, simulated ones in test/sim. */
export interface Timers {
  /** Calls back once after `delayMs` (0: as soon as pending I/O was looked at). May be up to a millisecond early. */
  after(delayMs: number, callback: () => void): Timer;
}

export interface Timer {
  cancel(): void;
}

/** Resolves after `delayMs`, or at once when `signal` aborts. */
export const sleep = (timers: Timers, delayMs: number, signal?: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    if (signal?.aborted) return resolve();
    const done = () => {
      timer.cancel();
      signal?.removeEventListener("abort", done);
      resolve();
    };
    const timer = timers.after(delayMs, done);
    signal?.addEventListener("abort", done, { once: true });
  });
