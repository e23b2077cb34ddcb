import type { Log } from "./log.ts";
import type { Timers } from "./timers.ts";

/**
 * The pacer of everything that runs again and again. A room writes `runOnce`: one bounded piece of work that says when
 * it wants to run next; waiting, waking, backing off after errors and stopping are here, once for all.
 */
export type LoopOptions = {
  readonly name: string;
  readonly timers: Timers;
  readonly log: Log;
  /** Does one bounded piece of work and answers in how many milliseconds it wants to run again (0: at once). */
  readonly runOnce: (signal: AbortSignal) => Promise<number>;
  /** First and longest wait after an error; it doubles in between. */
  readonly errorBackoffMs?: { readonly first: number; readonly max: number };
};

export class Loop {
  readonly #options: LoopOptions;
  readonly #abort = new AbortController();
  #finished: Promise<void> = Promise.resolve();
  #wakeUp: (() => void) | undefined;
  #woken = false;

  constructor(options: LoopOptions) {
    this.#options = options;
  }

  start(): this {
    this.#finished = this.#run();
    return this;
  }

  /** Ends the present wait; while `runOnce` is at work, makes it run once more right after. */
  wake(): void {
    this.#woken = true;
    this.#wakeUp?.();
  }

  /** Aborts the signal and waits until the work in hand has ended. */
  async stop(): Promise<void> {
    this.#abort.abort();
    this.#wakeUp?.();
    await this.#finished;
  }

  async #run(): Promise<void> {
    const { name, runOnce, log } = this.#options;
    const backoff = this.#options.errorBackoffMs ?? { first: 100, max: 5_000 };
    const signal = this.#abort.signal;
    let failures = 0;
    while (!signal.aborted) {
      this.#woken = false;
      let waitMs: number;
      try {
        waitMs = await runOnce(signal);
        if (failures > 0) log.info({ loop: name, failures }, "loop works again");
        failures = 0;
      } catch (error) {
        if (signal.aborted) return;
        waitMs = Math.min(backoff.first * 2 ** Math.min(failures, 20), backoff.max);
        // The first failure is news; the same one every few seconds is not.
        if (failures++ === 0) log.warn({ loop: name, err: error, retryInMs: waitMs }, "loop failed, will try again");
        await this.#wait(waitMs, false);
        continue;
      }
      await this.#wait(waitMs, true);
    }
  }

  /** Even a wait of 0 goes through a timer, so that a busy loop never starves I/O. */
  #wait(delayMs: number, wakeable: boolean): Promise<void> {
    if (this.#abort.signal.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = this.#options.timers.after(wakeable && this.#woken ? 0 : delayMs, () => finish());
      const finish = () => {
        timer.cancel();
        this.#wakeUp = undefined;
        resolve();
      };
      this.#wakeUp = () => {
        if (wakeable || this.#abort.signal.aborted) finish();
      };
    });
  }
}
