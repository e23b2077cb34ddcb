import { durationMs, type EpochMs, epochMs, epochMsMax, hour } from "./time.ts";

/**
 * Where parked messages wait: in the same store as all others, due in a *bay*, a stretch of time between the years 5000
 * and 9999 that belongs to one dependency. Nothing can be scheduled so far ahead (a year is the limit), so nothing else
 * is ever there, and nothing that looks for due messages ever comes there. Within its bay a message is due by when it
 * was parked, so that reading the bay is reading it in the order of parking.
 *
 * Example: bay 7, parked 2026-03-01T00:00:00.000Z: the bay begins at 95,617,584,000,000 + 7 · 2,407,809,000, and the
 * message stands 5,097,600,000 / 256 = 19,912,500 ms behind its beginning.
 */

/** As many as a bay's number has values in two bytes; ten thousand keys are met, and bays must not run out before. */
export const bayCount = 65_536;

const baysFromMs = Date.UTC(5000, 0, 1);
const bayMs = Math.floor((epochMsMax + 1 - baysFromMs) / bayCount);
/** A bay has some 28 days. In steps of a quarter of a second it holds the places of 19 years, and begins anew then. */
const stepMs = 256;
const stepsFromMs = Date.UTC(2026, 0, 1);

/** After this long a parked message comes out, whatever its dependency does: nothing is forgotten here. */
export const parkedMaxMs = durationMs(7 * 24 * hour);

/** When a message that is parked now is due. */
export const placeInBay = (bay: number, parkedAtMs: EpochMs): EpochMs => {
  const step = Math.floor((parkedAtMs - stepsFromMs) / stepMs) % bayMs;
  return epochMs(baysFromMs + bay * bayMs + (step < 0 ? step + bayMs : step));
};

/** Undefined for every due that is not in a bay. */
export const bayOf = (dueMs: EpochMs): number | undefined => {
  if (dueMs < baysFromMs) return undefined;
  const bay = Math.floor((dueMs - baysFromMs) / bayMs);
  return bay < bayCount ? bay : undefined;
};

export const bayFromMs = (bay: number): EpochMs => epochMs(baysFromMs + bay * bayMs);
export const bayUntilMs = (bay: number): EpochMs => epochMs(baysFromMs + (bay + 1) * bayMs - 1);

/** When the message with this due in a bay was parked, to a quarter of a second. */
export const parkedAtMs = (dueMs: EpochMs, nowMs: EpochMs): EpochMs => {
  const step = (dueMs - baysFromMs) % bayMs;
  // The latest round of the bay in which this place is not in the future, give or take a clock that was set back.
  const round = Math.max(0, Math.floor(((nowMs + hour - stepsFromMs) / stepMs - step) / bayMs));
  return epochMs(stepsFromMs + (step + round * bayMs) * stepMs);
};
