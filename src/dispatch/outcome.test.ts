import { describe, expect, it } from "vitest";
import type { Outcome } from "../delay/delay-store.port.ts";
import { timeOrderedId } from "../message/id.ts";
import type { DelayedMessage, RetryOptions } from "../message/message.ts";
import { durationMs, epochMs } from "../message/time.ts";
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
