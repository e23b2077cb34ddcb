/**
 * What a benchmark says: one row per thing measured. A rate is only as good as the quietness of the machine; CPU µs per
 * message survives a noisy one, so every row carries it for every process that took part.
 */
export type Role = "generator" | "application" | "server" | "redis" | "database" | "rocketmq" | "consumer";

export type Row = {
  /** Stable, for targets and baseline: `http/single`. */
  readonly id: string;
  readonly what: string;
  /** What an acknowledged write has survived: `always` (on disk), `everysec` (may lose a second), `none` (memory). */
  readonly durability: string;
  readonly perSecond?: number;
  /** CPU µs per message, by process. */
  readonly cpuMicros: Partial<Record<Role, number>>;
  /** Everything else, with the unit in the name: `p99 ms`. */
  readonly numbers: Readonly<Record<string, number>>;
  /** Why this must not be believed; absent when it may. */
  readonly void?: string;
  /** Share of the machine that processes outside of the benchmark used meanwhile, 0 to 1. */
  readonly othersShare?: number;
};

/** What a benchmark is given: fresh services of its own kind, and whether to be short. */
export type Lab = {
  readonly quick: boolean;
  readonly runDir: string;
  readonly redis: { readonly url: string; readonly pid: number };
  readonly rocketmq: {
    readonly endpoint: string;
    readonly nameserver: string;
    readonly broker: string;
    /** The JVM that is proxy and broker. */
    readonly pid: number;
  };
  /** MariaDB; without address unless the benchmark is one of those that use it. */
  readonly mysql: { readonly url: string; readonly pid: number };
};

export type Report = (row: Row) => void;

/** A file `bench/NAME.bench.ts` exports this. */
export type Benchmark = (lab: Lab, report: Report) => Promise<void>;
