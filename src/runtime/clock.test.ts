import { beforeEach, describe, expect, it } from "vitest";
import { CheckedClock, clockToleranceMs } from "./clock.ts";

describe("the checked clock", () => {
  const startMs = 1_750_000_000_000;
  let passedMs: number;
  let wallOffsetMs: number;
  let storeOffsetMs: number;
  let clock: CheckedClock;

  beforeEach(() => {
    passedMs = 5_000;
    wallOffsetMs = 0;
    storeOffsetMs = 0;
    clock = new CheckedClock({ wallMs: () => startMs + passedMs + wallOffsetMs, monotonicMs: () => passedMs });
  });

  /** Asks the store, which answers at once or after `roundTripMs`, having looked at its clock at the beginning. */
  const ask = (roundTripMs = 0): void => {
    const readMs = startMs + passedMs + storeOffsetMs;
    passedMs += roundTripMs;
    clock.observe(Math.floor(readMs), roundTripMs);
  };
  const aheadMs = (): number => clock.nowMs() - Math.floor(startMs + passedMs);

  it("is not trusted before it has been compared", () => {
    expect(clock.trusted).toBe(false);
    expect(clock.everTrusted).toBe(false);
    ask();
    expect(clock.trusted).toBe(true);
  });

  it("without another clock it follows the machine's, and says by how much that was set", () => {
    expect(clock.follow()).toBe(0);
    expect([clock.trusted, clock.everTrusted]).toEqual([true, true]);
    passedMs += 1_000;
    expect(clock.follow()).toBe(0);
    wallOffsetMs = 3_600_000;
    passedMs += 400;
    expect(aheadMs()).toBe(0);
    expect(clock.follow()).toBe(3_600_000);
    expect(aheadMs()).toBe(3_600_000);
    wallOffsetMs = -50;
    expect(clock.follow()).toBe(-3_600_050);
    expect(aheadMs()).toBe(-50);
  });

  it("goes on evenly when the wall clock is set, and nothing is sent until both agree again", () => {
    ask();
    wallOffsetMs = 3_600_000;
    passedMs += 400;
    expect(aheadMs()).toBe(0);
    ask();
    expect(clock.problem).toBe("this machine's clock and the store's clock differ by 3600000 ms, more than 500 ms");
    expect(clock.everTrusted).toBe(true);
    expect(aheadMs()).toBe(0);
    wallOffsetMs = 0;
    ask();
    expect(clock.problem).toBeUndefined();
  });

  it.each([
    ["ahead", clockToleranceMs],
    ["behind", -clockToleranceMs],
  ])("takes the earlier of the two while they are near each other: the store is %s", (_, offsetMs) => {
    storeOffsetMs = offsetMs;
    ask();
    expect(clock.trusted).toBe(true);
    expect(aheadMs()).toBe(Math.min(0, offsetMs));
    expect(clock.skewMs).toBe(-offsetMs);
    storeOffsetMs += Math.sign(offsetMs);
    ask();
    expect(clock.trusted).toBe(false);
  });

  it("is not moved by a slow answer that may be right", () => {
    ask();
    ask(400);
    expect(aheadMs()).toBe(0);
    ask(30_000);
    expect(aheadMs()).toBe(0);
    expect(clock.trusted).toBe(true);
  });

  it("is set back to what an answer allows when that says something else", () => {
    ask();
    storeOffsetMs = -200;
    ask(100);
    expect(clock.trusted).toBe(true);
    expect(aheadMs()).toBe(-300);
    ask(2);
    expect(aheadMs()).toBe(-202);
  });

  it("is not set back by the seconds that an answer took; it waits for a quick one", () => {
    ask();
    storeOffsetMs = -900;
    wallOffsetMs = -900;
    ask(clockToleranceMs + 1);
    expect(clock.problem).toBe("the store took 501 ms to say its time, too long to set this machine's by it");
    expect(aheadMs()).toBe(0);
    ask(1);
    expect(clock.problem).toBeUndefined();
    expect(aheadMs()).toBe(-901);
  });
});
