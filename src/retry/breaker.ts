import type { BreakerSettings } from "./policy.ts";

/**
 * A circuit breaker as one pure function: what was, what the calls met since, what time it is → what holds now. The
 * consumers run it on their own calls and the service on everybody's; nothing here knows which.
 *
 *     closed ──too many fail──> open ──time──> probing ──most succeed──> ramping ──nobody is held back──> closed
 *                                 ▲               │                         │
 *                                 └───────────────┴───────too many fail─────┘
 *
 * - *Closed*: everything goes. Opens when of at least `minCalls` in the window `failureRate` failed.
 * - *Open*: nothing goes until the next probes are due.
 * - *Probing*: `probes` calls go each `probeEveryMs`. As soon as their outcome is certain the state moves on. Too few
 *   to be certain, as with a dependency that hardly anybody calls, are judged when the time of the next ones has come.
 * - *Ramping*: so many calls a second, and more each second for as long as it is used up. When it is too much, it
 *   becomes a little less than what succeeded. Once it has held nobody back for a window, it is closed.
 *
 * What surprised us: a dependency of which a part fails at any rate (a broken shard, wrong input) looks overloaded and
 * would be slowed down to nothing. So what fails at the lowest rate, or as much after slowing down as before, is taken
 * as its usual share, and only what comes on top of it means "too much". And one that comes and goes (RT-13) must be trusted less each time, or it takes a
 * full ramp of failures with every fall: the wait before its probes doubles.
 *
 * Times are those of the caller's clock, which may jump (RT-24). Forward, at worst something is tried early; backward,
 * no wait becomes longer than it ever was.
 */
export type BreakerPhase = "closed" | "open" | "probing" | "ramping";

export type Calls = { readonly succeeded: number; readonly failed: number };

export type Slot = Calls & { readonly startMs: number };

export type BreakerState = {
  readonly phase: BreakerPhase;
  /** When this phase began. */
  readonly sinceMs: number;
  /** The window, cut into parts; oldest first. */
  readonly slots: readonly Slot[];
  /** Open: when probes may go. Probing: when the next ones may, and these are judged at the latest. */
  readonly probeAtMs: number;
  /** Calls a second that ramping has reached; kept when it closes, for whoever releases what is still parked. */
  readonly ratePerSec: number;
  /** Ramping: the second under way. */
  readonly second: Slot;
  /** Ramping: nobody was held back since. */
  readonly easySinceMs: number;
  /** Ramping: no change before, because the calls of the old rate are still being reported. */
  readonly settlesAtMs: number;
  /** Ramping: the part that fails whatever the rate. */
  readonly usualFailing: number;
  /** Ramping: the part that failed when the rate was lowered last, until a second was well again. */
  readonly failingAtDrop?: number;
  /** Ramping: in the second before the one under way. Reports come once a second, so one alone may hold half of it. */
  readonly succeededPerSec: number;
  /** Ramping: a limit was met. */
  readonly wasFull: boolean;
  /** How often it fell while it was coming back, until it stays closed. */
  readonly falls: number;
};

const none: Calls = { succeeded: 0, failed: 0 };

export const closedBreaker = (nowMs: number): BreakerState => ({
  phase: "closed",
  sinceMs: nowMs,
  slots: [],
  probeAtMs: 0,
  ratePerSec: 0,
  second: { startMs: nowMs, ...none },
  easySinceMs: nowMs,
  settlesAtMs: 0,
  usualFailing: 0,
  succeededPerSec: 0,
  wasFull: false,
  falls: 0,
});

/** Parts of the window. More would make it exact to less than a tenth, which nobody sees. */
const slotsPerWindow = 10;
/** Above this part failing (and the usual share) a second was too much. */
const overloadedAbove = 0.1;
/** Of the calls that succeeded: what it can do it has just shown, and a little less lets it recover. */
const decreaseTo = 0.9;
/** After the rate was lowered, this part of the failures or more means that going slower does not help. */
const sameAsBefore = 0.8;
const rateMinPerSec = 1;
/** From a change of the rate until its calls have been made and reported: consumers and service sync once a second. */
const settleMs = 2_000;
/** A part of fewer calls than this is chance. */
const secondCallsMin = 10;
/** Below this part of its rate used, nobody was held back. */
const heldBackAbove = 0.7;
/** The wait before probes doubles up to this factor. */
const fallsMax = 3;
/** Closed for so many windows, its falls are forgotten. */
const windowsToForget = 6;
/** A dependency of ten million calls a second does not need a ramp. */
const rateMaxPerSec = 1_000_000;

/** What holds after `calls` were made since the last step. May be called as often as one likes. */
export const step = (state: BreakerState, calls: Calls, settings: BreakerSettings, nowMs: number): BreakerState => {
  const before = withoutFuture(state, settings, nowMs);
  switch (before.phase) {
    case "closed":
      return stepClosed(before, calls, settings, nowMs);
    case "open":
      // Late answers to calls made before it opened say nothing new.
      return nowMs < before.probeAtMs ? before : { ...before, ...probing(settings, nowMs) };
    case "probing":
      return stepProbing(before, calls, settings, nowMs);
    case "ramping":
      return stepRamping(before, calls, settings, nowMs);
  }
};

/** What somebody else met in the same window, when he met it. Put in as of now, old successes would hide an outage. */
export const withWindow = (state: BreakerState, slots: readonly Slot[]): BreakerState =>
  state.phase !== "closed" || slots.length === 0
    ? state
    : { ...state, slots: [...state.slots, ...slots].sort((a, b) => a.startMs - b.startMs) };

/** The instant from which `step` would change something though nobody calls; Infinity when never. */
export const nextChangeMs = ({ phase, probeAtMs }: BreakerState): number =>
  phase === "open" || phase === "probing" ? probeAtMs : Number.POSITIVE_INFINITY;

/** The calls a second that all workers together may make; undefined for as many as they like. */
export const allowedPerSec = (state: BreakerState, settings: BreakerSettings): number | undefined => {
  switch (state.phase) {
    case "closed":
      return undefined;
    case "open":
      return 0;
    case "probing":
      return settings.probes / (settings.probeEveryMs / 1_000);
    case "ramping":
      return state.ratePerSec;
  }
};

const stepClosed = (state: BreakerState, calls: Calls, settings: BreakerSettings, nowMs: number): BreakerState => {
  const slots = withCalls(state.slots, calls, settings, nowMs);
  const { succeeded, failed } = sumOf(slots);
  const isBroken = succeeded + failed >= settings.minCalls && failed >= settings.failureRate * (succeeded + failed);
  if (isBroken) return opened(state, nowMs, waitOf(state, settings));
  const isForgiven = state.falls > 0 && nowMs - state.sinceMs >= windowsToForget * settings.windowMs;
  return slots === state.slots && !isForgiven ? state : { ...state, slots, falls: isForgiven ? 0 : state.falls };
};

const stepProbing = (state: BreakerState, calls: Calls, settings: BreakerSettings, nowMs: number): BreakerState => {
  const slots = add(state.slots, calls, state.sinceMs);
  const { succeeded, failed } = sumOf(slots);
  const failingMin = settings.failureRate * settings.probes;
  // The next round begins when it would have begun anyway.
  const waitMs = Math.max(0, state.sinceMs + waitOf(state, settings) - nowMs);
  if (failed >= failingMin) return opened(state, nowMs, waitMs);
  if (succeeded > settings.probes - failingMin) return ramping(state, settings, nowMs);
  if (nowMs < state.probeAtMs) return slots === state.slots ? state : { ...state, slots };
  if (succeeded + failed === 0) return { ...state, ...probing(settings, nowMs) };
  return failed >= settings.failureRate * (succeeded + failed)
    ? opened(state, nowMs, waitMs)
    : ramping(state, settings, nowMs);
};

const stepRamping = (state: BreakerState, calls: Calls, settings: BreakerSettings, nowMs: number): BreakerState => {
  const second: Slot = { startMs: state.second.startMs, ...plus(state.second, calls) };
  const lastedMs = nowMs - second.startMs;
  if (lastedMs < 1_000) return { ...state, second };

  const made = totalOf(second);
  const perSec = 1_000 / lastedMs;
  const heldBack = made * perSec >= heldBackAbove * state.ratePerSec;
  const easySinceMs = heldBack ? nowMs : state.easySinceMs;
  const succeededPerSec = second.succeeded * perSec;
  const next = { ...state, second: { startMs: nowMs, ...none }, easySinceMs, succeededPerSec };
  if (nowMs - easySinceMs >= settings.windowMs) return { ...next, phase: "closed", sinceMs: nowMs, slots: [] };
  const fallen = (): BreakerState => {
    const before = { ...state, falls: Math.min(fallsMax, state.falls + 1) };
    return opened(before, nowMs, waitOf(before, settings));
  };
  if (second.succeeded === 0 && second.failed >= settings.minCalls) return fallen();
  if (nowMs < state.settlesAtMs || made < secondCallsMin) {
    return heldBack && nowMs >= state.settlesAtMs ? { ...next, ratePerSec: higher(state, settings, lastedMs) } : next;
  }

  const failing = second.failed / made;
  const isFirst = state.failingAtDrop === undefined && state.ratePerSec <= settings.rampStartPerSec;
  // When going slower did not help, or already at the lowest rate, it is not the load that makes it fail.
  const isNoHelp = state.failingAtDrop !== undefined && failing >= sameAsBefore * state.failingAtDrop;
  if (failing >= settings.failureRate && isNoHelp) return fallen();
  const isUsual = isNoHelp || (isFirst && failing < settings.failureRate);
  const usualFailing = isUsual ? failing : Math.min(state.usualFailing, failing);
  if (failing > usualFailing + overloadedAbove) {
    const lower = Math.max(rateMinPerSec, Math.max(succeededPerSec, state.succeededPerSec) * decreaseTo);
    return { ...next, usualFailing, ratePerSec: lower, failingAtDrop: failing, settlesAtMs: nowMs + settleMs };
  }
  const { failingAtDrop: _settled, ...calm } = next;
  return {
    ...calm,
    usualFailing,
    ...(heldBack ? { ratePerSec: higher(state, settings, lastedMs) } : undefined),
    wasFull: state.wasFull || state.failingAtDrop !== undefined,
  };
};

/** The whole step as long as no limit was met; then a tenth of what it can do, or a small one is overrun at once. */
const higher = (
  { ratePerSec, wasFull }: BreakerState,
  { rampAddPerSec }: BreakerSettings,
  lastedMs: number,
): number => {
  const addPerSec = wasFull ? Math.min(rampAddPerSec, Math.max(rateMinPerSec, ratePerSec / 10)) : rampAddPerSec;
  return Math.min(rateMaxPerSec, ratePerSec + (addPerSec * lastedMs) / 1_000);
};

const opened = ({ falls }: BreakerState, nowMs: number, waitMs: number): BreakerState => ({
  ...closedBreaker(nowMs),
  phase: "open",
  falls,
  probeAtMs: nowMs + waitMs,
});

const waitOf = ({ falls }: BreakerState, { probeEveryMs }: BreakerSettings): number => probeEveryMs * 2 ** falls;

const probing = (settings: BreakerSettings, nowMs: number) =>
  ({ phase: "probing", sinceMs: nowMs, slots: [], probeAtMs: nowMs + settings.probeEveryMs }) as const;

const ramping = (state: BreakerState, settings: BreakerSettings, nowMs: number): BreakerState => ({
  ...closedBreaker(nowMs),
  phase: "ramping",
  falls: state.falls,
  ratePerSec: settings.rampStartPerSec,
});

/** After the clock was set back, nothing may lie further ahead than it can by the settings. */
const withoutFuture = (state: BreakerState, settings: BreakerSettings, nowMs: number): BreakerState => {
  const probeAtMax = nowMs + settings.probeEveryMs * 2 ** fallsMax;
  const isSane = state.sinceMs <= nowMs && state.probeAtMs <= probeAtMax && state.second.startMs <= nowMs;
  if (isSane && (state.slots.at(-1)?.startMs ?? 0) <= nowMs) return state;
  return {
    ...state,
    sinceMs: Math.min(state.sinceMs, nowMs),
    slots: state.slots.map((slot) => ({ ...slot, startMs: Math.min(slot.startMs, nowMs) })),
    probeAtMs: Math.min(state.probeAtMs, nowMs + settings.probeEveryMs),
    second: { ...state.second, startMs: Math.min(state.second.startMs, nowMs) },
    easySinceMs: Math.min(state.easySinceMs, nowMs),
    settlesAtMs: Math.min(state.settlesAtMs, nowMs + settleMs),
  };
};

const withCalls = (slots: readonly Slot[], calls: Calls, settings: BreakerSettings, nowMs: number): readonly Slot[] => {
  const slotMs = settings.windowMs / slotsPerWindow;
  const live =
    slots.length > 0 && slots[0]!.startMs <= nowMs - settings.windowMs ? dropOld(slots, settings, nowMs) : slots;
  const last = live.at(-1);
  return add(live, calls, last !== undefined && nowMs < last.startMs + slotMs ? last.startMs : nowMs);
};

const dropOld = (slots: readonly Slot[], { windowMs }: BreakerSettings, nowMs: number): readonly Slot[] =>
  slots.filter(({ startMs }) => startMs > nowMs - windowMs);

/** Into the slot that begins then; the same list when there is nothing to add. */
const add = (slots: readonly Slot[], calls: Calls, startMs: number): readonly Slot[] => {
  if (totalOf(calls) === 0) return slots;
  const last = slots.at(-1);
  if (last?.startMs !== startMs) return [...slots, { startMs, ...calls }];
  return [...slots.slice(0, -1), { startMs, ...plus(last, calls) }];
};

const plus = (a: Calls, b: Calls): Calls => ({ succeeded: a.succeeded + b.succeeded, failed: a.failed + b.failed });
const sumOf = (slots: readonly Slot[]): Calls => slots.reduce(plus, none);
const totalOf = ({ succeeded, failed }: Calls): number => succeeded + failed;
