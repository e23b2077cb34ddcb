import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { isEscapementError } from "../message/errors.ts";
import { parsePolicy } from "./parse-policy.ts";
import { defaultBreaker, defaultBudget } from "./policy.ts";
import { presets } from "./presets.ts";

const refusal = (input: unknown): { field: string | undefined; text: string } => {
  try {
    parsePolicy(input);
  } catch (error) {
    if (isEscapementError(error, "invalid_field")) return { field: error.field, text: error.message };
    throw error;
  }
  throw new Error("was accepted");
};

describe("a policy", () => {
  it("that says nothing is the default preset", () => {
    expect(parsePolicy({})).toEqual(presets[0]!.policy);
  });

  it("may say everything", () => {
    const input = {
      backoff: { kind: "linear", base: 500, increment: "PT1S", cap: "1h30m", jitter: "full" },
      limits: { maxAttempts: 1_000, maxAge: null, deadline: "2030-01-01T00:00:00Z", maxCrashes: 1 },
      rules: [
        { when: { class: "throttled", status: 429 }, action: "retry" },
        { when: { code: "http_4*", fromAttempt: 2 }, action: "park", key: "tenant-7" },
        { when: { status: "5xx" }, action: "retry", backoff: { kind: "decorrelated", base: "2s", factor: 2.5 } },
      ],
      breaker: { failureRate: 0.25, minCalls: 50, window: "1m", probeEvery: "5s", probes: 3, rampStartPerSec: 0.5 },
      budget: { percent: 12.5, minPerSec: 0.1 },
      dead: { keep: "90d" },
      inFlight: "keep",
    };
    expect(parsePolicy(input)).toEqual({
      backoff: { kind: "linear", baseMs: 500, incrementMs: 1_000, capMs: 5_400_000, jitter: "full" },
      limits: { maxAttempts: 1_000, maxCrashes: 1, deadlineMs: 1_893_456_000_000 },
      rules: [
        { when: { class: "throttled", status: { from: 429, to: 429 } }, action: "retry" },
        { when: { code: "http_4*", fromAttempt: 2 }, action: "park", key: "tenant-7" },
        {
          when: { status: { from: 500, to: 599 } },
          action: "retry",
          backoff: { kind: "decorrelated", baseMs: 2_000, factor: 2.5, capMs: 1_800_000 },
        },
      ],
      breaker: {
        failureRate: 0.25,
        minCalls: 50,
        windowMs: 60_000,
        probeEveryMs: 5_000,
        probes: 3,
        rampStartPerSec: 0.5,
        rampAddPerSec: 100,
      },
      budget: { percent: 12.5, minPerSec: 0.1 },
      dead: { keepMs: 7_776_000_000 },
      inFlight: "keep",
    });
  });

  it("turns breaker and budget off with null, and sends the dead to a topic", () => {
    expect(parsePolicy({ breaker: null, budget: null, dead: { topic: "orders-dead" } })).toEqual({
      ...presets[0]!.policy,
      breaker: null,
      budget: null,
      dead: { topic: "orders-dead" },
    });
    expect(parsePolicy({ breaker: {}, budget: {}, dead: {} })).toEqual({
      ...presets[0]!.policy,
      breaker: defaultBreaker,
      budget: defaultBudget,
      dead: {},
    });
  });

  it.each([
    [{ backoff: { base: 5 } }, "policy.backoff.base", 'perhaps "5s"'],
    [{ backoff: { base: "5" } }, "policy.backoff.base", "has no unit"],
    [{ backoff: { base: "-5s" } }, "policy.backoff.base", "negative"],
    [{ backoff: { base: -5 } }, "policy.backoff.base", "from 0 up"],
    [{ backoff: { cap: 1.5 } }, "policy.backoff.cap", "whole number of milliseconds"],
    [{ backoff: { cap: "60d" } }, "policy.backoff.cap", "look at the unit"],
    [{ backoff: { base: 1_700_000_000_000 } }, "policy.backoff.base", "look at the unit"],
    [{ limits: { maxAge: 24 } }, "policy.limits.maxAge", 'perhaps "24s"'],
    [{ limits: { maxAge: "400d" } }, "policy.limits.maxAge", "look at the unit"],
    [{ limits: { deadline: 1_893_456_000 } }, "policy.limits.deadline", "looks like seconds"],
    [{ breaker: { window: 10 } }, "policy.breaker.window", 'perhaps "10s"'],
    [{ breaker: { window: "1h" } }, "policy.breaker.window", "look at the unit"],
    [{ breaker: { probeEvery: 10 } }, "policy.breaker.probeEvery", 'perhaps "10s"'],
    [{ breaker: { failureRate: 50 } }, "policy.breaker.failureRate", "from 0.01 to 1"],
    [{ budget: { percent: 2_000 } }, "policy.budget.percent", "from 0 to 100"],
    [{ dead: { keep: 90 } }, "policy.dead.keep", 'perhaps "90s"'],
  ])("RT-25 in wrong units is refused: %j", (input, field, text) => {
    const { field: at, text: why } = refusal(input);
    expect(at).toBe(field);
    expect(why).toContain(text);
  });

  it.each([
    [null, "policy", "must be an object, not null"],
    [[], "policy", "not an array"],
    [{ backof: {} }, "policy.backof", "there are backoff, limits, rules, breaker, budget, dead, inFlight"],
    [{ breaker: true }, "policy.breaker", "must be an object"],
    [{ breaker: { failureRate: 0 } }, "policy.breaker.failureRate", "from 0.01 to 1"],
    [{ breaker: { minCalls: 0 } }, "policy.breaker.minCalls", "from 1 to 100000"],
    [{ breaker: { probes: 1.5 } }, "policy.breaker.probes", "from 1 to 100000"],
    [{ breaker: { rampAddPerSec: 0 } }, "policy.breaker.rampAddPerSec", "from 0.1 to 1000000"],
    [{ breaker: { openFor: "30s" } }, "policy.breaker.openFor", "is not known here"],
    [{ budget: [] }, "policy.budget", "not an array"],
    [{ budget: { percent: -1 } }, "policy.budget.percent", "from 0 to 100"],
    [{ budget: { minPerSec: 0 } }, "policy.budget.minPerSec", "for ever"],
    [{ dead: { topic: "no topic" } }, "policy.dead.topic", "is no name of a topic"],
    [{ dead: { topic: null } }, "policy.dead.topic", "is no name of a topic"],
    [{ dead: { topic: "t", keep: "1d" } }, "policy.dead.keep", "goes without a topic"],
    [{ dead: null }, "policy.dead", "must be an object, not null"],
    [{ inFlight: "drop" }, "policy.inFlight", "one of adopt, keep"],
    [{ backoff: { kind: "fibonacci" } }, "policy.backoff.kind", "one of fixed, list"],
    [{ backoff: { kind: "fixed" } }, "policy.backoff.delay", "is missing"],
    [
      { backoff: { kind: "fixed", delay: "1s", factor: 2 } },
      "policy.backoff.factor",
      "does not go with the kind fixed",
    ],
    [{ backoff: { kind: "list", delays: [] } }, "policy.backoff.delays", "is missing or empty"],
    [{ backoff: { kind: "list", delays: ["1s", "x"] } }, "policy.backoff.delays[1]", "is not a duration"],
    [{ backoff: { kind: "list", delays: [null] } }, "policy.backoff.delays[0]", "must be a duration"],
    [{ backoff: { base: "1m", cap: "1s" } }, "policy.backoff.cap", "shorter than the base"],
    [{ backoff: { factor: 0.5 } }, "policy.backoff.factor", "from 1 to 10"],
    [{ backoff: { factor: Number.NaN } }, "policy.backoff.factor", "from 1 to 10"],
    [{ backoff: { jitter: "decorrelated" } }, "policy.backoff.jitter", '"kind": "decorrelated"'],
    [{ backoff: { kind: "decorrelated", jitter: "full" } }, "policy.backoff.jitter", "does not go with the kind"],
    [{ limits: { maxAttempts: 0 } }, "policy.limits.maxAttempts", "from 1 to 1000"],
    [{ limits: { maxAttempts: 1e9 } }, "policy.limits.maxAttempts", "from 1 to 1000"],
    [{ rules: {} }, "policy.rules", "must be an array"],
    [{ rules: [{ action: "dead" }] }, "policy.rules[0].when", "must be an object, not nothing"],
    [{ rules: [{ when: {}, action: "dead" }] }, "policy.rules[0].when", "is empty"],
    [{ rules: [{ when: { class: "fatal" }, action: "dead" }] }, "policy.rules[0].when.class", "one of transient"],
    [{ rules: [{ when: { code: "a*b" }, action: "dead" }] }, "policy.rules[0].when.code", "with a * at the end"],
    [{ rules: [{ when: { code: "*" }, action: "dead" }] }, "policy.rules[0].when.code", "with a * at the end"],
    [{ rules: [{ when: { status: "9xx" }, action: "dead" }] }, "policy.rules[0].when.status", "100 to 599"],
    [{ rules: [{ when: { status: 42 }, action: "dead" }] }, "policy.rules[0].when.status", "100 to 599"],
    [{ rules: [{ when: { code: "a" } }] }, "policy.rules[0].action", "is missing"],
    [
      { rules: [{ when: { code: "a" }, action: "drop" }] },
      "policy.rules[0].action",
      "one of retry, dead, park, verify",
    ],
    [{ rules: [{ when: { code: "a" }, action: "park" }] }, "policy.rules[0].key", "is missing"],
    [{ rules: [{ when: { code: "a" }, action: "dead", key: "k" }] }, "policy.rules[0].key", "goes with"],
    [{ rules: [{ when: { code: "a" }, action: "dead", backoff: {} }] }, "policy.rules[0].backoff", "goes with"],
    [{ rules: Array(101).fill({ when: { code: "a" }, action: "dead" }) }, "policy.rules", "100 are allowed"],
  ])("with a mistake is refused, with where and why: %j", (input, field, text) => {
    const { field: at, text: why } = refusal(input);
    expect(at).toBe(field);
    expect(why).toContain(`${field} `);
    expect(why).toContain(text);
  });

  it("with many mistakes tells all of them at once, up to twenty", () => {
    const { text } = refusal({ backoff: { base: "x", factor: 99 }, limits: { maxAttempts: -1 }, rules: [7] });
    for (const path of ["backoff.base", "backoff.factor", "limits.maxAttempts", "rules[0]"]) {
      expect(text).toContain(`policy.${path} `);
    }
    const wrong = Object.fromEntries(Array.from({ length: 5_000 }, (_, i) => [`name${i}`.padEnd(300, "y"), 1]));
    const many = refusal(wrong).text;
    expect(many).toContain("And 4980 more.");
    expect(many.length).toBeLessThan(4_000);
  });

  it("is anything at all: either a whole policy or a coded refusal", () => {
    fc.assert(
      fc.property(fc.jsonValue(), fc.jsonValue(), fc.jsonValue(), (backoff, limits, rules) => {
        const outage = { breaker: backoff, budget: limits, dead: rules, inFlight: backoff };
        for (const input of [
          backoff,
          { backoff, limits, rules },
          outage,
          { backoff: { kind: "list", delays: rules } },
        ]) {
          try {
            expect(parsePolicy(input).backoff.kind).toBeTypeOf("string");
          } catch (error) {
            expect(isEscapementError(error, "invalid_field"), String(error)).toBe(true);
          }
        }
      }),
      { seed: 103, numRuns: 100 },
    );
  });
});
