import { describe, expect, it } from "vitest";
import { durationMs, hour } from "../message/time.ts";
import { silentLog } from "../runtime/log.ts";
import { DeadKeeping } from "./keeping.ts";
import { DeadWorld, seededRandom } from "./testing.ts";

describe("how long the dead are kept", () => {
  it("as long as their policy says and no less, counted and in the audit; without one until somebody decides", async () => {
    const world = new DeadWorld();
    let removed = 0;
    const keeping = new DeadKeeping({
      store: world.store,
      documents: world.documents,
      clock: world.clock,
      random: seededRandom(3),
      log: silentLog,
      owned: () => [0, 1, 2, 3],
      keepMsOf: async ({ message }) => (message?.topic === "orders" ? durationMs(2 * hour) : undefined),
      removed: (count) => {
        removed += count;
      },
    });
    const pass = async (): Promise<void> => {
      while ((await keeping.runOnce()) < hour);
    };
    await world.buryMany(450);
    const kept = await world.buryMany(50, { topic: "refunds" });
    world.nowMs += 2 * hour - 1;
    await pass();
    expect(removed).toBe(0);
    expect((await world.room.audit(undefined, 10)).items).toEqual([]);
    const young = await world.buryMany(5);
    world.nowMs += 1;
    await pass();
    expect(removed).toBe(450);
    const { items } = await world.room.list({}, 1_000, "default");
    expect(items.map(({ id }) => id).sort()).toEqual([...kept, ...young].sort());
    const audit = await world.room.audit(undefined, 10);
    expect(audit.items).toEqual([
      {
        at: "2027-01-15T10:00:00.000Z",
        action: "expire",
        by: "policy",
        reason: "kept as long as their policy says",
        what: "",
        count: 450,
      },
    ]);
  });
});
