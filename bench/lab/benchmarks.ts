import type { Benchmark } from "./row.ts";

/**
 * Every benchmark by the name that `--only` takes, in the order in which they run: a broker that was just started uses
 * up to a core and a half for compiling itself, so those that keep it busy come before those that only need it there.
 */
export const benchmarks: Readonly<Record<string, () => Promise<{ benchmark: Benchmark }>>> = {
  pure: () => import("../pure.bench.ts"),
  wheel: () => import("./wheel.ts"),
  store: () => import("./store.ts"),
  sqlite: () => import("../sqlite.bench.ts"),
  redrive: () => import("../redrive.bench.ts"),
  embedded: () => import("../embedded.bench.ts"),
  broker: () => import("../broker.bench.ts"),
  "rocketmq-send": () => import("./rocketmq-send.ts"),
  dispatch: () => import("../dispatch.bench.ts"),
  "end-to-end": () => import("../end-to-end.bench.ts"),
  burst: () => import("../burst.bench.ts"),
  ingest: () => import("../ingest.bench.ts"),
  "retry-handoff": () => import("../retry-handoff.bench.ts"),
  http: () => import("../http.bench.ts"),
  memory: () => import("../memory.bench.ts"),
  parked: () => import("../parked.bench.ts"),
  takeover: () => import("../takeover.bench.ts"),
  "event-loop": () => import("../event-loop.bench.ts"),
  bullmq: () => import("../bullmq.bench.ts"),
  "bullmq-retries": () => import("../bullmq-retries.bench.ts"),
  "rocketmq-timer": () => import("../rocketmq-timer.bench.ts"),
  "transactions-cost": () => import("../transactions-cost.bench.ts"),
  "transactions-visible": () => import("../transactions-visible.bench.ts"),
  "transactions-relay": () => import("../transactions-relay.bench.ts"),
  "transactions-size": () => import("../transactions-size.bench.ts"),
  "transactions-outage": () => import("../transactions-outage.bench.ts"),
  "transactions-half": () => import("../transactions-half.bench.ts"),
};

/** What `--only` names: one, or all that begin with the name (`transactions`). */
export const named = (name: string): string[] =>
  Object.hasOwn(benchmarks, name) ? [name] : Object.keys(benchmarks).filter((one) => one.startsWith(`${name}-`));

/** Those that can run before there is a broker. */
export const withoutBroker: ReadonlySet<string> = new Set([
  "pure",
  "wheel",
  "store",
  "sqlite",
  "redrive",
  "embedded",
  "parked",
  "transactions-size",
  "transactions-outage",
  "transactions-half",
]);

/** Those that are given a MariaDB. */
export const withMysql = (name: string): boolean => name.startsWith("transactions-");
