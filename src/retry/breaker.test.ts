import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { allowedPerSec, type BreakerState, closedBreaker, nextChangeMs, step } from "./breaker.ts";
import { defaultBreaker as settings } from "./policy.ts";

const t0 = 1_800_000_000_000;

/** Lets a second pass at a time, with what a dependency answers to as many calls as it is given. */
class Day {
  state: BreakerState = closedBreaker(t0);
  nowMs = t0;
  readonly phases: string[] = ["closed"];

  calls(succeeded: number, failed: number, afterMs = 0): this {
    this.nowMs += afterMs;
    this.state = step(this.state, { succeeded, failed }, settings, this.nowMs);
    if (this.phases.at(-1) !== this.state.phase) this.phases.push(this.state.phase);
    return this;
  }

  /** `demand` calls a second are wanted; of those that go, so many fail. */
  seconds(count: number, demand: number, failed: (calls: number) => number): this {
    for (let i = 0; i < count; i++) {
      const allowed = allowedPerSec(this.state, settings) ?? demand;
      const made = Math.floor(Math.min(demand, allowed));
      const bad = Math.min(made, Math.round(failed(made)));
      this.calls(made - bad, bad, 1_000);
    }
    return this;
  }
}

const allFail = (calls: number): number => calls;
const noneFails = (): number => 0;

describe("closed", () => {
  it("opens when half of at least 20 calls in ten seconds failed, and not a call before", () => {
    expect(new Day().calls(10, 9).calls(0, 1, 500).state.phase).toBe("open");
    expect(new Day().calls(0, 19).state.phase).toBe("closed");
    expect(new Day().calls(11, 10).state.phase).toBe("closed");
    // The first ten are too long ago to count.
    expect(new Day().calls(0, 10).calls(0, 10, 10_001).state.phase).toBe("closed");
    expect(new Day().calls(0, 10).calls(0, 10, 8_000).state.phase).toBe("open");
  });

  it("of a busy dependency looks at rates: a hundred failures among thousands are none", () => {
    expect(new Day().seconds(60, 5_000, () => 100).phases).toEqual(["closed"]);
  });
});

describe("open and probing", () => {
  const broken = () => new Day().calls(0, 20);

  it("asks after ten seconds, and again every ten while the probes fail", () => {
    const day = broken();
    expect(nextChangeMs(day.state)).toBe(t0 + 10_000);
    day.calls(0, 0, 9_999);
    expect([day.state.phase, allowedPerSec(day.state, settings)]).toEqual(["open", 0]);
    day.calls(0, 0, 1);
    expect([day.state.phase, allowedPerSec(day.state, settings)]).toEqual(["probing", 2]);
    day.calls(1, 10, 2_000);
    expect(day.state.phase).toBe("open");
    expect(nextChangeMs(day.state)).toBe(t0 + 20_000);
  });

  it("goes on as soon as the outcome of the probes is certain", () => {
    const day = broken().calls(0, 0, 10_000).calls(10, 9, 500);
    expect(day.state.phase).toBe("probing");
    expect(day.calls(1, 0, 100).state.phase).toBe("ramping");
  });

  it("judges the few calls there are when the next round is due, and waits when there were none", () => {
    expect(broken().calls(0, 0, 10_000).calls(2, 1, 10_000).state.phase).toBe("ramping");
    expect(broken().calls(0, 0, 10_000).calls(1, 1, 10_000).state.phase).toBe("open");
    expect(broken().calls(0, 0, 10_000).calls(0, 0, 10_000).state.phase).toBe("probing");
  });

  it("late answers to calls made before it opened change nothing", () => {
    const day = broken();
    const { probeAtMs } = day.state;
    expect(day.calls(500, 500, 100).state).toMatchObject({ phase: "open", probeAtMs });
  });
});

describe("ramping", () => {
  const back = () => new Day().calls(0, 20).calls(0, 0, 10_000).calls(20, 0, 100);

  it("begins at 100 a second and takes 100 more each second that is used up", () => {
    const day = back();
    expect(allowedPerSec(day.state, settings)).toBe(100);
    day.seconds(9, 10_000, noneFails);
    expect(allowedPerSec(day.state, settings)).toBe(1_000);
  });

  it("does not run ahead of those who call: what is not used up does not grow", () => {
    const day = back().seconds(5, 60, noneFails);
    expect(allowedPerSec(day.state, settings)).toBe(100);
  });

  it("falls a little below what succeeded when it was too much, and then goes up in small steps", () => {
    const limit = 750;
    const day = back().seconds(8, 10_000, (calls) => Math.max(0, calls - limit));
    const fallen = allowedPerSec(day.state, settings)!;
    const rates: number[] = [];
    let succeeded = 0;
    for (let i = 0; i < 60; i++) {
      day.seconds(1, 10_000, (calls) => Math.max(0, calls - limit));
      rates.push(allowedPerSec(day.state, settings)!);
      succeeded += Math.min(limit, rates.at(-1)!);
    }
    expect(fallen).toBeGreaterThan(limit * 0.8);
    expect(Math.max(...rates)).toBeLessThan(limit * 1.5);
    expect(succeeded / 60).toBeGreaterThan(limit * 0.9);
    expect(day.state.phase).toBe("ramping");
  });

  it("closes once it has held nobody back for a window", () => {
    expect(back().seconds(9, 60, noneFails).state.phase).toBe("ramping");
    expect(back().seconds(11, 60, noneFails).phases).toEqual(["closed", "open", "probing", "ramping", "closed"]);
  });

  it("lets a dependency of which a third always fails come back all the way", () => {
    const day = back().seconds(30, 2_000, (calls) => calls / 3);
    expect(allowedPerSec(day.state, settings) ?? 2_000).toBeGreaterThanOrEqual(2_000);
    expect(day.phases).not.toContain("closed, open, probing, ramping, open");
  });

  it("opens at once when nothing succeeds any more, and when going slower did not help", () => {
    expect(back().seconds(3, 1_000, noneFails).seconds(1, 1_000, allFail).state.phase).toBe("open");
    const day = back()
      .seconds(3, 1_000, noneFails)
      .seconds(8, 1_000, (calls) => calls * 0.8);
    expect(day.state.phase).toBe("open");
  });

  it("RT-13: trusts one that comes and goes less each time, up to eight times the wait, until it stays well", () => {
    const day = back();
    const waits: number[] = [];
    for (let i = 0; i < 5; i++) {
      day.seconds(1, 1_000, allFail);
      waits.push(day.state.probeAtMs - day.nowMs);
      day.calls(0, 0, day.state.probeAtMs - day.nowMs).calls(20, 0, 100);
    }
    expect(waits).toEqual([20_000, 40_000, 80_000, 80_000, 80_000]);
    day.seconds(80, 50, noneFails);
    expect(day.state).toMatchObject({ phase: "closed", falls: 0 });
  });
});

it("RT-13: a short time of being well does not make up for a fall, a minute does", () => {
  const fallen = () => {
    const day = new Day().calls(0, 20).calls(0, 0, 10_000).calls(20, 0, 100).seconds(1, 1_000, allFail);
    return day.calls(0, 0, 20_000).calls(20, 0, 100).seconds(15, 50, noneFails);
  };
  const waitAfter = (wellFor: number): number => {
    const day = fallen().seconds(wellFor, 50, noneFails).seconds(11, 50, allFail);
    return day.state.probeAtMs - day.state.sinceMs;
  };
  expect(fallen().state.phase).toBe("closed");
  expect([waitAfter(5), waitAfter(70)]).toEqual([20_000, 10_000]);
});

describe("RT-24: a clock that jumps", () => {
  it("an hour back makes no wait longer than it ever was", () => {
    const day = new Day().calls(0, 20).calls(0, 0, -3_600_000);
    expect(nextChangeMs(day.state)).toBeLessThanOrEqual(day.nowMs + settings.probeEveryMs);
    expect(day.calls(0, 0, 10_000).calls(20, 0, 100).state.phase).toBe("ramping");
    const ramping = new Day().calls(0, 20).calls(0, 0, 10_000).calls(20, 0, 100).calls(0, 0, -3_600_000);
    expect(ramping.seconds(15, 50, noneFails).state.phase).toBe("closed");
  });

  it("whatever the clock did, one that is well is closed within two minutes, and one that is not is left alone", () => {
    const jumps = fc.array(
      fc.record({
        ms: fc.oneof(fc.integer({ min: 0, max: 20_000 }), fc.constantFrom(-3_600_000, 3_600_000, -1, -86_400_000)),
        succeeded: fc.integer({ min: 0, max: 300 }),
        failed: fc.integer({ min: 0, max: 300 }),
      }),
      { maxLength: 30 },
    );
    fc.assert(
      fc.property(jumps, (story) => {
        const day = new Day();
        for (const { ms, succeeded, failed } of story) day.calls(succeeded, failed, ms);
        const after = { state: day.state, nowMs: day.nowMs };
        day.seconds(190, 50, noneFails);
        expect(day.state.phase).toBe("closed");
        Object.assign(day, after);
        day.seconds(30, 50, allFail);
        expect(["open", "probing"]).toContain(day.state.phase);
      }),
      { numRuns: 300, seed: 24 },
    );
  });
});
