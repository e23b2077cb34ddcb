/**
 * Processes that a benchmark started. The runner hears of each, so that nothing stays behind when the benchmark itself
 * is killed because it took too long.
 */
export const noteStarted = (pid: number): void => {
  process.send?.({ started: pid });
};
