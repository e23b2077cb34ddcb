import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { HandleQueue } from "./handle-queue.ts";
import { Lane } from "./lane.ts";

const taken = (lane: Lane, count: number): number[] => {
  const handles: number[] = [];
  lane.take(count, (handle) => handles.push(handle));
  return handles;
};
const laneWith = (fresh: number, overdue = 0): Lane => {
  const lane = new Lane();
  for (let i = 0; i < fresh; i++) lane.push(i, true);
  for (let i = 0; i < overdue; i++) lane.push(100_000 + i, false);
  return lane;
};

describe("a queue of handles", () => {
  it("is a list, whatever is done in whatever order", () => {
    const step = fc.oneof(
      { weight: 3, arbitrary: fc.record({ do: fc.constant("push" as const), value: fc.nat() }) },
      { weight: 1, arbitrary: fc.record({ do: fc.constant("pushFront" as const), value: fc.nat() }) },
      { weight: 3, arbitrary: fc.record({ do: fc.constant("shift" as const), value: fc.nat() }) },
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 400 }), (steps) => {
        const queue = new HandleQueue();
        const list: number[] = [];
        for (const { do: what, value } of steps) {
          if (what === "push") list.push(value);
          if (what === "pushFront") list.unshift(value);
          if (what === "shift") expect(queue.shift()).toBe(list.shift() ?? -1);
          else queue[what](value);
          expect(queue.length).toBe(list.length);
        }
      }),
    );
  });
});

describe("a lane", () => {
  it("gives most of a turn to what just fell due, and always some to what is catching up", () => {
    const handles = taken(laneWith(1_000, 1_000), 100);
    expect(handles.filter((handle) => handle < 100_000)).toHaveLength(80);
    expect(handles.filter((handle) => handle >= 100_000)).toHaveLength(20);
    expect(taken(laneWith(1_000, 1_000), 1)).toEqual([100_000]);
    expect(taken(laneWith(3, 1_000), 100)).toHaveLength(100);
  });

  it("takes 512 a turn and has 2,048 out at most", () => {
    const lane = laneWith(10_000);
    for (const out of [512, 1_024, 1_536, 2_048]) {
      expect(lane.allowance(0)).toBe(512);
      taken(lane, 512);
      expect(lane.out).toBe(out);
    }
    expect(lane.allowance(0)).toBe(0);
    lane.settled(0);
    expect(lane.allowance(0)).toBe(1);
  });

  it("has fewer out when bodies are large", () => {
    const lane = laneWith(10_000);
    taken(lane, 200);
    for (let i = 0; i < 200; i++) lane.claimed(100_000);
    expect(lane.allowance(0)).toBe(0);
    for (let i = 0; i < 200; i++) lane.settled(100_000);
    expect(lane.allowance(0)).toBeGreaterThan(150);
    expect(lane.allowance(0)).toBeLessThan(200);
  });

  it("pauses longer and longer while its topic refuses, tries with eight, and is well again with one success", () => {
    const lane = laneWith(10_000);
    let nowMs = 1_000;
    const pausesMs: number[] = [];
    for (let i = 0; i < 9; i++) {
      lane.suspected(nowMs);
      lane.suspected(nowMs); // the other batches of the same failure
      expect(lane.allowance(nowMs)).toBe(0);
      pausesMs.push(lane.pausedUntilMs - nowMs);
      nowMs = lane.pausedUntilMs;
      expect(lane.allowance(nowMs)).toBe(8);
    }
    expect(pausesMs).toEqual([50, 100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000]);
    lane.succeeded();
    expect(lane.allowance(nowMs)).toBe(512);
  });

  it("gives back in front what could not be claimed", () => {
    const lane = laneWith(0, 3);
    const [first] = taken(lane, 1);
    lane.untake(1);
    lane.pushBack(first!);
    expect(taken(lane, 3)).toEqual([100_000, 100_001, 100_002]);
  });

  it("is idle only when nothing waits, nothing is out and nothing went wrong", () => {
    const lane = laneWith(1);
    expect(lane.idle).toBe(false);
    taken(lane, 1);
    expect(lane.idle).toBe(false);
    lane.settled(0);
    expect(lane.idle).toBe(true);
    lane.suspected(0);
    expect(lane.idle).toBe(false);
  });
});
