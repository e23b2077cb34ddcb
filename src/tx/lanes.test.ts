import { describe, expect, it } from "vitest";
import { placesAsked, runnable, waves } from "./lanes.ts";

const place = (lane: number, row: number, inMs = 0, wasTried = true) => ({ lane, row, inMs, wasTried });

describe("what of a batch may be sent", () => {
  it("is every row without a lane, whatever happens in the lanes", () => {
    const { rows } = runnable(
      [
        { row: 5, lane: undefined },
        { row: 6, lane: 1 },
      ],
      [place(1, 2, 30_000), place(1, 6)],
    );
    expect(rows).toEqual([5]);
  });

  it("is nothing of a lane whose head waits for its next try, and says for how long", () => {
    const { rows, blocked } = runnable(
      [
        { row: 4, lane: 7 },
        { row: 9, lane: 7 },
      ],
      [place(7, 1, 30_000), place(7, 4), place(7, 9)],
    );
    expect(rows).toEqual([]);
    expect([...blocked]).toEqual([
      [4, 30_000],
      [9, 30_000],
    ]);
  });

  it("is a lane up to its first row that is not in the batch", () => {
    const batch = [8, 3, 2].map((row) => ({ row, lane: 8 }));
    const { rows, blocked } = runnable(batch, [place(8, 2), place(8, 3), place(8, 6, 400), place(8, 8)]);
    expect(rows).toEqual([2, 3]);
    expect([...blocked]).toEqual([[8, 400]]);
  });

  it("looks again soon when the head was never tried, though its grace is long: somebody is sending it", () => {
    const { blocked } = runnable([{ row: 4, lane: 7 }], [place(7, 1, 5_000, false), place(7, 4)]);
    expect([...blocked]).toEqual([[4, 200]]);
  });

  it("waits a moment for a head that is due and yet not in the batch: somebody has it", () => {
    expect([...runnable([{ row: 2, lane: 1 }], [place(1, 1, -5_000), place(1, 2)]).blocked]).toEqual([[2, 50]]);
  });

  it("takes what is being removed at this moment for gone", () => {
    expect(runnable([{ row: 2, lane: 1 }], [place(1, 1), place(1, 2)], new Set([1])).rows).toEqual([2]);
  });

  it("is nothing of a lane that the question was cut before", () => {
    expect(runnable([{ row: 2, lane: 9 }], []).rows).toEqual([]);
  });
});

it("asks for one place more than the batch holds of a lane, and for those that may be gone", () => {
  const batch = [1, 1, 2, undefined].map((lane) => ({ lane }));
  expect([...placesAsked(batch)]).toEqual([
    [1, 3],
    [2, 2],
  ]);
  expect(placesAsked(batch, 10).get(2)).toBe(12);
});

describe("waves", () => {
  it("hold one row of a lane each, in the order of the rows, and all others at once", () => {
    const rows = [
      { row: 5, lane: 1 },
      { row: 1, lane: 1 },
      { row: 2, lane: undefined },
      { row: 3, lane: 2 },
      { row: 4, lane: undefined },
    ];
    expect(waves(rows).map((wave) => wave.map(({ row }) => row))).toEqual([[1, 2, 3, 4], [5]]);
  });
});
