import { type DurationMs, durationMs } from "../message/time.ts";
import { type Backoff, type Jitter, retryAfterMaxMs } from "./policy.ts";

/**
 * How long to wait after a failure, for one draw of chance. Every wait grows with `chance`, so 0 gives its lower bound
 * and almost 1 its upper one; `explain.ts` rests on that.
 *
 * What surprised us: nothing here can overflow into a wrong wait, because growth without end becomes Infinity, and the
 * smaller of that and the cap is the cap.
 */

/** `failures` so far, from 1; `previousMs` is the wait before, where there was one; `chance` in [0, 1). */
export const waitOf = (
  backoff: Backoff,
  failures: number,
  previousMs: DurationMs | undefined,
  chance: number,
): DurationMs => {
  if (backoff.kind === "decorrelated") {
    const { baseMs, factor, capMs } = backoff;
    // Capped after the draw, as in the paper it comes from: drawing below the cap would make the mean a third of it.
    const high = Math.min(previousMs ?? baseMs, capMs) * factor;
    return durationMs(Math.min(capMs, Math.ceil(baseMs + chance * (Math.max(baseMs, high) - baseMs))));
  }
  const stepMs = stepOf(backoff, failures);
  const low = lowest[backoff.jitter];
  return durationMs(Math.ceil(stepMs * low + chance * (stepMs * (1 - low))));
};

/** The part of a step that is not chance. */
const lowest: Readonly<Record<Jitter, number>> = { none: 1, equal: 0.5, full: 0 };

const stepOf = (backoff: Exclude<Backoff, { readonly kind: "decorrelated" }>, failures: number): number => {
  switch (backoff.kind) {
    case "fixed":
      return backoff.delayMs;
    case "list":
      return backoff.delaysMs[Math.min(failures, backoff.delaysMs.length) - 1]!;
    case "linear":
      return Math.min(backoff.capMs, backoff.baseMs + backoff.incrementMs * (failures - 1));
    case "exponential":
      return Math.min(backoff.capMs, backoff.baseMs * backoff.factor ** (failures - 1));
  }
};

/**
 * The same, and never sooner than the other side asked for. Many were told the same at the same moment, so up to a
 * quarter is added by chance, unless the policy wants no jitter.
 */
export const waitAsAsked = (waitMs: DurationMs, askedMs: DurationMs, backoff: Backoff, chance: number): DurationMs => {
  const believedMs = Math.min(askedMs, retryAfterMaxMs);
  const spread = backoff.kind !== "decorrelated" && backoff.jitter === "none" ? 0 : chance / 4;
  return durationMs(Math.max(waitMs, Math.ceil(believedMs * (1 + spread))));
};
