import { describe, expect, it } from "vitest";
import { timeOrderedId } from "../message/id.ts";
import type { DelayedMessage, RetryOptions } from "../message/message.ts";
import { durationMs, epochMs } from "../message/time.ts";
import { backoff, defaultRetry } from "./backoff.ts";
import { outcome, refusedBeforeSend } from "./outcome.ts";
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

describe("the wait before the next attempt", () => {
  it("lies between half of the exponential step and all of it", () => {
    const bounds = (attempt: number) => [
      backoff(defaultRetry, attempt, chance(0)),
      backoff(defaultRetry, attempt, chance(almostOne)),
    ];
    expect(bounds(1)).toEqual([500, 1_000]);
    expect(bounds(2)).toEqual([1_000, 2_000]);
    expect(bounds(10)).toEqual([256_000, 512_000]);
  });

  it("never exceeds the cap, however many attempts there were", () => {
    expect(backoff(defaultRetry, 12, chance(almostOne))).toBe(30 * 60_000);
    expect(backoff(defaultRetry, 5_000, chance(0))).toBe(15 * 60_000);
  });

  it("takes fractional factors, and stays the same with a factor of one", () => {
    const policy = { ...defaultRetry, initialMs: durationMs(100), multiplier: 1.5 };
    expect(backoff(policy, 3, chance(almostOne))).toBe(225);
    expect(backoff({ ...policy, multiplier: 1 }, 70, chance(almostOne))).toBe(100);
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
    const retry = { ...defaultRetry, maxAttempts: 3 };
    expect(outcome(message(2, retry), failed("transient"), nowMs, chance(0)).kind).toBe("retry");
    const detail = "attempt 3 of 3 failed: some_code: why";
    expect(outcome(message(3, retry), failed("transient"), nowMs, chance(0))).toEqual({
      kind: "bury",
      id,
      reason: { code: "attempts_exhausted", detail },
    });
  });

  it("is dead without a send when it was taken more often than allowed: it kills its sender", () => {
    const retry = { ...defaultRetry, maxAttempts: 3 };
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
