import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { defaultRetryPolicy, effectOf, type Failure, isTransient, nextWaitMs, parseRetryAfter } from "./retry.ts";

const reply = (status: number, code: string, retryAfterMs?: number): Failure => ({
  kind: "reply",
  status,
  code,
  ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
});

describe("what a failure may have done", () => {
  it.each<[Failure, "none" | "unknown"]>([
    [{ kind: "not_connected" }, "none"],
    [{ kind: "no_reply" }, "unknown"],
    [reply(400, "invalid_field"), "none"],
    [reply(429, "overloaded"), "none"],
    [reply(503, "store_refusing"), "none"],
    [reply(503, "shutting_down"), "none"],
    [reply(503, "store_unavailable"), "unknown"],
    [reply(502, "unexpected_reply"), "unknown"],
    [reply(500, "internal"), "unknown"],
    [reply(200, "unexpected_reply"), "unknown"],
  ])("%j: %s", (failure, effect) => {
    expect(effectOf(failure)).toBe(effect);
  });
});

describe("whether and when to try again", () => {
  it("never repeats what cannot get better", () => {
    for (const status of [200, 301, 400, 404, 409, 413, 422, 500]) expect(isTransient(reply(status, "x"))).toBe(false);
  });

  it("repeats an unknown outcome only when a second copy is harmless", () => {
    expect(nextWaitMs({ kind: "no_reply" }, 1, false, defaultRetryPolicy, 0)).toBeUndefined();
    expect(nextWaitMs({ kind: "no_reply" }, 1, true, defaultRetryPolicy, 0)).toBe(50);
    expect(nextWaitMs({ kind: "not_connected" }, 1, false, defaultRetryPolicy, 0)).toBe(50);
    expect(nextWaitMs(reply(503, "store_unavailable"), 1, false, defaultRetryPolicy, 0)).toBeUndefined();
    expect(nextWaitMs(reply(503, "store_full"), 1, false, defaultRetryPolicy, 0)).toBe(50);
  });

  it("stops at maxAttempts", () => {
    expect(nextWaitMs({ kind: "not_connected" }, 4, true, defaultRetryPolicy, 0)).toBeDefined();
    expect(nextWaitMs({ kind: "not_connected" }, 5, true, defaultRetryPolicy, 0)).toBeUndefined();
  });

  it("never comes back before Retry-After, and does not wait for one that is too long", () => {
    expect(nextWaitMs(reply(429, "overloaded", 2_000), 1, true, defaultRetryPolicy, 0)).toBe(2_000);
    expect(nextWaitMs(reply(429, "overloaded", 2_000), 1, true, defaultRetryPolicy, 1)).toBe(2_500);
    expect(nextWaitMs(reply(429, "overloaded", 30_001), 1, true, defaultRetryPolicy, 0)).toBeUndefined();
  });

  it("waits at least half and at most the whole of a step that doubles up to maxMs", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 99 }), fc.double({ min: 0, max: 1, noNaN: true }), (attempt, random) => {
        const policy = { ...defaultRetryPolicy, maxAttempts: 100 };
        const stepMs = Math.min(5_000, 100 * 2 ** (attempt - 1));
        const waitMs = nextWaitMs({ kind: "not_connected" }, attempt, true, policy, random)!;
        expect(waitMs).toBeGreaterThanOrEqual(stepMs / 2);
        expect(waitMs).toBeLessThanOrEqual(stepMs);
      }),
    );
  });

  it("reads Retry-After as seconds or as a date", () => {
    const nowMs = Date.parse("2030-01-01T00:00:00Z");
    expect(parseRetryAfter("3", nowMs)).toBe(3_000);
    expect(parseRetryAfter("Tue, 01 Jan 2030 00:00:05 GMT", nowMs)).toBe(5_000);
    expect(parseRetryAfter("Mon, 31 Dec 2029 00:00:00 GMT", nowMs)).toBe(0);
    expect(parseRetryAfter("soon", nowMs)).toBeUndefined();
    expect(parseRetryAfter(null, nowMs)).toBeUndefined();
  });
});
