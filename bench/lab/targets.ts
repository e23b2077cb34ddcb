import type { Row } from "./row.ts";

/**
 * What must be reached on a quiet machine with two cores. `must` is what a change may not fall below once it was
 * reached. A target is about one number of one row, or about the ratio of two rows of the same run.
 */
export type Target = {
  readonly row: string;
  /** A name out of `numbers`, or `perSecond`. */
  readonly number: string;
  readonly must: number;
  readonly better: "higher" | "lower";
  /** The other row, when the number is meant as a ratio: this row divided by that one. */
  readonly against?: string;
};

const rate = (row: string, must: number): Target => ({ row, number: "perSecond", must, better: "higher" });
const atMost = (row: string, number: string, must: number): Target => ({ row, number, must, better: "lower" });
const times = (row: string, against: string, must: number, number = "perSecond"): Target => ({
  row,
  number,
  must,
  better: number === "perSecond" ? "higher" : "lower",
  against,
});

const wheelRows = ["insert", "cancel", "expire, a step per ms"].map((operation) =>
  rate(`wheel/wheel, 1,000,000 entries, as loaded: ${operation}`, 5_000_000),
);

const overBullmq = (["always", "everysec"] as const).flatMap((fsync) => [
  times(`bullmq/add ${fsync} ours`, `bullmq/add ${fsync} bullmq`, 2),
  times(`bullmq/bulk ${fsync} ours`, `bullmq/bulk ${fsync} bullmq`, 2.5),
  times(`bullmq/fire ${fsync} ours`, `bullmq/fire ${fsync} bullmq`, 3),
  times(`bullmq/lateness ${fsync} ours`, `bullmq/lateness ${fsync} bullmq`, 1 / 5, "p99 ms"),
  times(`bullmq/burst ${fsync} ours`, `bullmq/burst ${fsync} bullmq`, 1 / 5, "p99 ms"),
]);

const retriesOfOurs = ["rocketmq", "embedded"].flatMap((name): Target[] => [
  atMost(`bullmq retries/lateness always ${name}`, "early", 0),
  { row: `bullmq retries/killed ${name}`, number: "poison given up", must: 1, better: "higher" },
  atMost(`bullmq retries/killed ${name}`, "poison was run", 3),
  atMost(`bullmq retries/killed ${name}`, "healthy given up", 0),
  atMost(`bullmq retries/outage ${name}`, "healthy given up", 0),
  atMost(`bullmq retries/outage ${name}`, "calls a message", 5),
]);

export const targets: readonly Target[] = [
  ...wheelRows,
  rate("store/schedule, random dues always", 75_000),
  rate("store/schedule, random dues everysec", 120_000),
  rate("store/claim + settle, random dues always", 80_000),
  rate("store/claim + settle, random dues everysec", 120_000),
  rate("sqlite/accept batch, one fixed delay", 60_000),
  rate("sqlite/accept batch, random dues", 60_000),
  atMost("sqlite/restart", "open ms", 2_000),
  rate("embedded/sustained", 10_000),
  rate("embedded/batch", 60_000),
  atMost("embedded/2 k", "early", 0),
  times("broker/send batch embedded", "broker/send batch rocketmq", 1),
  times("broker/receive + ack embedded", "broker/receive + ack rocketmq", 1),
  atMost("broker/recovery", "start ms", 2_000),
  rate("http/single", 20_000),
  rate("http/batch", 70_000),
  rate("http/ndjson", 70_000),
  rate("ingest/topic", 4_000),
  rate("retry/hand-over rocketmq", 4_000),
  rate("dispatch/broker", 25_000),
  rate("end to end/sustained", 15_000),
  atMost("end to end/2 k", "dispatch p50 ms", 5),
  atMost("end to end/2 k", "dispatch p99 ms", 25),
  atMost("end to end/2 k", "consumer p50 ms", 15),
  atMost("end to end/2 k", "consumer p99 ms", 60),
  atMost("end to end/2 k", "early", 0),
  atMost("end to end/10 k", "dispatch p99 ms", 50),
  atMost("end to end/10 k", "early", 0),
  atMost("burst/noop", "last after ms", 300),
  atMost("burst/noop", "other topic p99 ms", 200),
  atMost("burst/broker", "last after ms", 4_000),
  atMost("burst/broker", "other topic p99 ms", 200),
  atMost("memory/hour", "index B per message", 40),
  atMost("memory/hour", "B per message", 350),
  atMost("memory/30 days", "index B per message", 40),
  atMost("memory/30 days", "B per message", 350),
  times("memory/hour", "memory/bullmq", 1 / 2.5, "B per message"),
  atMost("takeover/kill -9", "latest ms", 12_000),
  atMost("takeover/kill -9", "lost", 0),
  atMost("takeover/planned", "latest ms", 500),
  atMost("takeover/planned", "duplicates", 0),
  atMost("takeover/cold start", "last after ms", 2_000),
  atMost("event loop/million", "reading max ms", 50),
  ...overBullmq,
  ...retriesOfOurs,
  times("rocketmq timer/ours accept", "rocketmq timer/1000 ms accept", 5),
  times("rocketmq timer/ours accept", "rocketmq timer/100 ms accept", 5),
  times("rocketmq timer/ours lateness", "rocketmq timer/1000 ms lateness", 1 / 10, "p99 ms"),
  times("rocketmq timer/ours lateness", "rocketmq timer/100 ms lateness", 1 / 2, "p99 ms"),
  times("rocketmq timer/ours drain", "rocketmq timer/1000 ms drain", 1, "last after ms"),
  times("rocketmq timer/ours drain", "rocketmq timer/100 ms drain", 1, "last after ms"),
  atMost("transactions/outbox 16", "statements", 7.5),
  atMost("transactions/outbox 64", "statements", 7.5),
  atMost("transactions/visible fast", "duplicates", 0),
  // Not a comparison: the outbox that could not be run here looks once a second when nobody wakes it.
  atMost("transactions/visible fast", "p99 ms", 100),
  atMost("transactions/visible left behind", "p99 ms", 7_000),
  times("transactions/claim at 10000000", "transactions/claim at 10000", 2, "claim p50 ms"),
  times("transactions/claim at 10000000", "transactions/claim at 10000", 3, "claim p99 ms"),
  times("transactions/claim at 10000000", "transactions/claim at 10000", 3, "next due p50 ms"),
  times("transactions/outage down", "transactions/outage up", 0.8),
  atMost("transactions/outage after", "not sent", 0),
];

export type Verdict = Target & {
  readonly value: number;
  readonly verdict: "reached" | "missed" | "void";
};

const numberOf = (row: Row, name: string): number | undefined =>
  name === "perSecond" ? row.perSecond : row.numbers[name];

/** Every target whose rows were measured. */
export const judge = (rows: readonly Row[]): Verdict[] => {
  const byId = new Map(rows.map((row) => [row.id, row]));
  return targets.flatMap((target): Verdict[] => {
    const row = byId.get(target.row);
    const other = target.against === undefined ? undefined : byId.get(target.against);
    if (row === undefined || (target.against !== undefined && other === undefined)) return [];
    const own = numberOf(row, target.number);
    const base = other === undefined ? 1 : numberOf(other, target.number);
    if (own === undefined || base === undefined) return [];
    const value = own / base;
    const good = target.better === "higher" ? value >= target.must : value <= target.must;
    const isVoid = row.void !== undefined || other?.void !== undefined;
    return [{ ...target, value, verdict: isVoid ? "void" : good ? "reached" : "missed" }];
  });
};
