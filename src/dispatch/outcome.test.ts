import { describe, expect, it } from "vitest";
import type { Outcome } from "../delay/delay-store.port.ts";
import { timeOrderedId } from "../message/id.ts";
import type { DelayedMessage, RetryOptions } from "../message/message.ts";
import { durationMs, epochMs } from "../message/time.ts";
import { parsePolicy } from "../retry/parse-policy.ts";
import * as outcomes from "./outcome.ts";
import type { SendPolicies } from "./send-policies.port.ts";
import type { FailureClass, SendResult } from "./sink.port.ts";

const nowMs = epochMs(1_750_000_000_000);
const chance = (value: number) => ({ float: () => value, bytes: <T extends Uint8Array>(target: T) => target });
const almostOne = 1 - 2 ** -53;
const message = (attempt: number, retry?: RetryOptions): DelayedMessage => ({
  id: timeOrderedId(nowMs, new Uint8Array(10), 0),
  tenant: "default",
  topic: "orders",
  keys: [],
  properties: new Map(),
  body: Buffer.from("x"),
  deliverAtMs: nowMs,
  acceptedAtMs: nowMs,
  attempt,
  ...(retry === undefined ? undefined : { retry }),
});
const failed = (failureClass: FailureClass): SendResult => ({
  ok: false,
  failure: { class: failureClass, code: "some_code", detail: "why" },
});
const { id } = message(1);

const nothingBound: SendPolicies = { policyFor: () => undefined };
const outcome = (about: DelayedMessage, result: SendResult, at: typeof nowMs, random: ReturnType<typeof chance>) =>
  outcomes.outcome(about, result, at, random, nothingBound);
const refusedBeforeSend = (about: DelayedMessage) => outcomes.refusedBeforeSend(about, nothingBound);

const dueAfter = (decided: Outcome): number => (decided.kind === "retry" ? decided.dueMs - nowMs : Number.NaN);
const wish = { maxAttempts: 80, initialMs: durationMs(100), maxMs: durationMs(30 * 60_000), multiplier: 2 };

describe("the wait before the next attempt", () => {
  const waits = (attempt: number, retry?: RetryOptions) =>
    [0, almostOne].map((draw) => dueAfter(outcome(message(attempt, retry), failed("transient"), nowMs, chance(draw))));

  it("lies between half of the exponential step and all of it", () => {
    expect(waits(1)).toEqual([500, 1_000]);
    expect(waits(2)).toEqual([1_000, 2_000]);
    expect(waits(10)).toEqual([256_000, 512_000]);
  });

  it("never exceeds the cap, however many attempts there were", () => {
    expect(waits(79)).toEqual([15 * 60_000, 30 * 60_000]);
  });

  it("is as the message itself wishes", () => {
    expect(waits(3, { ...wish, multiplier: 1.5 })).toEqual([113, 225]);
    expect(waits(70, { ...wish, multiplier: 1 })).toEqual([50, 100]);
    expect(waits(70, { ...wish, maxMs: durationMs(7_000) })).toEqual([3_500, 7_000]);
  });

  it("goes on although the message was due days ago: what waited untried is no older for it", () => {
    const late = { ...message(1), deliverAtMs: epochMs(nowMs - 5 * 86_400_000) };
    expect(outcome(late, failed("transient"), nowMs, chance(0)).kind).toBe("retry");
  });
});

describe("what becomes of a message", () => {
  it("is delivered when the broker has it", () => {
    expect(outcome(message(1), { ok: true, brokerMessageId: "b" }, nowMs, chance(0))).toEqual({
      kind: "delivered",
      id,
    });
  });

  it.each(["transient", "throttled", "unknown"] as const)("waits again after a %s failure", (failureClass) => {
    expect(outcome(message(2), failed(failureClass), nowMs, chance(0))).toEqual({
      kind: "retry",
      id,
      dueMs: nowMs + 1_000,
    });
  });

  it("is dead at once after a permanent failure, with the reason", () => {
    const decided = outcome(message(1), failed("permanent"), nowMs, chance(0));
    expect(decided).toEqual({ kind: "bury", id, reason: { code: "some_code", detail: "why" } });
  });

  it("is dead when its last attempt fails, and says so", () => {
    const retry = { ...wish, maxAttempts: 3 };
    expect(outcome(message(2, retry), failed("transient"), nowMs, chance(0)).kind).toBe("retry");
    const detail = "attempt 3 of 3 failed: some_code: why";
    expect(outcome(message(3, retry), failed("transient"), nowMs, chance(0))).toEqual({
      kind: "bury",
      id,
      reason: { code: "attempts_exhausted", detail },
    });
  });

  it("is dead without a send when it was taken more often than allowed: it kills its sender", () => {
    const retry = { ...wish, maxAttempts: 3 };
    expect(refusedBeforeSend(message(3, retry))).toBeUndefined();
    expect(refusedBeforeSend(message(4, retry))).toMatchObject({
      kind: "bury",
      reason: {
        code: "attempts_exhausted",
        detail: "taken for sending 3 times without an outcome, 3 attempts allowed",
      },
    });
  });
});

describe("a policy bound to the topic", () => {
  const bound = (input: object): SendPolicies => {
    const policy = parsePolicy(input);
    return { policyFor: (topic, tag) => (topic === "orders" && tag === undefined ? policy : undefined) };
  };
  const decided = (input: object, about: DelayedMessage, result = failed("transient"), draw = 0) =>
    outcomes.outcome(about, result, nowMs, chance(draw), bound(input));
  const fixed = { backoff: { kind: "fixed", delay: "7s", jitter: "none" } };

  it("decides with its backoff, its attempts and its rules", () => {
    expect(dueAfter(decided(fixed, message(5)))).toBe(7_000);
    const three = { ...fixed, limits: { maxAttempts: 3 } };
    expect(decided(three, message(2)).kind).toBe("retry");
    expect(decided(three, message(3))).toMatchObject({ kind: "bury", reason: { code: "attempts_exhausted" } });
    expect(outcomes.refusedBeforeSend(message(4), bound(three))).toMatchObject({ kind: "bury" });
    expect(outcomes.refusedBeforeSend(message(4), bound(fixed))).toBeUndefined();
    const ruled = { ...fixed, rules: [{ when: { code: "some_code", fromAttempt: 2 }, action: "dead" }] };
    expect(decided(ruled, message(1)).kind).toBe("retry");
    expect(decided(ruled, message(2))).toMatchObject({
      kind: "bury",
      reason: { code: "rule", detail: "rule 1 (some_code, from attempt 2): dead: some_code: why" },
    });
    const deadline = { ...fixed, limits: { deadline: nowMs + 6_999 } };
    expect(decided(deadline, message(1))).toMatchObject({ kind: "bury", reason: { code: "deadline_passed" } });
  });

  it("gives way to what the message itself wishes, and does not reach other topics and tags", () => {
    expect(dueAfter(decided(fixed, message(1, wish)))).toBe(50);
    expect(dueAfter(decided(fixed, { ...message(1), topic: "refunds" }))).toBe(500);
    expect(dueAfter(decided(fixed, { ...message(1), tag: "paid" }))).toBe(500);
    expect(outcomes.refusedBeforeSend(message(81), bound({ limits: { maxAttempts: 200 } }))).toBeUndefined();
  });

  it("never ends a send by age or by crashes, and never parks or verifies one: it is tried again", () => {
    const late = { ...message(9), acceptedAtMs: epochMs(nowMs - 40 * 86_400_000) };
    expect(decided({ ...fixed, limits: { maxAge: "1s", maxCrashes: 1 } }, late).kind).toBe("retry");
    for (const rule of [{ action: "park", key: "k" }, { action: "verify" }]) {
      const input = { ...fixed, rules: [{ when: { class: "unknown" }, ...rule }] };
      expect(dueAfter(decided(input, message(3), failed("unknown")))).toBe(7_000);
      // Its last attempt is its last all the same.
      const limited = { ...input, limits: { maxAttempts: 3 } };
      expect(decided(limited, message(3), failed("unknown"))).toMatchObject({ reason: { code: "attempts_exhausted" } });
    }
    expect(decided({ ...fixed, dead: { topic: "elsewhere" } }, message(1), failed("permanent"))).toEqual({
      kind: "bury",
      id,
      reason: { code: "some_code", detail: "why" },
    });
  });

  it("makes decorrelated waits grow although no wait before is known", () => {
    const input = { backoff: { kind: "decorrelated", base: "1s", factor: 4, cap: "1m" } };
    const waits = [1, 2, 3, 20].map((attempt) =>
      dueAfter(decided(input, message(attempt), failed("transient"), almostOne)),
    );
    expect(waits).toEqual([1_000, 2_000, 4_000, 60_000]);
  });
});
