import { AsyncLocalStorage } from "node:async_hooks";

/**
 * Several clocks in one process: whatever `work` starts, its timers and sockets too, sees the time of day shifted, for as
 * long as it runs; everything else, such as a broker of the test, sees the true one. So two instances of an application
 * can be two days apart. Only the time of day: the monotonic clock is each machine's own anyway.
 */
const skewMs = new AsyncLocalStorage<number>();
let real: typeof Date.now | undefined;

export const withSkew = <T>(ms: number, work: () => Promise<T>): Promise<T> => {
  if (real === undefined) {
    const now = Date.now;
    Date.now = () => now() + (skewMs.getStore() ?? 0);
    real = now;
  }
  return skewMs.run(ms, work);
};

export const withoutSkews = (): void => {
  if (real !== undefined) Date.now = real;
  real = undefined;
};
