import { describe, expect, it } from "vitest";
import { type DurationMs, durationMs, epochMs } from "../message/time.ts";
import { decide, type Failure } from "./decide.ts";
import { type Explanation, explain } from "./explain.ts";
import { parsePolicy } from "./parse-policy.ts";
import type { RetryPolicy } from "./policy.ts";
import { presets } from "./presets.ts";
import { simulateRetries } from "./simulate.ts";

const start = epochMs(1_750_000_000_000);
const broken: Failure = { class: "transient", code: "http_503", status: 503 };
const presetOf = (name: string): RetryPolicy => presets.find((preset) => preset.name === name)!.policy;

/** A small generator with a seed, so that a run that fails can be run again. */
const seeded = (seed: number) => {
  let state = seed;
  return {
    float: (): number => {
      state = (Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x9e3779b9) | 0;
      let mixed = Math.imul(state ^ (state >>> 16), 0x85ebca6b);
      mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
      return ((mixed ^ (mixed >>> 16)) >>> 0) / 2 ** 32;
    },
  };
};

/** Lives through one schedule by `decide` alone. */
const live = (policy: RetryPolicy, failure: Failure, random: { float(): number }) => {
  const waits: number[] = [];
  let nowMs = start;
  let previousDelayMs: DurationMs | undefined;
  for (let attempt = 1; ; attempt++) {
    const decision = decide(
      policy,
      {
        attempt,
        crashes: failure.class === "crash" ? attempt : 0,
        firstFailedAtMs: start,
        parkedMs: durationMs(0),
        nowMs,
        ...(previousDelayMs === undefined ? undefined : { previousDelayMs }),
        failure,
      },
      random,
    );
    if (decision.kind !== "retry") return { waits, attempt, afterMs: nowMs - start, decision };
    previousDelayMs = durationMs(decision.atMs - nowMs);
    waits.push(previousDelayMs);
    nowMs = decision.atMs;
  }
};

describe("explain and decide agree", () => {
  const asked = { class: "throttled", code: "http_429", status: 429, retryAfterMs: durationMs(20_000) } as const;
  it.each([
    ["default", {}, broken],
    ["default with a Retry-After", {}, asked],
    ["full", { backoff: { jitter: "full", factor: 1.3, cap: "2m" }, limits: { maxAge: "20m" } }, broken],
    ["decorrelated", { backoff: { kind: "decorrelated", cap: "1m" }, limits: { maxAge: "15m" } }, broken],
    ["linear", { backoff: { kind: "linear", increment: "3s", cap: "40s" }, limits: { maxAttempts: 20 } }, broken],
    [
      "tiers",
      {
        rules: [{ when: { fromAttempt: 4 }, action: "retry", backoff: { base: "1m", cap: "5m" } }],
        limits: { maxAge: "1h" },
      },
      broken,
    ],
    ["a deadline", { limits: { deadline: "2025-06-15T16:00:00Z", maxAge: null } }, broken],
    ["crashes", {}, { class: "crash", code: "vanished" }],
    ["a rule that parks later", { rules: [{ when: { fromAttempt: 5 }, action: "park", key: "k" }] }, broken],
  ] as const)("%s: 100 lives stay within the bounds, end as said, and have that mean", (_, input, failure) => {
    const policy = parsePolicy(input);
    const said = explain(policy, failure, start, 1_000);
    const random = seeded(7);
    const lives = Array.from({ length: 100 }, () => live(policy, failure, random));
    // Counted and then expected once: an expectation for each of 5,000 waits would take seconds.
    const astray = lives.flatMap(({ waits, attempt, afterMs, decision }) => {
      const out = waits.filter((wait, i) => {
        const { minMs, maxMs } = said.attempts[i]!.waitMs!;
        return !(wait >= minMs && wait <= maxMs);
      });
      const kinds = [said.fewestAttempts, said.typically, said.mostAttempts].map((end) => end.decision);
      const endsRight =
        attempt >= said.fewestAttempts.attempt &&
        attempt <= said.mostAttempts.attempt &&
        afterMs <= Math.max(said.fewestAttempts.afterMs, policy.limits.maxAgeMs ?? 1e12) &&
        kinds.some((kind) => kind === decision.kind);
      return endsRight ? out : [...out, { attempt, afterMs }];
    });
    expect(astray).toEqual([]);
    const meanAttempts = lives.reduce((sum, { attempt }) => sum + attempt, 0) / lives.length;
    expect(Math.abs(meanAttempts - said.typically.attempt)).toBeLessThan(1.5);
    for (let i = 0; i < said.fewestAttempts.attempt - 1; i++) {
      const { meanMs } = said.attempts[i]!.waitMs!;
      const lived = lives.reduce((sum, { waits }) => sum + waits[i]!, 0) / lives.length;
      expect(Math.abs(lived / meanMs - 1)).toBeLessThan(0.25);
    }
  });

  it("the mean of decorrelated waits is that of many lives, within three percent", () => {
    const policy = parsePolicy({
      backoff: { kind: "decorrelated", cap: "1m" },
      limits: { maxAttempts: 12, maxAge: null },
    });
    const said = explain(policy, broken, start, 12);
    const random = seeded(11);
    const sums = Array<number>(11).fill(0);
    const lives = 4_000;
    for (let i = 0; i < lives; i++) {
      live(policy, broken, random).waits.forEach((wait, n) => {
        sums[n]! += wait;
      });
    }
    sums.forEach((sum, n) => {
      expect(Math.abs(sum / lives / said.attempts[n]!.waitMs!.meanMs - 1)).toBeLessThan(0.03);
    });
  });
});

describe("the presets", () => {
  it("rocketmq-ladder waits 10 s, 30 s, 1 min … 2 h and is dead after 16 retries, 4 h 46 min 40 s later", () => {
    const { attempts, typically, fewestAttempts, mostAttempts } = explain(
      presetOf("rocketmq-ladder"),
      broken,
      start,
      99,
    );
    const minutes = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 20, 30, 60, 120].map((value) => value * 60_000);
    expect(attempts.slice(0, -1).map(({ waitMs }) => waitMs)).toEqual(
      [10_000, 30_000, ...minutes].map((value) => ({ minMs: value, meanMs: value, maxMs: value })),
    );
    expect(typically).toEqual({
      decision: "dead",
      code: "attempts_exhausted",
      attempt: 17,
      afterMs: 17_140_000,
      text: "attempt 17 of 17 failed",
    });
    expect([fewestAttempts, mostAttempts]).toEqual([typically, typically]);
  });

  it("rocketmq-exponential waits 5 s, 10 s … 2 h and is dead after 16 retries", () => {
    const { attempts } = explain(presetOf("rocketmq-exponential"), broken, start, 99);
    expect(attempts).toHaveLength(17);
    expect(attempts.slice(0, 3).map(({ waitMs }) => waitMs!.meanMs)).toEqual([5_000, 10_000, 20_000]);
    expect(attempts[15]!.waitMs!.meanMs).toBe(7_200_000);
  });

  it("default ends by age on average, after nearly a day, and cannot pass 80 attempts", () => {
    const { typically, fewestAttempts, mostAttempts } = explain(presetOf("default"), broken, start, 1);
    expect(typically).toMatchObject({ code: "age_exhausted" });
    expect(typically.afterMs).toBeGreaterThan(23.5 * 3_600_000);
    expect(typically.afterMs).toBeLessThanOrEqual(24 * 3_600_000);
    expect(fewestAttempts).toMatchObject({ code: "age_exhausted" });
    expect(mostAttempts).toMatchObject({ code: "attempts_exhausted", attempt: 80 });
  });
});

describe("the page of attempts", () => {
  it("may be cut, and says by how much; the ends are told all the same", () => {
    const whole = explain(presetOf("rocketmq-ladder"), broken, start, 1_000);
    const cut = explain(presetOf("rocketmq-ladder"), broken, start, 3);
    expect(cut).toEqual({ ...whole, attempts: whole.attempts.slice(0, 3), attemptsLeftOut: 14 } satisfies Explanation);
  });

  it("says where luck decides: some lives have ended by age there and others go on", () => {
    const policy = parsePolicy({ backoff: { kind: "fixed", delay: "10s" }, limits: { maxAge: "61s" } });
    const { attempts } = explain(policy, broken, start, 99);
    expect(attempts.map(({ decision, certain }) => `${decision}${certain ? "" : "?"}`)).toEqual([
      ...Array(6).fill("retry"),
      "retry?",
      "retry?",
      "dead?",
      "dead?",
      "dead?",
      "dead?",
      "dead",
    ]);
    expect(attempts[2]!.sinceFirstMs).toEqual({ minMs: 15_000, meanMs: 22_500, maxMs: 30_000 });
  });
});

describe("what else a policy says", () => {
  it("is told as sentences: breaker, budget, the dead, messages in flight", () => {
    const all = parsePolicy({
      breaker: { failureRate: 0.3, window: "20s", probes: 4 },
      budget: { percent: 15, minPerSec: 2 },
      dead: { topic: "orders-dead" },
      inFlight: "keep",
    });
    const text = explain(all, broken, start, 1).besides.join("\n");
    for (const part of ["30 % of at least 20 calls in 20 s", "4 calls every 10 s", "15 % of the successes and 2/s"]) {
      expect(text).toContain(part);
    }
    expect(text).toContain("sent to the topic orders-dead");
    expect(text).toContain("keep that one");
    expect(explain(parsePolicy({}), broken, start, 1).besides).toHaveLength(2);
    expect(explain(parsePolicy({ breaker: null, dead: { keep: "90d" } }), broken, start, 1).besides).toEqual([
      "Retries are at most 20 % of the successes and 10/s; those beyond wait a little longer, which spends no attempt.",
      "The dead are kept for 2160 h.",
    ]);
    expect(explain(presetOf("rocketmq-ladder"), broken, start, 1).besides).toEqual([]);
  });
});

describe("a question in JSON", () => {
  it("takes a status from the code and a code from the status", () => {
    const rules = [{ when: { status: 503, code: "http_503" }, action: "verify" }];
    for (const error of [{ code: "http_503" }, { status: 503 }]) {
      expect(simulateRetries({ policy: { rules }, error }).typically.decision).toBe("verify");
    }
    expect(simulateRetries({ policy: { rules }, error: { code: "http_504" } }).typically.decision).toBe("dead");
  });

  it("without any words is about the default policy and a passing error", () => {
    expect(simulateRetries({})).toEqual(
      explain(presetOf("default"), { class: "transient", code: "transient" }, epochMs(0), 100),
    );
  });

  it.each([
    [7, "request"],
    [{ preset: "fast" }, "preset"],
    [{ preset: "default", policy: {} }, "preset"],
    [{ policy: { backoff: 7 } }, "policy.backoff"],
    [{ attempts: 0 }, "attempts"],
    [{ error: { class: "odd" } }, "error.class"],
    [{ error: { retryAfter: -1 } }, "error.retryAfter"],
    [{ error: { retryAfter: "Wed, 21 Oct 2026 07:28:00 GMT" } }, "error.retryAfter"],
    [{ policy: { limits: { deadline: "2030-01-01T00:00:00Z" } } }, "firstFailedAt"],
    [{ firstFailedAt: "yesterday" }, "firstFailedAt"],
  ])("with a mistake names the place: %j", (request, field) => {
    expect(() => simulateRetries(request)).toThrow(expect.objectContaining({ code: "invalid_field", field }));
  });
});
