import { describe, it } from "vitest";
import { liveRandomDay } from "./testing/random-day.ts";

describe("random days of two groups", () => {
  it.each(Array.from({ length: 12 }, (_, i) => i + 1))(
    "lose nothing, are never early, never repeat the acknowledged, count by one, keep groups in order: seed %i",
    (seed) => liveRandomDay(seed, 120),
  );
});
