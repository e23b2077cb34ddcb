import { describe, expect, it } from "vitest";
import { type Contender, type Course, contenders, liveThrough, outage } from "./outage.ts";

// A tenth of everything: 10,000 messages, 150 calls a second that succeed, 500 that the fleet can make.
const small = { ...outage, messages: 10_000, capacityPerSecond: 150, fleetPerSecond: 500 };
const hour = { ...small, downMs: 3_600_000 };
const named = (name: string): Contender => contenders.find((contender) => contender.name.startsWith(name))!;
const course = (name: string, of = small): Course => liveThrough(named(name), of);

describe("after an outage", () => {
  it("without jitter the herd comes at the fleet's limit, with it far below", () => {
    expect(course("RocketMQ ladder").peakPerSecond).toBe(500);
    expect(course("exponential").peakPerSecond).toBe(500);
    expect(course("equal").peakPerSecond).toBeLessThan(75);
    expect(course("full").peakPerSecond).toBeLessThan(75);
  });

  it("no message dies of an hour under the default policy, although a limit of 16 retries would have ended many", () => {
    const kept = course("preset default", hour);
    expect(kept.dead).toBe(0);
    expect(course("equal", hour).failed16Times).toBeGreaterThan(0.9);
    const byCount: Contender = {
      name: "16 retries",
      policy: { ...named("equal").policy, limits: { maxAttempts: 17, maxCrashes: 17 } },
    };
    expect(liveThrough(byCount, hour).dead).toBeGreaterThan(0.5);
  });

  it("is the same course for the same seed, and everything is delivered or dead", () => {
    expect(course("decorrelated")).toEqual(course("decorrelated"));
    for (const contender of contenders) {
      const { dead, drained99Ms, callsPerMessage } = liveThrough(contender, small);
      expect({ dead, drained: drained99Ms !== undefined }).toEqual({ dead: 0, drained: true });
      expect(callsPerMessage).toBeGreaterThan(7);
      expect(callsPerMessage).toBeLessThan(40);
    }
  });
});
