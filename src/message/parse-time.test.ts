import fc from "fast-check";
import { describe, expect, it, test } from "vitest";
import { isEscapementError } from "./errors.ts";
import { delayLevelsMs, parseDuration, parseInstant } from "./parse-time.ts";
import { epochMsMax } from "./time.ts";

const codeOf = (act: () => unknown): string => {
  try {
    act();
  } catch (error) {
    if (isEscapementError(error)) return error.code;
    throw error;
  }
  return "accepted";
};

describe("instants", () => {
  test.each([
    ["2030-01-01T00:00:00Z", Date.UTC(2030, 0, 1)],
    ["2030-01-01t00:00:00z", Date.UTC(2030, 0, 1)],
    ["2030-01-01T09:00:00+08:00", Date.UTC(2030, 0, 1, 1)],
    ["2029-12-31T20:30:00-03:30", Date.UTC(2030, 0, 1)],
    ["2030-01-01T00:00:00-00:00", Date.UTC(2030, 0, 1)],
    ["2030-01-01T00:00:00.5Z", Date.UTC(2030, 0, 1) + 500],
    ["2030-01-01T00:00:00.123456789Z", Date.UTC(2030, 0, 1) + 124],
    ["2030-01-01T00:00:00.123000000Z", Date.UTC(2030, 0, 1) + 123],
    ["2029-12-31T23:59:59.999000001Z", Date.UTC(2030, 0, 1)],
    ["2028-02-29T00:00:00Z", Date.UTC(2028, 1, 29)],
    ["2000-02-29T00:00:00Z", Date.UTC(2000, 1, 29)],
    ["1970-01-01T00:00:00Z", 0],
    ["1969-12-31T23:30:00-01:00", 30 * 60_000],
    ["9999-12-31T23:59:59.999Z", epochMsMax],
  ])("%s", (text, expected) => {
    expect(parseInstant(text)).toBe(expected);
  });

  test.each([
    "",
    "now",
    "tomorrow",
    "2030-01-01",
    "2030-01-01T00:00:00",
    "2030-01-01T00:00Z",
    "2030-01-01 00:00:00Z",
    "2030-1-1T00:00:00Z",
    "2030-00-01T00:00:00Z",
    "2030-13-01T00:00:00Z",
    "2030-01-00T00:00:00Z",
    "2030-01-32T00:00:00Z",
    "2030-02-29T00:00:00Z",
    "2100-02-29T00:00:00Z",
    "2030-04-31T00:00:00Z",
    "2030-01-01T24:00:00Z",
    "2030-01-01T00:60:00Z",
    "2030-01-01T00:00:61Z",
    "2016-12-31T23:59:60Z",
    "2030-01-01T00:00:00.Z",
    "2030-01-01T00:00:00.1234567890Z",
    "2030-01-01T00:00:00,5Z",
    "2030-01-01T00:00:00+24:00",
    "2030-01-01T00:00:00+08:60",
    "2030-01-01T00:00:00+0800",
    "2030-01-01T00:00:00+08",
    "2030-01-01T00:00:00Z ",
    " 2030-01-01T00:00:00Z",
    "2030-01-01T00:00:00ZZ",
    "2030-01-01T00:00:00Z[Europe/Berlin]",
    "+2030-01-01T00:00:00Z",
    "12030-01-01T00:00:00Z",
    "1969-12-31T23:59:59Z",
    "0099-01-01T00:00:00Z",
    "9999-12-31T23:59:59-00:01",
    "9999-12-31T23:59:59.9999Z",
    "1893456000000",
    "２０３０-01-01T00:00:00Z",
    -1,
    0,
    1_893_456_000,
    99_999_999_999,
    1_893_456_000_000.5,
    Number.NaN,
    Number.POSITIVE_INFINITY,
    1e300,
    epochMsMax + 1,
  ])("%s is refused", (input) => {
    expect(codeOf(() => parseInstant(input))).toBe("invalid_time");
  });

  test.each([null, undefined, true, {}, [], ["2030-01-01T00:00:00Z"], 5n])("%s has the wrong type", (input) => {
    expect(codeOf(() => parseInstant(input))).toBe("invalid_field");
  });

  it("says that a small number looks like seconds, and names the field", () => {
    expect(() => parseInstant(1_893_456_000, "expireAfter")).toThrow(/expireAfter: 1893456000 looks like seconds/);
  });

  it("agrees with Date on every instant that Date can print", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: epochMsMax }), (ms) => {
        expect(parseInstant(new Date(ms).toISOString())).toBe(ms);
      }),
    );
  });

  it("is never early: an instant with nanoseconds and an offset becomes the first millisecond not before it", () => {
    const instant = fc.record({
      second: fc.integer({ min: 200_000, max: 250_000_000_000 }),
      nanos: fc.integer({ min: 0, max: 999_999_999 }),
      digits: fc.integer({ min: 1, max: 9 }),
      offset: fc.integer({ min: -1439, max: 1439 }),
    });
    fc.assert(
      fc.property(instant, ({ second, nanos, digits, offset }) => {
        const fraction = String(nanos).padStart(9, "0").slice(0, digits);
        const local = new Date(second * 1000 + offset * 60_000).toISOString().slice(0, 19);
        const sign = offset < 0 ? "-" : "+";
        const hh = String(Math.trunc(Math.abs(offset) / 60)).padStart(2, "0");
        const mm = String(Math.abs(offset) % 60).padStart(2, "0");
        const exactNanos = BigInt(second) * 1_000_000_000n + BigInt(fraction.padEnd(9, "0"));
        const parsed = BigInt(parseInstant(`${local}.${fraction}${sign}${hh}:${mm}`));
        expect(parsed * 1_000_000n >= exactNanos && (parsed - 1n) * 1_000_000n < exactNanos).toBe(true);
      }),
    );
  });

  it("takes no calendar day that does not exist", () => {
    const two = fc.integer({ min: 0, max: 99 });
    fc.assert(
      fc.property(fc.integer({ min: 1970, max: 9998 }), two, two, (year, month, dayOfMonth) => {
        const text = `${year}-${String(month).padStart(2, "0")}-${String(dayOfMonth).padStart(2, "0")}T12:00:00Z`;
        const real = new Date(text);
        const exists = !Number.isNaN(real.getTime()) && real.getUTCDate() === dayOfMonth;
        expect(codeOf(() => parseInstant(text))).toBe(exists ? "accepted" : "invalid_time");
      }),
    );
  });
});

describe("durations", () => {
  test.each<[string | number, number]>([
    [0, 0],
    [1500, 1500],
    ["30m", 1_800_000],
    ["1h30m", 5_400_000],
    ["1.5h", 5_400_000],
    ["90s", 90_000],
    ["250ms", 250],
    ["2d", 172_800_000],
    ["1w", 604_800_000],
    ["1w2d3h4m5s6ms", 604_800_000 + 172_800_000 + 10_800_000 + 240_000 + 5_000 + 6],
    ["1h0.5s", 3_600_500],
    ["0s", 0],
    ["0.0001s", 1],
    ["0.1ms", 1],
    ["1.000000001h", 3_600_001],
    ["PT30M", 1_800_000],
    ["P1DT2H", 93_600_000],
    ["P1W", 604_800_000],
    ["PT0.5S", 500],
    ["PT1H0.123456789S", 3_600_124],
    ["PT36H", 129_600_000],
    ["P0D", 0],
    ["level:1", 1_000],
    ["level:5", 60_000],
    ["level:18", 7_200_000],
  ])("%s", (input, expected) => {
    expect(parseDuration(input)).toBe(expected);
  });

  test.each([
    "",
    " ",
    "30",
    "m",
    "30 m",
    "30M",
    "30min",
    "30m ",
    "1h30",
    "30m1h",
    "1h1h",
    "1.h",
    ".5h",
    "1.5h30m",
    "1,5h",
    "1e3s",
    "-5s",
    "+5s",
    "0x10s",
    "1y",
    "P",
    "PT",
    "P1DT",
    "P1Y",
    "P1M",
    "P1Y2M",
    "PT1D",
    "P1H",
    "-PT5M",
    "P-1D",
    "pt30m",
    "PT30",
    "PT1S1M",
    "P1D2H",
    "level:0",
    "level:19",
    "level:01",
    "level:",
    "level:1.5",
    "level:-1",
    "Infinity",
    "NaN",
    "٣m",
    "30m\0",
    `${"9".repeat(16)}s`,
    `${"1m".repeat(50_000)}`,
    "2030-01-01T00:00:00Z",
    -1,
    0.5,
    Number.NaN,
    Number.POSITIVE_INFINITY,
    Number.NEGATIVE_INFINITY,
  ])("%s is refused", (input) => {
    expect(codeOf(() => parseDuration(input))).toBe("invalid_time");
  });

  test.each([null, undefined, false, {}, [], [5]])("%s has the wrong type", (input) => {
    expect(codeOf(() => parseDuration(input))).toBe("invalid_field");
  });

  test.each([1e300, Number.MAX_SAFE_INTEGER, "999999999999999w", "99999999d"])("%s is too long", (input) => {
    expect(codeOf(() => parseDuration(input))).toBe("delay_too_long");
  });

  it("knows RocketMQ's eighteen levels in order", () => {
    expect(delayLevelsMs).toHaveLength(18);
    expect([...delayLevelsMs].sort((a, b) => a - b)).toEqual(delayLevelsMs);
  });

  it("is the sum of its parts, in both spellings", () => {
    const part = fc.integer({ min: 0, max: 999 });
    fc.assert(
      fc.property(part, part, part, part, (d, h, m, s) => {
        const expected = ((d * 24 + h) * 60 + m) * 60_000 + s * 1000;
        expect(parseDuration(`${d}d${h}h${m}m${s}s`)).toBe(expected);
        expect(parseDuration(`P${d}DT${h}H${m}M${s}S`)).toBe(expected);
      }),
    );
  });

  it("never rounds down", () => {
    const units = { ms: 1n, s: 1000n, m: 60_000n, h: 3_600_000n, d: 86_400_000n, w: 604_800_000n };
    const unit = fc.constantFrom(...(Object.keys(units) as (keyof typeof units)[]));
    const fraction = fc.integer({ min: 0, max: 999_999_999 });
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 1000 }), fraction, unit, (whole, nanos, name) => {
        const exact = (BigInt(whole) * 1_000_000_000n + BigInt(nanos)) * units[name];
        const parsed = BigInt(parseDuration(`${whole}.${String(nanos).padStart(9, "0")}${name}`)) * 1_000_000_000n;
        expect(parsed >= exact && parsed - exact < 1_000_000_000n).toBe(true);
      }),
    );
  });

  it("answers any text with a duration or a coded error", () => {
    const piece = fc.constantFrom("P", "T", "1", "0", ".", "m", "s", "h", "d", "w", "M", "S", "level:", "-", " ", "é");
    const text = fc.array(piece, { maxLength: 12 }).map((pieces) => pieces.join(""));
    fc.assert(
      fc.property(text, (input) => {
        for (const parse of [parseDuration, parseInstant]) {
          expect(["accepted", "invalid_time", "delay_too_long"]).toContain(codeOf(() => parse(input)));
        }
      }),
      { numRuns: 2000 },
    );
  });
});
