import { describe, expect, it } from "vitest";
import { PermanentError, ThrottledError, TransientError, UnknownOutcomeError } from "./classified-errors.ts";
import { envelopeLimits } from "./envelope-codec.ts";
import { failureOf } from "./fingerprint.ts";

const nowMs = Date.UTC(2026, 0, 1, 12);
const of = (thrown: unknown) => failureOf(thrown, nowMs);
const shown = (thrown: unknown) => {
  const { class: failureClass, code } = of(thrown);
  return `${failureClass}:${code}`;
};
const errorWith = (fields: object, cause?: unknown) => Object.assign(new Error("boom", { cause }), fields);

describe("what a handler throws", () => {
  it.each([
    [new TransientError("later"), "transient:transient"],
    [new ThrottledError("30s"), "throttled:throttled"],
    [new PermanentError("never", { code: "no_such_account" }), "permanent:no_such_account"],
    [new UnknownOutcomeError("?"), "unknown:unknown_outcome"],
    [{ failureClass: "permanent", code: "from_another_copy" }, "permanent:from_another_copy"],
    [errorWith({ status: 503 }), "transient:http_503"],
    [errorWith({ statusCode: 422 }), "permanent:http_422"],
    [errorWith({ response: { status: 404 } }), "permanent:http_404"],
    [errorWith({ status: 401 }), "transient:http_401"],
    [errorWith({ status: 409 }), "transient:http_409"],
    [errorWith({ status: 429 }), "throttled:http_429"],
    [errorWith({ status: 200 }), "transient:Error"],
    [errorWith({ status: "503" }), "transient:Error"],
    [new TypeError("fetch failed", { cause: errorWith({ code: "ECONNREFUSED" }) }), "transient:ECONNREFUSED"],
    [new TypeError("fetch failed", { cause: errorWith({ code: "UND_ERR_SOCKET" }) }), "unknown:UND_ERR_SOCKET"],
    [errorWith({ code: "ETIMEDOUT", syscall: "connect" }), "transient:ETIMEDOUT"],
    [errorWith({ code: "ETIMEDOUT", syscall: "read" }), "unknown:ETIMEDOUT"],
    [new DOMException("aborted", "AbortError"), "unknown:AbortError"],
    [new DOMException("late", "TimeoutError"), "unknown:TimeoutError"],
    [new RangeError("x"), "transient:RangeError"],
    [errorWith({ code: "SQLITE_BUSY" }), "transient:SQLITE_BUSY"],
    [errorWith({ code: "a code\nwith lines" }), "transient:Error"],
    [errorWith({ failureClass: "fatal" }), "transient:Error"],
  ])("%# %s is %s", (thrown, expected) => {
    expect(shown(thrown)).toBe(expected);
  });
});

describe("RT-09 what is no Error", () => {
  const circular: { cause?: unknown; message: string } = { message: "round" };
  circular.cause = circular;
  const hostile = new Proxy(
    {},
    {
      get: () => {
        throw new Error("no");
      },
    },
  );
  it.each([
    [undefined, "transient:threw_undefined"],
    [null, "transient:threw_null"],
    ["text", "transient:threw_string"],
    [42, "transient:threw_number"],
    [Symbol("s"), "transient:threw_symbol"],
    [() => 1, "transient:threw_function"],
    [{}, "transient:threw_object"],
    [circular, "transient:threw_object"],
    [hostile, "transient:threw_object"],
    [Object.create(null), "transient:threw_object"],
  ])("%#", (thrown, expected) => {
    expect(shown(thrown)).toBe(expected);
    const { text, fingerprint } = of(thrown);
    expect(text.length).toBeLessThanOrEqual(envelopeLimits.errorTextMax);
    expect(fingerprint.length).toBeLessThanOrEqual(envelopeLimits.fingerprintMax);
  });

  it("ten megabytes of text leave 200 characters, and no line of them is taken for a place", () => {
    const huge = "é\n    at evil (".repeat(700_000);
    const error = new Error(huge);
    const { text, fingerprint, code } = of(error);
    expect(text.length).toBe(envelopeLimits.errorTextMax);
    expect(code).toBe("Error");
    expect(fingerprint).not.toContain("evil");
    expect(fingerprint.length).toBeLessThanOrEqual(envelopeLimits.fingerprintMax);
    expect(of(huge).text.length).toBe(envelopeLimits.errorTextMax);
  });
});

describe("RT-03 how long the other side asks to be left alone", () => {
  const header = (value: string) =>
    of(errorWith({ status: 503, headers: new Headers({ "retry-after": value }) })).retryAfterMs;
  it("as a header: seconds or an HTTP date, huge, negative or senseless", () => {
    expect(header("120")).toBe(120_000);
    expect(header("Thu, 01 Jan 2026 12:00:30 GMT")).toBe(30_000);
    expect(header("Thursday, 01-Jan-26 12:01:00 GMT")).toBe(60_000);
    expect(header("Thu, 01 Jan 1970 00:00:00 GMT")).toBe(0);
    expect(header("-5")).toBe(0);
    expect(header("9".repeat(40))).toBe(253_402_300_799_999);
    expect(header("9".repeat(400))).toBeUndefined();
    expect(header("soon")).toBeUndefined();
    expect(header("a:b")).toBeUndefined();
    expect(of(errorWith({ response: { status: 429, headers: { "retry-after": 7 } } })).retryAfterMs).toBe(7_000);
  });

  it("as our own error says it: a number is milliseconds, as everywhere", () => {
    expect(of(new ThrottledError("30s")).retryAfterMs).toBe(30_000);
    expect(of(new ThrottledError(1_500)).retryAfterMs).toBe(1_500);
    expect(of(new ThrottledError("90")).retryAfterMs).toBe(90_000);
    expect(of(new ThrottledError(new Date(nowMs + 5_000))).retryAfterMs).toBe(5_000);
    expect(of(new ThrottledError(Number.NaN)).retryAfterMs).toBeUndefined();
    expect(of(new ThrottledError("whenever")).retryAfterMs).toBeUndefined();
    expect(of(new ThrottledError(-1)).retryAfterMs).toBe(0);
  });

  it("a retryAfter without a unit is not believed", () => {
    expect(of(errorWith({ retryAfter: 5 })).retryAfterMs).toBeUndefined();
    expect(of(errorWith({ retryAfterMs: 5 })).retryAfterMs).toBe(5);
  });
});

describe("fingerprints", () => {
  const charge = (text: string) => new Error(text);
  const refund = (text: string) => new Error(text);
  it("are equal for one cause and different for others", () => {
    expect(of(charge("order 17 failed")).fingerprint).toBe(of(charge("order 18 failed")).fingerprint);
    expect(of(charge("x")).fingerprint).not.toBe(of(refund("x")).fingerprint);
    expect(of(charge("x")).fingerprint).toMatch(/^Error@charge-[0-9a-f]{8}$/);
    expect(of("order 17 of 'me' failed").fingerprint).toBe(of("order 99 of 'you' failed").fingerprint);
    expect(of("order failed").fingerprint).not.toBe(of("refund failed").fingerprint);
  });
});
