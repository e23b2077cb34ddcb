import { expect, it } from "vitest";
import { progressLine } from "./progress.ts";

const halfway = { accepted: 20_997, rejected: 3, doneBytes: 500, totalBytes: 1_000, elapsedMs: 2_000 };

it("shows a bar, the counts, the rate and the time left", () => {
  expect(progressLine(halfway, 120)).toBe(
    "████████████░░░░░░░░░░░░  50 %  20,997 accepted  3 rejected  10,500/s  2 s left",
  );
});

it("has no bar and no end in sight for a pipe", () => {
  expect(progressLine({ ...halfway, totalBytes: undefined, rejected: 0 }, 120)).toBe("20,997 accepted  10,499/s");
});

it("never fills a line, and copes with a file that grew and with no time passed", () => {
  expect(progressLine(halfway, 20)).toHaveLength(19);
  expect(progressLine({ ...halfway, doneBytes: 2_000, elapsedMs: 0 }, 120)).toContain("█ 100 %  20,997 accepted");
});
