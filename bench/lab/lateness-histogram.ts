/** The server's own lateness histogram of /metrics between two looks, as percentiles. */
const prefix = 'escapement_lateness_seconds_bucket{le="';

export type Buckets = { readonly upperMs: readonly number[]; readonly counts: readonly number[] };

/** Cumulative counts by upper bound, as Prometheus has them. */
export const bucketsOf = (metrics: ReadonlyMap<string, number>): Buckets => {
  const upperMs: number[] = [];
  const counts: number[] = [];
  for (const [name, count] of metrics) {
    if (!name.startsWith(prefix)) continue;
    const upper = name.slice(prefix.length, -2);
    upperMs.push(upper === "+Inf" ? Number.POSITIVE_INFINITY : Number(upper) * 1000);
    counts.push(count);
  }
  return { upperMs, counts };
};

/**
 * The percentile between two looks. Exact at a bucket's edge (1, 2, 5, 10, 25, 50, 100, 250 ms …), a straight line in
 * between: whether p99 is below 25 ms is certain, whether it is 13 or 17 is not.
 */
export const percentileMs = (before: Buckets, after: Buckets, share: number): number => {
  const counts = after.counts.map((count, i) => count - (before.counts[i] ?? 0));
  const wanted = share * (counts.at(-1) ?? 0);
  const at = counts.findIndex((count) => count >= wanted);
  const upper = after.upperMs[at] ?? Number.NaN;
  const lower = after.upperMs[at - 1] ?? 0;
  const below = counts[at - 1] ?? 0;
  if (!Number.isFinite(upper)) return lower;
  const inside = (counts[at] ?? 0) - below;
  return lower + ((wanted - below) / Math.max(inside, 1)) * (upper - lower);
};

export const countBetween = (before: Buckets, after: Buckets): number =>
  (after.counts.at(-1) ?? 0) - (before.counts.at(-1) ?? 0);
