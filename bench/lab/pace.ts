/** Waiting and pacing for benchmarks. */
export const pause = (durationMs: number): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, Math.max(0, durationMs)));

export const until = async (
  what: string,
  withinMs: number,
  condition: () => boolean | Promise<boolean>,
  everyMs = 10,
) => {
  const endMs = performance.now() + withinMs;
  while (!(await condition())) {
    if (performance.now() > endMs) throw new Error(`not within ${withinMs} ms: ${what}`);
    await pause(everyMs);
  }
};

/** Works through `count` pieces with so many in flight. */
export const inParallel = async (
  count: number,
  inFlight: number,
  work: (i: number) => Promise<unknown>,
): Promise<void> => {
  let next = 0;
  const lane = async (): Promise<void> => {
    while (next < count) await work(next++);
  };
  await Promise.all(Array.from({ length: Math.min(inFlight, count) }, lane));
};

/** Calls `work` `perSecond` times a second for a while, in steps of 5 ms; a step that comes late catches up. */
export const atRate = async (perSecond: number, durationMs: number, work: (i: number) => void): Promise<number> => {
  const beganMs = performance.now();
  let done = 0;
  for (;;) {
    const passedMs = Math.min(performance.now() - beganMs, durationMs);
    const wanted = Math.floor((passedMs / 1000) * perSecond);
    while (done < wanted) work(done++);
    if (passedMs >= durationMs) return done;
    await pause(5);
  }
};
