import { describe, expect, it } from "vitest";
import { MemoryDocumentStore } from "../adapters/memory/memory-document-store.ts";
import { day, epochMs, hour } from "../message/time.ts";
import { LaneHeads } from "./lane-heads.ts";

const world = () => {
  const time = { nowMs: Date.UTC(2027, 0, 1) };
  const documents = new MemoryDocumentStore();
  const heads = new LaneHeads({
    documents,
    clock: { nowMs: () => epochMs(time.nowMs), monotonicMs: () => time.nowMs },
  });
  const begins = async (delivery: number, id = "m", group = "g") =>
    (await heads.take(group, [{ id, delivery, state: "begins" }]))[0]!.crashes;
  const answered = (delivery: number, id = "m") => heads.take("g", [{ id, delivery, state: "answered" }]);
  const left = async () => (await documents.list("lane-head", { limit: 1_000 })).length;
  return { time, heads, begins, answered, left };
};

describe("heads of lanes", () => {
  it("count how often in a row one began and nobody heard of it, and asking again is no crash", async () => {
    const { begins, answered, left } = world();
    expect([await begins(2), await begins(2), await begins(3), await begins(5), await begins(5)]).toEqual([
      0, 0, 1, 2, 2,
    ]);
    expect([await begins(3, "other"), await begins(9, "m", "another group")]).toEqual([0, 0]);
    await answered(5);
    expect(await begins(6)).toBe(0);
    // Late, and of a run before this one.
    await answered(5);
    expect(await begins(7)).toBe(1);
    await answered(7);
    await answered(3, "other");
    expect(await left()).toBe(1);
  });

  it("are forgotten when nobody can be at it any more", async () => {
    const { time, heads, begins, left } = world();
    await begins(2);
    time.nowMs += 7 * day;
    await begins(2, "young");
    expect(await heads.runOnce()).toBe(hour);
    expect(await left()).toBe(2);
    time.nowMs += 1;
    await heads.runOnce();
    expect(await left()).toBe(1);
  });
});
