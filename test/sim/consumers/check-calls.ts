import type { Run } from "./book.ts";
import type { AfterConsumers, Violated } from "./check-consumers.ts";

/** What reaches the dependencies: few calls while one is gone, and retries within their budget. */
export const checkCalls = (after: AfterConsumers, violated: Violated): void => {
  // Replaced in flight, either of two policies may hold at any time.
  if (after.options.bound) return;
  checkOutages(after, violated);
  checkBudget(after, violated);
};

/** From here on the breaker knows. */
const noticedMs = 3_000;

const checkOutages = ({ options, book, dependencies, lives }: AfterConsumers, violated: Violated): void => {
  const { breaker } = options.policy;
  if (breaker === undefined || breaker === null) return;
  for (const { key, fromMs, toMs } of book.outages) {
    const sinceMs = fromMs + noticedMs;
    if (toMs - sinceMs < 2_000) continue;
    const calls = dependencies.calls.filter((call) => call.key === key && call.atMs > sinceMs && call.atMs < toMs);
    const rounds = (toMs - sinceMs) / breaker.probeEveryMs + 2;
    const windows = (toMs - sinceMs) / breaker.windowMs + 2;
    // Each process may find out by itself: probes in their rounds, and too few calls in a window to judge by.
    const most = lives * (breaker.probes * rounds + breaker.minCalls * windows) + 10;
    if (calls.length <= most) continue;
    const text = `${key} is gone for ${Math.round(toMs - fromMs)} ms and called ${calls.length} times when that was known; ${Math.round(most)} at most`;
    violated("C8 what is gone is left alone", text);
  }
};

const windowMs = 5_000;

const checkBudget = ({ options, book }: AfterConsumers, violated: Violated): void => {
  const { budget } = options.policy;
  if (budget === undefined || budget === null) return;
  const byWorker = Map.groupBy(
    book.runs.filter(({ key }) => key !== undefined),
    ({ node, key }) => `${node.name} ${key}`,
  );
  for (const [who, runs] of byWorker) {
    const retries = runs.filter(isRetry);
    for (let i = 0; i < retries.length; i++) {
      const fromMs = retries[i]!.startMs;
      const within = retries.filter(({ startMs }) => startMs >= fromMs && startMs < fromMs + windowMs).length;
      const worked = runs.filter(
        ({ end, endMs }) => end === "ok" && endMs! < fromMs + windowMs && endMs! > fromMs - 60_000,
      ).length;
      // The floor of these seconds, what of it had gathered, and the part of the successes, old ones included.
      const most = budget.minPerSec * (windowMs / 1_000 + 2) + (worked * budget.percent) / 100 + 2;
      if (within <= most) continue;
      const text = `${who}: ${within} retries in ${windowMs} ms from ${(fromMs / 1000).toFixed(3)} s, ${Math.floor(most)} at most`;
      violated("C8 retries keep to their budget", text);
      return;
    }
  }
};

/** Released ones go by the ramp instead. */
const isRetry = ({ attempt, entry }: Run): boolean => attempt > 1 && entry.envelope?.parkedAtMs === undefined;
