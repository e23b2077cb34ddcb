import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { TimingWheel } from "./timing-wheel.ts";

const hourMs = 3_600_000;
const yearMs = 365 * 24 * hourMs;
const year2262 = Date.UTC(2262, 3, 11, 23, 47, 16, 854); // where 64-bit nanoseconds end
const slotWidthsMs = [0, 1, 2, 3, 4, 5, 6].map((level) => 256 ** level);

/** All that is due, whatever cascadeMax is. */
function drain(wheel: TimingWheel, nowMs: number, callsMax = 10_000): number[] {
  const handles: number[] = [];
  for (let calls = 0; wheel.nextDueMs() <= nowMs; calls++) {
    expect(calls, "calls until all that is due came out").toBeLessThan(callsMax);
    wheel.advance(nowMs, (handle) => handles.push(handle), 1_000_000);
  }
  return handles;
}

/** What the wheel must be equal to: a plain list, sorted whenever it is asked. */
class SortedList {
  #entries: { handle: number; dueMs: number; order: number }[] = [];
  #order = 0;

  get size(): number {
    return this.#entries.length;
  }
  has(handle: number): boolean {
    return this.#entries.some((entry) => entry.handle === handle);
  }
  insert(handle: number, dueMs: number): void {
    this.#entries.push({ handle, dueMs, order: this.#order++ });
  }
  cancel(handle: number): boolean {
    const had = this.has(handle);
    this.#entries = this.#entries.filter((entry) => entry.handle !== handle);
    return had;
  }
  due(nowMs: number, max: number): number[] {
    return this.#entries
      .filter((entry) => entry.dueMs <= nowMs)
      .sort((a, b) => a.dueMs - b.dueMs || a.order - b.order)
      .slice(0, max)
      .map((entry) => entry.handle);
  }
  firstDueMs(): number {
    return this.#entries.reduce((first, entry) => Math.min(first, entry.dueMs), Infinity);
  }
}

// A time is a recipe relative to where the clock stands, so that shrinking keeps it meaningful.
type Recipe = (clockMs: number) => number;
const level = fc.integer({ min: 0, max: 6 });
const near = fc.integer({ min: -2, max: 2 });
const clampToSafe = (ms: number) => Math.min(Math.max(ms, -Number.MAX_SAFE_INTEGER), Number.MAX_SAFE_INTEGER);
const recipes: fc.Arbitrary<Recipe> = fc.oneof(
  { weight: 5, arbitrary: fc.integer({ min: -5, max: 5 }).map((d) => (clock: number) => clock + d) },
  { weight: 5, arbitrary: fc.integer({ min: -400, max: 1000 }).map((d) => (clock: number) => clock + d) },
  { weight: 3, arbitrary: fc.integer({ min: -70_000, max: 20_000_000 }).map((d) => (clock: number) => clock + d) },
  {
    // The edges of the slots around the clock, at every level.
    weight: 6,
    arbitrary: fc.tuple(level, fc.integer({ min: -1, max: 3 }), near).map(([l, turns, d]) => (clock: number) => {
      const width = slotWidthsMs[l] as number;
      return (Math.floor(clock / width) + turns) * width + d;
    }),
  },
  {
    // The edges of 31 and 32 bits.
    weight: 3,
    arbitrary: fc.tuple(fc.integer({ min: 0, max: 3 }), near).map(([turns, d]) => (clock: number) => {
      return (Math.floor(clock / 2 ** 31) + turns) * 2 ** 31 + d;
    }),
  },
  { weight: 1, arbitrary: fc.constantFrom(hourMs, yearMs, 10 * yearMs).map((d) => (clock: number) => clock + d) },
  {
    weight: 1,
    arbitrary: fc.constantFrom(0, 1, -1, year2262, -yearMs, Number.MAX_SAFE_INTEGER).map((ms) => () => ms),
  },
);
const start = fc.oneof(
  fc.constantFrom(0, 1, 255, 256, 1_790_000_000_000, year2262 - 5, 2 ** 31 - 3, 2 ** 32 - 3, 2 ** 40 - 3),
  fc.tuple(level, fc.integer({ min: 1, max: 30 }), near).map(([l, n, d]) => (slotWidthsMs[l] as number) * n + d + 2),
  fc.integer({ min: 0, max: 2 ** 42 }),
);

const handlesInTests = 24;
const handleOf = fc.integer({ min: 0, max: handlesInTests - 1 });
type Step =
  | { readonly do: "insert" | "move"; readonly handle: number; readonly due: Recipe }
  | { readonly do: "cancel"; readonly handle: number }
  | { readonly do: "advance"; readonly to: Recipe; readonly max: number; readonly array: boolean }
  | { readonly do: "advanceToNext" };
const steps: fc.Arbitrary<Step> = fc.oneof(
  { weight: 8, arbitrary: fc.record({ do: fc.constant("insert" as const), handle: handleOf, due: recipes }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("move" as const), handle: handleOf, due: recipes }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("cancel" as const), handle: handleOf }) },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant("advance" as const),
      to: recipes,
      max: fc.constantFrom(0, 1, 2, 3, 100),
      array: fc.boolean(),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("advanceToNext" as const) }) },
);

function liveThrough(startMs: number, cascadeMax: number | undefined, life: readonly Step[]): void {
  const wheel = new TimingWheel({
    startMs,
    capacity: handlesInTests,
    ...(cascadeMax === undefined ? {} : { cascadeMax }),
  });
  const model = new SortedList();
  let clockMs = startMs;
  const advance = (nowMs: number, max: number, array: boolean) => {
    const expected = model.due(nowMs, max);
    const got: number[] = [];
    if (array) {
      const out = new Int32Array(50).fill(-1);
      const taken = wheel.advance(nowMs, out, max);
      got.push(...out.subarray(0, taken));
      expect(out.subarray(taken).every((left) => left === -1)).toBe(true);
    } else {
      expect(wheel.advance(nowMs, (handle) => got.push(handle), max)).toBe(got.length);
    }
    if (cascadeMax !== undefined && got.length < expected.length) {
      // Out of breath in the middle of a cascade: it must say so, and what did come out must be right.
      expect(wheel.nextDueMs()).toBeLessThanOrEqual(nowMs);
      expect(got).toEqual(expected.slice(0, got.length));
    } else {
      expect(got).toEqual(expected);
      if (got.length < max) expect(wheel.nextDueMs() > nowMs || cascadeMax !== undefined).toBe(true);
    }
    for (const handle of got) model.cancel(handle);
    clockMs = nowMs;
  };

  for (const step of life) {
    if (step.do === "advance") {
      advance(clampToSafe(step.to(clockMs)), step.max, step.array);
    } else if (step.do === "advanceToNext") {
      const nextMs = wheel.nextDueMs();
      if (nextMs !== Infinity) advance(nextMs, 100, false);
    } else if (step.do === "cancel") {
      expect(wheel.cancel(step.handle)).toBe(model.cancel(step.handle));
    } else {
      const dueMs = clampToSafe(step.due(clockMs));
      if (step.do === "insert" && model.has(step.handle)) {
        expect(() => wheel.insert(step.handle, dueMs)).toThrow("waits already");
        continue;
      }
      if (step.do === "move") model.cancel(step.handle);
      model.insert(step.handle, dueMs);
      wheel[step.do](step.handle, dueMs);
      expect(wheel.dueOf(step.handle)).toBe(dueMs);
    }
    expect(wheel.size).toBe(model.size);
    const nextMs = wheel.nextDueMs();
    expect(nextMs).toBeLessThanOrEqual(model.firstDueMs());
    expect(nextMs === Infinity).toBe(model.size === 0);
    for (let handle = 0; handle < handlesInTests; handle++) expect(wheel.has(handle)).toBe(model.has(handle));
  }
  expect(drain(wheel, Number.MAX_SAFE_INTEGER)).toEqual(model.due(Number.MAX_SAFE_INTEGER, Infinity));
  expect(wheel.size).toBe(0);
}

describe("against a sorted list, whatever happens in whatever order", () => {
  const lives = fc.array(steps, { minLength: 5, maxLength: 80 });

  test("a wheel that cascades whole slots", () => {
    fc.assert(
      fc.property(start, lives, (startMs, life) => liveThrough(startMs, undefined, life)),
      { numRuns: 400 },
    );
  });

  test("a wheel that cascades a slot over several calls", () => {
    fc.assert(fc.property(start, fc.integer({ min: 1, max: 3 }), lives, liveThrough), { numRuns: 400 });
  });

  test("many entries, few milliseconds: the order of insertion holds through every cascade", () => {
    fc.assert(
      fc.property(
        start,
        fc.array(fc.tuple(recipes, fc.integer({ min: 0, max: 3000 })), { minLength: 1, maxLength: 6 }),
        fc.array(fc.tuple(fc.nat(5), fc.boolean()), { minLength: 50, maxLength: 300 }),
        (startMs, targets, arrivals) => {
          const wheel = new TimingWheel({ startMs, capacity: 300 });
          const model = new SortedList();
          const dues = targets.map(([recipe]) => clampToSafe(recipe(startMs)));
          let nowMs = startMs;
          arrivals.forEach(([which, moveOn], handle) => {
            const [, strideMs] = targets[which % targets.length] as [Recipe, number];
            const dueMs = dues[which % dues.length] as number;
            wheel.insert(handle, dueMs);
            model.insert(handle, dueMs);
            if (!moveOn) return;
            nowMs += strideMs;
            const expected = model.due(nowMs, Infinity);
            expect(drain(wheel, nowMs)).toEqual(expected);
            for (const done of expected) model.cancel(done);
          });
          expect(drain(wheel, Number.MAX_SAFE_INTEGER)).toEqual(model.due(Number.MAX_SAFE_INTEGER, Infinity));
        },
      ),
      { numRuns: 200 },
    );
  });
});

describe("the wheel", () => {
  test("lives the example at the top of its file", () => {
    const wheel = new TimingWheel({ startMs: 0, capacity: 3 });
    const [a, b, c] = [0, 1, 2] as const;
    wheel.insert(a, 9);
    wheel.insert(b, 2 * 256 + 1);
    wheel.insert(c, 2 * 256 + 1);
    expect(drain(wheel, 256)).toEqual([a]);
    expect(wheel.nextDueMs()).toBe(2 * 256);
    expect(drain(wheel, 2 * 256)).toEqual([]);
    expect(wheel.nextDueMs()).toBe(2 * 256 + 1);
    expect(drain(wheel, 2 * 256 + 1)).toEqual([b, c]);
    expect(wheel.nextDueMs()).toBe(Infinity);
  });

  test("gives out one millisecond in the order of insertion, though some waited levels above the others", () => {
    const dueMs = 1_790_000_000_000;
    const wheel = new TimingWheel({ startMs: dueMs - yearMs, capacity: 8 });
    const distancesMs = [hourMs * 24, hourMs, 70_000, 300, 1, 0];
    distancesMs.forEach((distanceMs, handle) => {
      expect(drain(wheel, dueMs - distanceMs - 1)).toEqual([]);
      wheel.insert(handle, dueMs);
    });
    expect(drain(wheel, dueMs)).toEqual([0, 1, 2, 3, 4, 5]);
  });

  test("goes on where the last call stopped, in the middle of a millisecond", () => {
    const wheel = new TimingWheel({ startMs: 1000, capacity: 8 });
    for (let handle = 0; handle < 5; handle++) wheel.insert(handle, 2000);
    const out = new Int32Array(2);
    expect(wheel.advance(2000, out, 100)).toBe(2);
    expect([...out]).toEqual([0, 1]);
    wheel.insert(5, 2000);
    wheel.insert(6, 1999);
    expect(drain(wheel, 2000)).toEqual([6, 2, 3, 4, 5]);
  });

  test("gives out late entries by their due, not by their arrival", () => {
    const wheel = new TimingWheel({ startMs: 1_790_000_000_000, capacity: 8 });
    const agesMs = [5, yearMs, 5, 1, 0];
    agesMs.forEach((ageMs, handle) => {
      wheel.insert(handle, 1_790_000_000_000 - ageMs);
    });
    expect(wheel.nextDueMs()).toBe(1_790_000_000_000 - yearMs);
    expect(drain(wheel, 1_790_000_000_000)).toEqual([1, 0, 2, 3, 4]);
  });

  test("keeps the order of many late entries, whichever of them are canceled or moved", () => {
    const change = fc.tuple(fc.nat(299), fc.option(fc.integer({ min: 1, max: 1000 })));
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 1000 }), { minLength: 300, maxLength: 300 }),
        fc.array(change, { minLength: 50, maxLength: 150 }),
        (agesMs, changes) => {
          const nowMs = 1_790_000_000_000;
          const wheel = new TimingWheel({ startMs: nowMs, capacity: 300 });
          const model = new SortedList();
          agesMs.forEach((ageMs, handle) => {
            wheel.insert(handle, nowMs - ageMs);
            model.insert(handle, nowMs - ageMs);
          });
          for (const [handle, ageMs] of changes) {
            expect(wheel.cancel(handle)).toBe(model.cancel(handle));
            if (ageMs === null) continue;
            wheel.move(handle, nowMs - ageMs);
            model.insert(handle, nowMs - ageMs);
          }
          expect(drain(wheel, nowMs)).toEqual(model.due(nowMs, Infinity));
        },
      ),
      { numRuns: 50 },
    );
  });

  test("gives out nothing early when the clock goes back, not even what it was late for", () => {
    const wheel = new TimingWheel({ startMs: 10_000, capacity: 8 });
    expect(drain(wheel, 20_000)).toEqual([]);
    wheel.insert(0, 19_000);
    wheel.insert(1, 20_000);
    expect(drain(wheel, 18_999)).toEqual([]);
    expect(drain(wheel, 19_999)).toEqual([0]);
    expect(drain(wheel, 20_000)).toEqual([1]);
  });

  test("stays right after the clock was in the year 2262 for a moment", () => {
    const nowMs = 1_790_000_000_000;
    const wheel = new TimingWheel({ startMs: nowMs, capacity: 8 });
    expect(drain(wheel, year2262)).toEqual([]);
    wheel.insert(0, nowMs + 20);
    wheel.insert(1, nowMs + 10);
    wheel.insert(2, year2262 + 10);
    expect(drain(wheel, nowMs + 9)).toEqual([]);
    expect(wheel.nextDueMs()).toBe(nowMs + 10);
    expect(drain(wheel, nowMs + 20)).toEqual([1, 0]);
    expect(drain(wheel, year2262 + 9)).toEqual([]);
    expect(drain(wheel, year2262 + 10)).toEqual([2]);
  });

  test("takes a jump of a year in a few steps, full or empty", () => {
    // A step per millisecond would be 3 * 10^13 of them and outlast any test.
    const wheel = new TimingWheel({ startMs: 0, capacity: 8 });
    for (let year = 0; year < 1000; year++) {
      const baseMs = year * yearMs;
      wheel.insert(0, baseMs + hourMs);
      wheel.insert(1, baseMs + yearMs - 1);
      wheel.insert(2, baseMs + yearMs + 1);
      expect(drain(wheel, baseMs + yearMs, 2)).toEqual([0, 1]);
      wheel.cancel(2);
    }
  });

  test("nextDueMs needs at most one look per level to find the only entry", () => {
    fc.assert(
      fc.property(start, recipes, (startMs, recipe) => {
        const dueMs = clampToSafe(recipe(startMs));
        const wheel = new TimingWheel({ startMs, capacity: 1 });
        wheel.insert(0, dueMs);
        let looks = 0;
        while (wheel.size > 0) {
          expect(++looks).toBeLessThanOrEqual(7);
          const nextMs = wheel.nextDueMs();
          expect(wheel.advance(nextMs, () => {}, 1)).toBe(nextMs === dueMs ? 1 : 0);
        }
      }),
    );
  });

  test("cascades a crowded slot in bounded steps and keeps order with what arrives meanwhile", () => {
    const startMs = 2 ** 24 - 1;
    const wheel = new TimingWheel({ startMs, capacity: 300, cascadeMax: 10 });
    for (let handle = 0; handle < 100; handle++) wheel.insert(handle, 2 ** 24 + 1);
    const got: number[] = [];
    const nowMs = 2 ** 24 + 1;
    wheel.advance(nowMs, (handle) => got.push(handle), 1000);
    expect(got).toEqual([]);
    expect(wheel.nextDueMs()).toBe(2 ** 24);
    wheel.insert(100, 2 ** 24 + 1); // must not overtake the 90 that are still above
    wheel.insert(101, 2 ** 24); // before all others, though it comes last
    wheel.insert(102, 2 ** 24 - 1); // late
    wheel.cancel(50);
    const expected = Array.from({ length: 101 }, (_, handle) => handle).filter((handle) => handle !== 50);
    expect(drain(wheel, nowMs, 40)).toEqual([102, 101, ...expected]);
  });

  test("a half cascaded slot that is canceled empty leaves nothing behind", () => {
    const wheel = new TimingWheel({ startMs: 2 ** 16 - 1, capacity: 8, cascadeMax: 1 });
    wheel.insert(0, 2 ** 16 + 300);
    wheel.insert(1, 2 ** 16 + 300);
    expect(wheel.advance(2 ** 16, () => {}, 10)).toBe(0);
    wheel.cancel(0);
    wheel.cancel(1);
    expect(wheel.nextDueMs()).toBe(Infinity);
    wheel.insert(2, 2 ** 16 + 5);
    expect(drain(wheel, 2 ** 16 + 5)).toEqual([2]);
  });

  test("keeps everything, late entries too, until it is full", () => {
    const startMs = 1_790_000_000_000;
    const wheel = new TimingWheel({ startMs, capacity: 5000 });
    const model = new SortedList();
    for (let handle = 0; handle < 5000; handle++) {
      const dueMs = startMs + ((handle * 7919) % 100_003) - 20_000;
      wheel.insert(handle, dueMs);
      model.insert(handle, dueMs);
    }
    expect(drain(wheel, startMs + 100_003)).toEqual(model.due(Infinity, Infinity));
  });

  test("a visit may insert and cancel", () => {
    const wheel = new TimingWheel({ startMs: 0, capacity: 4 });
    wheel.insert(0, 5);
    wheel.insert(1, 5);
    wheel.insert(2, 6);
    const seen: number[] = [];
    wheel.advance(
      10,
      (handle) => {
        seen.push(handle);
        if (handle !== 0) return;
        wheel.cancel(1);
        wheel.insert(3, 7);
        wheel.insert(0, 11);
      },
      100,
    );
    expect(seen).toEqual([0, 2, 3]);
    expect(drain(wheel, 11)).toEqual([0]);
  });

  test("refuses what is not an integer or out of range, and changes nothing by it", () => {
    for (const wrong of [NaN, Infinity, -Infinity, 0.5, 2 ** 53]) {
      const wheel = new TimingWheel({ startMs: 10, capacity: 2 });
      wheel.insert(0, 20);
      expect(() => wheel.insert(1, wrong)).toThrow(RangeError);
      expect(() => wheel.move(0, wrong)).toThrow(RangeError);
      expect(() => wheel.advance(wrong, () => {}, 1)).toThrow(RangeError);
      expect(() => wheel.insert(wrong, 30)).toThrow(RangeError);
      expect(wheel.cancel(wrong)).toBe(false);
      expect(() => new TimingWheel({ startMs: wrong, capacity: 1 })).toThrow(RangeError);
      expect(() => new TimingWheel({ startMs: 1, capacity: wrong })).toThrow(RangeError);
      expect(() => new TimingWheel({ startMs: 1, capacity: 1, cascadeMax: wrong })).toThrow(RangeError);
      expect(wheel.size).toBe(1);
      expect(drain(wheel, 20)).toEqual([0]);
    }
    const wheel = new TimingWheel({ startMs: 10, capacity: 2 });
    expect(() => wheel.insert(2, 20)).toThrow("0..1");
    expect(() => wheel.insert(-1, 20)).toThrow(RangeError);
    expect(wheel.cancel(-1)).toBe(false);
    expect(wheel.cancel(1)).toBe(false);
    expect(() => new TimingWheel({ startMs: -1, capacity: 1 })).toThrow(RangeError);
  });
});
