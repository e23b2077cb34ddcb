/**
 * How fast a redrive goes: so many a second, reached in a straight line from a tenth of it. Pure arithmetic: the
 * message of number k goes `offsetMs(k)` after the beginning.
 *
 * While the ramp lasts, the rate at time t is r0 + (r1 - r0) t / T, so the number gone by then is its integral
 * r0 t + (r1 - r0) t² / 2T, and the time of the k-th is that solved for t. After the ramp it is a straight line.
 *
 * Example: 100 a second with a ramp of 10 s begin at 10 a second. In the ramp go (10 + 100) / 2 · 10 = 550; number 550
 * goes at 10 s, number 650 at 11 s.
 */
export type Pace = { readonly perSec: number; readonly rampMs: number };

/** Where a ramp begins, as a part of the rate. */
const rampFrom = 0.1;

export const offsetMs = ({ perSec, rampMs }: Pace, k: number): number => {
  const r1 = perSec / 1_000;
  if (rampMs === 0) return k / r1;
  const r0 = r1 * rampFrom;
  const inRamp = ((r0 + r1) / 2) * rampMs;
  if (k >= inRamp) return rampMs + (k - inRamp) / r1;
  const slope = (r1 - r0) / rampMs;
  // The larger root of slope/2 t² + r0 t - k, written so that nothing large is subtracted.
  return (2 * k) / (r0 + Math.sqrt(r0 * r0 + 2 * slope * k));
};
