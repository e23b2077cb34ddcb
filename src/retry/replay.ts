import { EscapementError } from "../message/errors.ts";
import { type DurationMs, durationMs, type EpochMs, epochMs } from "../message/time.ts";
import { type DeadCode, decide, type Failure } from "./decide.ts";
import type { RetryPolicy } from "./policy.ts";

/**
 * Lives through recorded failures once more under another policy, on a virtual clock: how many calls it would have
 * made, how late messages would have been, and which would have died. Pure; chance comes from a seed, so the same
 * question has the same answer.
 *
 * A record says what happened at some instants only. Between them the last failure is taken to go on, and a message is
 * taken to succeed from the instant on at which it is known to have succeeded; without one it never does. So a policy
 * that tries sooner than the one that was recorded may look worse than it would have been, and never better. What is
 * parked or verified ends here: who opens the key again is in no record.
 */
export type RecordedMessage = {
  readonly message: string;
  /** By time; at least one. */
  readonly failures: readonly RecordedFailure[];
  readonly succeededAtMs: EpochMs | undefined;
};

export type RecordedFailure = { readonly atMs: EpochMs; readonly attempt: number; readonly failure: Failure };

export type ReplayedMessage = {
  readonly message: string;
  readonly outcome: "succeeded" | "dead" | "park" | "verify";
  /** For `dead`, which limit or rule. */
  readonly code?: DeadCode;
  readonly calls: number;
  /** From the first failure to the end. */
  readonly afterMs: number;
};

export type Replay = {
  readonly messages: number;
  /** Attempts of all messages, the recorded first ones included. */
  readonly calls: number;
  readonly mostCallsPerSec: number;
  readonly succeeded: number;
  readonly dead: number;
  readonly deadByCode: Readonly<Record<string, number>>;
  readonly parked: number;
  readonly toVerify: number;
  /** From the first failure to the success, of those that succeeded. */
  readonly delayMs: { readonly p50: number; readonly p99: number; readonly max: number };
  readonly perMessage: readonly ReplayedMessage[];
};

/** Yields now and then, so that whoever runs it can do something else in between. */
export function* replay(
  policy: RetryPolicy,
  recorded: readonly RecordedMessage[],
  seed: number,
  attemptsMax = replayAttemptsMax,
): Generator<void, Replay> {
  const random = { float: seeded(seed) };
  const tally = new Tally();
  let decisions = 0;
  for (const record of recorded) {
    const calls = tally.begin(record);
    let { attempt } = record.failures[0]!;
    let crashes = 0;
    let at = 0;
    const firstFailedAtMs = record.failures[0]!.atMs;
    let nowMs = firstFailedAtMs;
    let previousDelayMs: DurationMs | undefined;
    for (;;) {
      if (++decisions % decisionsPerTurn === 0) yield;
      if (decisions > attemptsMax) {
        const why = `would need more than ${attemptsMax} attempts to live through; give fewer messages, or fewer attempts`;
        throw new EscapementError("invalid_field", `failures ${why}.`, { field: "failures" });
      }
      while (record.failures[at + 1] !== undefined && record.failures[at + 1]!.atMs <= nowMs) at++;
      const { failure } = record.failures[at]!;
      if (failure.class === "crash") crashes++;
      const facts = { attempt, crashes, firstFailedAtMs, parkedMs: durationMs(0), nowMs, failure };
      const decision = decide(policy, previousDelayMs === undefined ? facts : { ...facts, previousDelayMs }, random);
      if (decision.kind !== "retry") {
        const code = decision.kind === "dead" ? decision.code : undefined;
        tally.end(record, decision.kind, calls.count, nowMs - firstFailedAtMs, code);
        break;
      }
      previousDelayMs = durationMs(decision.atMs - nowMs);
      nowMs = decision.atMs;
      attempt++;
      calls.at(nowMs);
      if (record.succeededAtMs !== undefined && nowMs >= record.succeededAtMs) {
        tally.end(record, "succeeded", calls.count, nowMs - firstFailedAtMs);
        break;
      }
    }
  }
  return tally.result();
}

/** What was recorded, told in the same way: what really happened, as far as the record goes. */
export const asRecorded = (recorded: readonly RecordedMessage[]): Replay => {
  const tally = new Tally();
  for (const record of recorded) {
    const { failures, succeededAtMs } = record;
    const calls = tally.begin(record);
    for (const { atMs } of failures.slice(1)) calls.at(atMs);
    const firstMs = failures[0]!.atMs;
    if (succeededAtMs === undefined) tally.end(record, "dead", calls.count, failures.at(-1)!.atMs - firstMs);
    else {
      calls.at(succeededAtMs);
      tally.end(record, "succeeded", calls.count, succeededAtMs - firstMs);
    }
  }
  return tally.result();
};

/** About 5 ms of work. */
const decisionsPerTurn = 5_000;
/** Some seconds of work. */
const replayAttemptsMax = 2_000_000;

class Tally {
  readonly #perMessage: ReplayedMessage[] = [];
  readonly #perSecond = new Map<number, number>();

  begin({ failures }: RecordedMessage): { readonly count: number; at(ms: number): void } {
    const perSecond = this.#perSecond;
    let count = 0;
    const calls = {
      get count() {
        return count;
      },
      at(ms: number): void {
        count++;
        const second = Math.floor(ms / 1_000);
        perSecond.set(second, (perSecond.get(second) ?? 0) + 1);
      },
    };
    calls.at(failures[0]!.atMs);
    return calls;
  }

  end(
    { message }: RecordedMessage,
    outcome: ReplayedMessage["outcome"],
    calls: number,
    afterMs: number,
    code?: DeadCode,
  ): void {
    this.#perMessage.push({ message, outcome, calls, afterMs, ...(code === undefined ? undefined : { code }) });
  }

  result(): Replay {
    const perMessage = this.#perMessage;
    const count = (outcome: ReplayedMessage["outcome"]) => perMessage.filter((one) => one.outcome === outcome).length;
    const delays = perMessage
      .filter(({ outcome }) => outcome === "succeeded")
      .map(({ afterMs }) => afterMs)
      .sort((a, b) => a - b);
    const deadByCode: Record<string, number> = {};
    for (const { outcome, code } of perMessage) {
      if (outcome === "dead" && code !== undefined) deadByCode[code] = (deadByCode[code] ?? 0) + 1;
    }
    let mostCallsPerSec = 0;
    for (const calls of this.#perSecond.values()) mostCallsPerSec = Math.max(mostCallsPerSec, calls);
    return {
      messages: perMessage.length,
      calls: perMessage.reduce((sum, { calls }) => sum + calls, 0),
      mostCallsPerSec,
      succeeded: count("succeeded"),
      dead: count("dead"),
      deadByCode,
      parked: count("park"),
      toVerify: count("verify"),
      delayMs: { p50: quantile(delays, 0.5), p99: quantile(delays, 0.99), max: delays.at(-1) ?? 0 },
      perMessage,
    };
  }
}

/** The smallest value that so large a part of them does not exceed; 0 of none. */
const quantile = (sorted: readonly number[], part: number): number =>
  sorted[Math.max(0, Math.ceil(sorted.length * part) - 1)] ?? 0;

/** Mulberry32: enough to spread waits, and the same on every machine. */
const seeded = (seed: number): (() => number) => {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
};

/** Puts together what belongs to one message, by time. */
export const byMessage = (
  lines: readonly (RecordedFailure & { readonly message: string; readonly succeededAtMs: EpochMs | undefined })[],
): RecordedMessage[] => {
  const found = new Map<string, { failures: RecordedFailure[]; succeededAtMs: EpochMs | undefined }>();
  for (const { message, succeededAtMs, atMs, attempt, failure } of lines) {
    const record = found.get(message) ?? { failures: [], succeededAtMs: undefined };
    record.failures.push({ atMs, attempt, failure });
    if (succeededAtMs !== undefined) record.succeededAtMs = epochMs(Math.max(succeededAtMs, record.succeededAtMs ?? 0));
    found.set(message, record);
  }
  return [...found].map(([message, { failures, succeededAtMs }]) => ({
    message,
    failures: failures.sort((a, b) => a.atMs - b.atMs),
    succeededAtMs,
  }));
};
