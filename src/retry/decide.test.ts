import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type DurationMs, durationMs, type EpochMs, epochMs, epochMsMax } from "../message/time.ts";
import { type Decision, decide, type Facts } from "./decide.ts";
import { parsePolicy } from "./parse-policy.ts";
import {
  type Backoff,
  defaultBackoff,
  failureClasses,
  type Jitter,
  type RetryPolicy,
  retryAfterMaxMs,
} from "./policy.ts";

// What becomes of a failure, from the outside: facts in, decision out. The numbers below are written out by hand, or
// computed here in another way than the code does.

const nowMs = epochMs(1_750_000_000_000);
const chance = (value: number) => ({ float: () => value });
const almostOne = 1 - 2 ** -53;
const noLimits = { maxAttempts: Number.POSITIVE_INFINITY, maxCrashes: Number.POSITIVE_INFINITY };
const policy = (backoff: Backoff, more: Partial<RetryPolicy> = {}): RetryPolicy => ({
  backoff,
  limits: noLimits,
  rules: [],
  ...more,
});
const facts = (more: Partial<Facts> = {}): Facts => ({
  attempt: 1,
  crashes: 0,
  firstFailedAtMs: nowMs,
  parkedMs: durationMs(0),
  nowMs,
  failure: { class: "transient", code: "http_503", status: 503 },
  ...more,
});
const waitIn = (decision: Decision): number => (decision.kind === "retry" ? decision.atMs - nowMs : Number.NaN);
const wait = (backoff: Backoff, draw: number, more: Partial<Facts> = {}): number =>
  waitIn(decide(policy(backoff), facts(more), chance(draw)));

const ms = (min: number, max: number) => fc.integer({ min, max }).map(durationMs);
const anyJitter = fc.constantFrom<Jitter>("none", "full", "equal");
const draws = fc.double({ min: 0, max: almostOne, noNaN: true });
const attempts = fc.integer({ min: 1, max: 1_000 });

/** Each backoff with the step it promises, computed in another way than the code does it. */
const backoffWithStep = fc.oneof(
  fc.record({ delayMs: ms(1, 1e9), jitter: anyJitter }).map((b) => ({
    backoff: { kind: "fixed", ...b } as Backoff,
    jitter: b.jitter,
    step: (_: number): number => b.delayMs,
  })),
  fc.record({ delaysMs: fc.array(ms(1, 1e9), { minLength: 1, maxLength: 9 }), jitter: anyJitter }).map((b) => ({
    backoff: { kind: "list", ...b } as Backoff,
    jitter: b.jitter,
    step: (n: number): number => [...b.delaysMs, ...Array<number>(n).fill(b.delaysMs.at(-1)!)][n - 1]!,
  })),
  fc.record({ baseMs: ms(1, 1e6), incrementMs: ms(1, 1e6), capMs: ms(1e6, 1e9), jitter: anyJitter }).map((b) => ({
    backoff: { kind: "linear", ...b } as Backoff,
    jitter: b.jitter,
    step: (n: number): number => {
      let step: number = b.baseMs;
      for (let i = 1; i < n; i++) step += b.incrementMs;
      return Math.min(step, b.capMs);
    },
  })),
  fc
    .record({
      baseMs: ms(1, 1e6),
      factor: fc.double({ min: 1, max: 10, noNaN: true }),
      capMs: ms(1e6, 1e9),
      jitter: anyJitter,
    })
    .map((b) => ({
      backoff: { kind: "exponential", ...b } as Backoff,
      jitter: b.jitter,
      step: (n: number): number => {
        let step: number = b.baseMs;
        for (let i = 1; i < n && step < b.capMs; i++) step *= b.factor;
        return Math.min(step, b.capMs);
      },
    })),
);

describe("RT-01 the wait stays within the bounds of its jitter", () => {
  it("for every backoff, attempt and draw", () => {
    fc.assert(
      fc.property(backoffWithStep, attempts, draws, ({ backoff, jitter, step }, attempt, draw) => {
        const most = step(attempt);
        const least = { none: most, equal: most / 2, full: 0 }[jitter];
        const waited = wait(backoff, draw, { attempt });
        // Whole milliseconds, rounded up; a product differs from a power in the last digits.
        expect(waited).toBeGreaterThanOrEqual(Math.floor(least * (1 - 1e-9)));
        expect(waited).toBeLessThanOrEqual(Math.ceil(most * (1 + 1e-9)));
        expect(Number.isInteger(waited)).toBe(true);
      }),
      { seed: 101, numRuns: 300 },
    );
  });

  it("reaches both bounds, and everything between them is equally likely", () => {
    for (const [jitter, least] of [
      ["full", 0],
      ["equal", 512_000],
    ] as const) {
      const backoff: Backoff = { ...defaultBackoff, jitter };
      const at = (draw: number) => wait(backoff, draw, { attempt: 11 });
      expect([at(0), at(0.25), at(0.5), at(almostOne)]).toEqual(
        [0, 0.25, 0.5, 1].map((part) => least + part * (1_024_000 - least)),
      );
    }
    expect(wait({ ...defaultBackoff, jitter: "none" }, 0.3, { attempt: 4 })).toBe(8_000);
  });

  it("decorrelated: from the base to the factor times the wait before, and no longer than the cap", () => {
    fc.assert(
      fc.property(ms(1, 1e5), ms(1e5, 1e9), ms(1, 1e9), draws, (baseMs, capMs, previousDelayMs, draw) => {
        const backoff: Backoff = { kind: "decorrelated", baseMs, factor: 3, capMs };
        const waited = wait(backoff, draw, { previousDelayMs, attempt: 7 });
        expect(waited).toBeGreaterThanOrEqual(baseMs);
        expect(waited).toBeLessThanOrEqual(Math.max(baseMs, Math.min(capMs, 3 * previousDelayMs)));
      }),
      { seed: 102 },
    );
    const backoff: Backoff = { kind: "decorrelated", baseMs: durationMs(1_000), factor: 3, capMs: durationMs(60_000) };
    expect([0, 0.5, almostOne].map((draw) => wait(backoff, draw))).toEqual([1_000, 2_000, 3_000]);
    expect(wait(backoff, almostOne, { previousDelayMs: durationMs(10_000) })).toBe(30_000);
    const capped = (draw: number) => wait(backoff, draw, { previousDelayMs: durationMs(40_000) });
    expect([0, 0.25, 0.5, almostOne].map(capped)).toEqual([1_000, 30_750, 60_000, 60_000]);
  });
});

describe("RT-02 nothing overflows", () => {
  it("at attempts without end every backoff waits its cap", () => {
    const capMs = durationMs(1_800_000);
    const backoffs: Backoff[] = [
      { kind: "exponential", baseMs: durationMs(1_000), factor: 10, capMs, jitter: "none" },
      { kind: "linear", baseMs: durationMs(1_000), incrementMs: durationMs(1e9), capMs, jitter: "none" },
      { kind: "list", delaysMs: [durationMs(1), capMs], jitter: "none" },
    ];
    for (const backoff of backoffs) {
      for (const attempt of [1_100, 65_535, 2 ** 31, Number.MAX_SAFE_INTEGER]) {
        expect(wait(backoff, 0.5, { attempt })).toBe(capMs);
      }
    }
    const decorrelated: Backoff = { kind: "decorrelated", baseMs: durationMs(1_000), factor: 10, capMs };
    for (const previousDelayMs of [Number.MAX_VALUE, Number.POSITIVE_INFINITY] as DurationMs[]) {
      expect(wait(decorrelated, almostOne, { previousDelayMs })).toBe(capMs);
      expect(wait(decorrelated, 0, { previousDelayMs })).toBe(1_000);
    }
  });

  it("no retry is later than the last instant there is", () => {
    const late = epochMs(epochMsMax - 10);
    const decision = decide(policy(defaultBackoff), facts({ nowMs: late }), chance(0.5));
    expect(decision).toMatchObject({ kind: "retry", atMs: epochMsMax });
  });
});

describe("RT-03 a Retry-After", () => {
  const throttled = (retryAfterMs: number): Partial<Facts> => ({
    failure: { class: "throttled", code: "http_429", retryAfterMs: durationMs(retryAfterMs) },
  });

  it("is never undercut, and spread by up to a quarter", () => {
    expect([0, 0.5, almostOne].map((draw) => wait(defaultBackoff, draw, throttled(40_000)))).toEqual([
      40_000, 45_000, 50_000,
    ]);
    expect(wait({ ...defaultBackoff, jitter: "none" }, 0.9, throttled(40_000))).toBe(40_000);
  });

  it("shorter than our own wait changes nothing", () => {
    for (const asked of [0, 1, 400]) expect(wait(defaultBackoff, 0, throttled(asked))).toBe(500);
  });

  it("that is huge or senseless is believed for a day at most", () => {
    for (const asked of [retryAfterMaxMs + 1, 1e15, Number.MAX_VALUE, Number.POSITIVE_INFINITY]) {
      expect(wait(defaultBackoff, 0, throttled(asked))).toBe(86_400_000);
    }
    expect(wait(defaultBackoff, 0, throttled(-5_000))).toBe(500);
  });
});

describe("the limits", () => {
  const fixed: Backoff = { kind: "fixed", delayMs: durationMs(60_000), jitter: "none" };
  const limited = (limits: Partial<RetryPolicy["limits"]>, more: Partial<Facts>) =>
    decide(policy(fixed, { limits: { ...noLimits, ...limits } }), facts(more), chance(0));
  const hour = 3_600_000;

  it("attempts: the last allowed one that fails is the last", () => {
    expect(limited({ maxAttempts: 5 }, { attempt: 4 }).kind).toBe("retry");
    expect(limited({ maxAttempts: 5 }, { attempt: 5 })).toMatchObject({ kind: "dead", code: "attempts_exhausted" });
    expect(limited({ maxAttempts: 5 }, { attempt: 6 })).toMatchObject({ kind: "dead", code: "attempts_exhausted" });
  });

  it("age: ends when the next attempt would come after it, to the millisecond", () => {
    const failedAgo = (ageMs: number, parkedMs = 0) =>
      limited(
        { maxAgeMs: durationMs(hour) },
        { attempt: 9, firstFailedAtMs: epochMs(nowMs - ageMs), parkedMs: durationMs(parkedMs) },
      );
    expect(failedAgo(hour - 60_000).kind).toBe("retry");
    expect(failedAgo(hour - 59_999)).toMatchObject({ kind: "dead", code: "age_exhausted" });
    expect(failedAgo(30 * hour, 29.5 * hour).kind).toBe("retry");
    expect(failedAgo(30 * hour, 28.5 * hour).kind).toBe("dead");
  });

  it("deadline: parked or not, nothing is tried after it", () => {
    const until = (leftMs: number) =>
      limited({ deadlineMs: epochMs(nowMs + leftMs) }, { parkedMs: durationMs(10 * hour) });
    expect(until(60_000).kind).toBe("retry");
    expect(until(59_999)).toMatchObject({ kind: "dead", code: "deadline_passed" });
  });

  it("crashes: so many attempts without an outcome, whatever failed this time", () => {
    expect(limited({ maxCrashes: 3 }, { crashes: 2 }).kind).toBe("retry");
    expect(limited({ maxCrashes: 3 }, { crashes: 3 })).toMatchObject({ kind: "dead", code: "crash_loop" });
  });

  it("a clock that was set back does not make anything dead", () => {
    const ahead = epochMs(nowMs + 10 * hour) as EpochMs;
    expect(limited({ maxAgeMs: durationMs(hour) }, { firstFailedAtMs: ahead }).kind).toBe("retry");
  });
});

describe("the rules", () => {
  const ruled = (rules: readonly object[], failure: Facts["failure"], attempt = 1): Decision =>
    decide(
      parsePolicy({ backoff: { kind: "fixed", delay: "1m", jitter: "none" }, rules }),
      facts({ failure, attempt }),
      chance(0),
    );
  const http = (status: number): Facts["failure"] => ({ class: "transient", code: `http_${status}`, status });

  it("without any, only what is permanent is dead at once", () => {
    const kinds = failureClasses.map((name) => ruled([], { class: name, code: "c" }).kind);
    expect(Object.fromEntries(failureClasses.map((name, i) => [name, kinds[i]]))).toEqual({
      transient: "retry",
      throttled: "retry",
      permanent: "dead",
      unknown: "retry",
      crash: "retry",
    });
  });

  it("fit by class, by code, by the beginning of a code and by status, and the first one that fits decides", () => {
    const rules = [
      { when: { code: "http_404" }, action: "dead" },
      { when: { status: "4xx" }, action: "park", key: "account" },
      { when: { code: "db_*" }, action: "verify" },
      { when: { class: "permanent" }, action: "retry" },
      { when: { class: "transient", status: 500 }, action: "dead" },
    ];
    expect(ruled(rules, http(404))).toMatchObject({ kind: "dead", code: "rule" });
    expect(ruled(rules, http(400))).toMatchObject({ kind: "park", key: "account" });
    expect(ruled(rules, http(499))).toMatchObject({ kind: "park" });
    expect(ruled(rules, http(500)).kind).toBe("dead");
    expect(ruled(rules, { ...http(500), class: "unknown" }).kind).toBe("retry");
    expect(ruled(rules, { class: "transient", code: "db_deadlock" }).kind).toBe("verify");
    expect(ruled(rules, { class: "transient", code: "adb_" }).kind).toBe("retry");
    expect(ruled(rules, { class: "permanent", code: "x" }).kind).toBe("retry");
  });

  it("park, verify and dead need no attempts left: they are no retries", () => {
    const rules = [{ when: { code: "quota" }, action: "park", key: "k" }];
    expect(ruled(rules, { class: "throttled", code: "quota" }, 80).kind).toBe("park");
    expect(ruled(rules, { class: "throttled", code: "other" }, 80).kind).toBe("dead");
  });

  it("give an error its own backoff, and a slow tier after a fast one counts from its beginning", () => {
    const slow = { kind: "exponential", base: "10m", factor: 2, cap: "1h", jitter: "none" };
    const rules = [
      { when: { code: "slow" }, action: "retry", backoff: { kind: "fixed", delay: "7m", jitter: "none" } },
      { when: { fromAttempt: 4 }, action: "retry", backoff: slow },
    ];
    const waits = (code: string) =>
      [1, 3, 4, 5, 6, 7, 8].map((attempt) => waitIn(ruled(rules, { class: "transient", code }, attempt)) / 60_000);
    expect(waits("other")).toEqual([1, 1, 10, 20, 40, 60, 60]);
    expect(waits("slow")).toEqual([7, 7, 7, 7, 7, 7, 7]);
  });

  it("say which of them decided", () => {
    const rules = [{ when: { status: "5xx", fromAttempt: 2 }, action: "verify" }];
    expect(ruled(rules, http(503), 2)).toEqual({
      kind: "verify",
      text: "rule 1 (status 500-599, from attempt 2): whether it took effect must be found out first",
    });
  });
});
