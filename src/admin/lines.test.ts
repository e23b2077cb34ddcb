import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { LineCutter } from "./lines.ts";

const cut = (text: Buffer, cuts: readonly number[], lineBytesMax = 1000): (string | null)[] => {
  const cutter = new LineCutter(lineBytesMax);
  const at = [0, ...[...cuts].sort((a, b) => a - b), text.length];
  const lines = at.slice(1).flatMap((to, i) => cutter.push(text.subarray(at[i], to)));
  return [...lines, ...cutter.end()].map((line) => (line === "too_long" ? null : line.toString()));
};

describe("cutting lines", () => {
  it("gives the same lines wherever the network cuts", () => {
    const piece = fc.constantFrom("a", "é", "\n", "\r\n", " ", '{"x":1}', "\t", "long long line");
    const text = fc.array(piece, { maxLength: 40 }).map((pieces) => Buffer.from(pieces.join("")));
    fc.assert(
      fc.property(text, fc.array(fc.nat(), { maxLength: 10 }), (bytes, cuts) => {
        const expected = bytes
          .toString()
          .split("\n")
          .filter((line) => !/^[ \t\r]*$/.test(line));
        const inside = cuts.map((at) => (bytes.length === 0 ? 0 : at % bytes.length));
        expect(cut(bytes, inside)).toEqual(expected);
      }),
    );
  });

  it("reports a line that is too long once, and keeps the lines around it", () => {
    const long = "x".repeat(11);
    for (const cuts of [[], [2, 9], [4, 5, 6, 7, 8]]) {
      expect(cut(Buffer.from(`a\n${long}\nb\n${"y".repeat(10)}\n${long}`), cuts, 10)).toEqual([
        "a",
        null,
        "b",
        "y".repeat(10),
        null,
      ]);
    }
  });

  it("holds nothing of a line that is too long", () => {
    const cutter = new LineCutter(10);
    const chunk = Buffer.alloc(1_000_000, "x");
    const before = process.memoryUsage().arrayBuffers;
    for (let i = 0; i < 200; i++) expect(cutter.push(Buffer.from(chunk))).toEqual([]);
    expect(cutter.end()).toEqual(["too_long"]);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(150_000_000);
  });
});
