import { describe, expect, it } from "vitest";
import { cutEverywhere, damageEverywhere } from "./testing/eventful-day.ts";
import { liveRandomDay } from "./testing/random-day.ts";
import { message, Stage } from "./testing/stage.ts";

/** What deliveries.test.ts and progress-journal.test.ts look at briefly, for longer. */
const seeds = (count: number) => Array.from({ length: count }, (_, i) => 1_000 + i);

describe("many random days", () => {
  it("lose nothing, are never early, never repeat the acknowledged, count by one, keep groups in order", async () => {
    for (const seed of seeds(150)) await liveRandomDay(seed, 300);
  });
});

describe("many journals", () => {
  it("cut anywhere: exactly what was not acknowledged comes again", async () => {
    for (const seed of seeds(10)) await cutEverywhere(seed);
  });

  it("damaged anywhere: nothing is lost", async () => {
    for (const seed of seeds(10)) await damageEverywhere(seed);
  });
});

describe("the journal's size", () => {
  it("stays small however much is delivered, and what is old goes", async () => {
    const stage = new Stage();
    let most = 0;
    for (let round = 0; round < 500; round++) {
      await stage.store.append(
        "t",
        0,
        Array.from({ length: 500 }, (_, i) => message(`${round}/${i}`, "t")),
      );
      await stage.ack(await stage.pop({ max: 500 }));
      const { firstPosition, endPosition } = stage.journal;
      most = Math.max(most, endPosition - firstPosition);
    }
    expect(stage.journal.endPosition).toBeGreaterThan(6 << 20);
    expect(most).toBeLessThan(3 << 19);
    stage.start();
    expect(await stage.ids()).toEqual([]);
    expect(stage.deliveries.progress("g", "t").queues[0]).toMatchObject({ done: 250_000, next: 250_000 });
  });
});
