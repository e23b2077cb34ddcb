import { describe, expect, it } from "vitest";
import { duration, fromNow, number, printable, table } from "./wording.ts";

describe("a length of time", () => {
  it.each([
    [0, "0 ms"],
    [1.25, "1.3 ms"],
    [999.4, "999 ms"],
    [1_000, "1 s"],
    [4_249, "4.2 s"],
    [60_000, "1 min"],
    [90_000, "1 min 30 s"],
    [3_599_999, "1 h"],
    [3_569_000, "59 min 29 s"],
    [5_400_000, "1 h 30 min"],
    [86_399_999, "1 d"],
    [90_000_000, "1 d 1 h"],
  ])("of %d ms is %s", (ms, text) => {
    expect(duration(ms)).toBe(text);
  });
});

it("tells an instant from now", () => {
  const nowMs = Date.parse("2030-01-01T00:00:00Z");
  expect(fromNow("2030-01-01T00:30:00Z", nowMs)).toBe("in 30 min");
  expect(fromNow("2029-12-31T23:59:55.800Z", nowMs)).toBe("4.2 s ago");
  expect(fromNow("2030-01-01T00:00:00.400Z", nowMs)).toBe("now");
  expect(fromNow("nonsense", nowMs)).toBe("");
});

it("shows control characters and direction overrides instead of obeying them", () => {
  expect(printable("a\u001b[2J\nü\u202e\u009b")).toBe("a\\u001b[2J\\u000aü\\u202e\\u009b");
});

it("lays numbers out to the right and words to the left", () => {
  expect(
    table([
      ["orders", 1_200, "x"],
      ["a", 7, "yy"],
    ]),
  ).toEqual(["orders  1,200  x", "a           7  yy"]);
  expect(number(1_234_567.4)).toBe("1,234,567.4");
});
