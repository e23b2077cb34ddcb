import {
  type BreakerPhase,
  type BreakerState,
  type Calls,
  closedBreaker,
  type Slot,
  step,
  withWindow,
} from "../retry/breaker.ts";
import { type BreakerSettings, type BudgetSettings, defaultBreaker } from "../retry/policy.ts";

/**
 * What all processes of the service hold together of one dependency: the document of kind `breaker`, and the pure
 * function by which a process adds its part. Whoever loses the race for a document adds his part to the other's, so no
 * call is counted twice or not at all.
 *
 * A dependency that is well has no document: ten thousand healthy tenants cost nothing here.
 */
export type SharedBreaker = {
  readonly key: string;
  readonly breaker: BreakerState;
  /** As reported last; null: this dependency has none. */
  readonly terms: BreakerSettings | null;
  readonly budget: BudgetSettings | null;
  readonly forced?: Forced;
  /** By process of the service. */
  readonly nodes: Readonly<Record<string, NodeShare>>;
  /** When a worker last reported it, and when messages were last seen parked for it; not to the second. */
  readonly reportedAtMs: number;
  readonly parkedAtMs: number;
};

export type Forced = {
  readonly state: "open" | "closed";
  readonly sinceMs: number;
  readonly untilMs: number;
  readonly reason: string;
};

/** What the workers that report to one process do. */
export type NodeShare = {
  readonly workers: number;
  readonly callsPerSec: number;
  readonly failedPerSec: number;
  /** Calls for messages that were neither tried nor parked before. */
  readonly freshPerSec: number;
};

/** What one process has to add. */
export type Part = {
  readonly node: string;
  readonly share: NodeShare;
  readonly calls: Calls;
  /** Calls of the window that are older than the document; added once. */
  readonly window: readonly Slot[];
  readonly terms: BreakerSettings | null;
  readonly budget: BudgetSettings | null;
  readonly reportedAtMs: number;
  readonly parkedAtMs: number;
};

export const newShared = (key: string, breaker: BreakerState, part: Part): SharedBreaker => ({
  key,
  breaker,
  terms: part.terms,
  budget: part.budget,
  nodes: {},
  reportedAtMs: part.reportedAtMs,
  parkedAtMs: part.parkedAtMs,
});

export const contribute = (
  shared: SharedBreaker,
  part: Part,
  members: readonly string[],
  nowMs: number,
): SharedBreaker => {
  // Terms come with reports; who has none to tell does not know better.
  const terms = part.reportedAtMs > shared.reportedAtMs ? part.terms : shared.terms;
  const budget = part.reportedAtMs > shared.reportedAtMs ? part.budget : shared.budget;
  const { forced, ...rest } = shared;
  const isForced = forced !== undefined && forced.untilMs > nowMs;
  const nodes = Object.fromEntries(Object.entries(shared.nodes).filter(([node]) => members.includes(node)));
  if (part.share.workers > 0) nodes[part.node] = part.share;
  else delete nodes[part.node];
  return {
    ...rest,
    terms,
    budget,
    ...(isForced ? { forced } : undefined),
    breaker: isForced ? shared.breaker : stepped(shared.breaker, part, terms, nowMs),
    nodes,
    reportedAtMs: Math.max(shared.reportedAtMs, part.reportedAtMs),
    parkedAtMs: Math.max(shared.parkedAtMs, part.parkedAtMs),
  };
};

/** A policy that was changed to have no breaker must not leave one behind that is open for ever. */
const stepped = (before: BreakerState, part: Part, terms: BreakerSettings | null, nowMs: number): BreakerState => {
  if (terms !== null) return step(withWindow(before, part.window), part.calls, terms, nowMs);
  return before.phase === "closed" ? before : closedBreaker(nowMs);
};

/** After it ends, the breaker goes on from where force left it: from open by probes, from closed with a fresh window. */
export const force = (shared: SharedBreaker, forced: Forced | undefined, nowMs: number): SharedBreaker => {
  const { forced: before, ...rest } = shared;
  if (forced === undefined) {
    const breaker = before?.state === "open" ? { ...shared.breaker, probeAtMs: nowMs } : shared.breaker;
    return { ...rest, breaker };
  }
  const closed = closedBreaker(nowMs);
  const breaker: BreakerState =
    forced.state === "closed" ? closed : { ...closed, phase: "open", probeAtMs: forced.untilMs };
  return { ...rest, breaker, forced };
};

export const phaseOf = ({ forced, breaker }: SharedBreaker, nowMs: number): BreakerPhase =>
  forced !== undefined && forced.untilMs > nowMs ? forced.state : breaker.phase;

/** Workers that report it to any process. */
export const workersOf = ({ nodes }: SharedBreaker): number => sumOf(nodes, ({ workers }) => workers);

export const sumOf = (nodes: SharedBreaker["nodes"], of: (share: NodeShare) => number): number =>
  Object.values(nodes).reduce((sum, share) => sum + of(share), 0);

/** Nobody reported for so long: whoever called it is gone. */
export const silentAfterMs = 60_000;
/** What nobody calls is let out at this pace: its consumers may be gone for good, and the broker keeps it for them. */
const silentPerSec = 10;
/** Workers sync once a second, and boards read each other's documents twice. */
const heardAfterMs = 1_600;
/** The probes of a round come out within so long: all at once they would be too much for a small one that is well again. */
const probesTakeMs = 2_000;
/** Beyond, one process's loop is the limit. */
const releasePerSecMax = 10_000;
/** Of the ramp, whatever fresh calls there are: who waits longest must get on too. */
const releasedShareMin = 0.1;

export type Release =
  /** Messages a second, of all processes together. */
  | { readonly perSec: number }
  /** So many in this round of probes, spread over so long. */
  | { readonly probes: number; readonly round: number; readonly withinMs: number };

/** How fast messages parked for it may come out. */
export const releaseOf = (shared: SharedBreaker, nowMs: number): Release => {
  const { breaker, nodes, reportedAtMs } = shared;
  const terms = shared.terms ?? defaultBreaker;
  const phase = phaseOf(shared, nowMs);
  const isForced = shared.forced !== undefined && shared.forced.untilMs > nowMs;
  if (phase === "open" && isForced) return { perSec: 0 };
  if (nowMs - reportedAtMs > silentAfterMs && !isForced) return { perSec: silentPerSec };
  switch (phase) {
    case "open":
      return { perSec: 0 };
    case "probing":
      // Workers that have not heard of it yet would park them again. Rounds may be shorter than that takes, though.
      if (nowMs - breaker.sinceMs < Math.min(heardAfterMs, terms.probeEveryMs / 2)) return { perSec: 0 };
      return { probes: terms.probes, round: breaker.sinceMs, withinMs: Math.min(probesTakeMs, terms.probeEveryMs / 2) };
    case "ramping": {
      const freshPerSec = sumOf(nodes, (share) => share.freshPerSec);
      return { perSec: Math.max(breaker.ratePerSec * releasedShareMin, breaker.ratePerSec - freshPerSec) };
    }
    case "closed": {
      // The ramp goes on from where it ended: many may still be parked.
      const beganPerSec = Math.max(terms.rampStartPerSec, breaker.ratePerSec);
      const seconds = Math.max(0, nowMs - breaker.sinceMs) / 1_000;
      return { perSec: Math.min(releasePerSecMax, beganPerSec + terms.rampAddPerSec * seconds) };
    }
  }
};
