import { describe, expect, it } from "vitest";
import { presets } from "../../src/retry/presets.ts";
import { type Contender, type Course, contenders, liveThrough, liveThroughAsWeDo, outage } from "./outage.ts";
import { type EngineCourse, liveThroughWithEngine } from "./outage-engine.ts";

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

describe("RT-12: an outage with the engine's breaker, parking and release", () => {
  it("of 10 minutes and 100,000 messages: none dies, 99 % are through 120 s after the return, with 5 calls at most", async () => {
    const ours = await liveThroughAsWeDo(outage);
    expect(ours.engine.succeeded).toBe(outage.messages);
    expect(ours.dead + ours.failed16Times).toBe(0);
    expect(ours.drained99Ms).toBeLessThanOrEqual(120_000);
    expect(ours.callsPerMessage).toBeLessThanOrEqual(5);
    // Nobody made a herd of it: what it can do, and what the ramp tries on top.
    expect(ours.peakPerSecond).toBeLessThan(1.5 * outage.capacityPerSecond);
  }, 180_000);

  it("of an hour, whatever moment it ends at and however small the dependency is", async () => {
    for (const [lateMs, part, drainedMs, callsMax] of [
      [0, 0.2, 120_000, 5],
      [3_000, 0.1, 120_000, 5],
      // 2,000 messages, 30 calls a second: the probes of an hour alone are 3.6 for each message, and a ramp from 100 takes
      // longer to find its rate.
      [7_000, 0.02, 300_000, 7],
    ] as const) {
      const messages = outage.messages * part;
      const ours = await liveThroughAsWeDo({
        ...outage,
        messages,
        capacityPerSecond: outage.capacityPerSecond * part,
        fleetPerSecond: outage.fleetPerSecond * part,
        downMs: 3_600_000 + lateMs,
        seed: 2,
      });
      expect(ours.engine.succeeded).toBe(messages);
      expect(ours.dead + ours.failed16Times).toBe(0);
      expect(ours.drained99Ms, `${part}`).toBeLessThanOrEqual(drainedMs);
      expect(ours.callsPerMessage, `${part}`).toBeLessThanOrEqual(callsMax);
    }
  }, 180_000);
});

describe("RT-13: a dependency that comes and goes", () => {
  const policy = presets.find(({ name }) => name === "default")!.policy;
  const flapping = (upMs: number, downMs: number): Promise<EngineCourse> =>
    liveThroughWithEngine(policy, {
      messages: 20_000,
      // Up and down for half an hour, then well.
      isUp: (nowMs) => nowMs > 1_800_000 || nowMs % (upMs + downMs) > downMs,
      capacityPerSecond: 1_500,
      fleetPerSecond: 5_000,
      workers: 6,
      seed: 3,
      untilMs: 3_600_000,
    });

  it.each([
    [3_000, 5_000],
    [10_000, 10_000],
    [45_000, 30_000],
    [2_000, 60_000],
  ])(
    "is asked ever more seldom, up %i ms and down %i ms: nothing dies, and no storm of failures",
    async (up, down) => {
      const { succeeded, dead, calls, states } = await flapping(up, down);
      expect({ succeeded, dead }).toEqual({ succeeded: 20_000, dead: 0 });
      expect(calls / succeeded).toBeLessThan(3);
      // 30 minutes of flapping; without the doubling waits it fell some hundred times.
      expect(states.filter(({ state }) => state === "ramping").length).toBeLessThan(60);
    },
    60_000,
  );
});
