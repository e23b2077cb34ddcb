import { describe, expect, it } from "vitest";
import type { Held } from "./held.ts";
import { Lanes } from "./order.ts";

const held = (id: string, messageGroup: string): Held =>
  ({ id, ofRetryTopic: false, message: { topic: "t", messageGroup } }) as unknown as Held;

describe("lanes", () => {
  it("whose heads went elsewhere do not stay for ever", () => {
    const lanes = new Lanes("block-key");
    for (let i = 0; i < 10_000; i++) {
      const head = held(`${i}`, `group ${i}`);
      lanes.enter(head, i * 10);
      lanes.block(head, i * 10 + 1_000);
      expect(lanes.size).toBeLessThanOrEqual(1_001);
    }
  });

  it("that are blocked or in use stay, however many they are", () => {
    const lanes = new Lanes("block-key");
    const heads = Array.from({ length: 3_000 }, (_, i) => held(`${i}`, `group ${i}`));
    for (const head of heads) {
      lanes.enter(head, 0);
      if (Number(head.id) % 2 === 0) lanes.block(head, 5_000);
    }
    expect(lanes.size).toBe(3_000);
    expect(lanes.enter(held("follower", "group 0"), 1_000)).toBe(4_000);
    expect(lanes.enter(held("follower", "group 1"), 1_000)).toBe(false);
  });

  it("a follower that comes when the wait of its head is over opens the lane", () => {
    const lanes = new Lanes("block-key");
    const head = held("head", "g");
    lanes.enter(head, 0);
    lanes.block(head, 5_000);
    expect(lanes.enter(held("follower", "g"), 4_999)).toBe(1_000);
    expect(lanes.enter(held("follower", "g"), 5_000)).toBe(true);
  });
});
