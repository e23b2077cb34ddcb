import { describe, expect, it } from "vitest";
import type { DelayedMessage } from "../message/message.ts";
import { durationMs, hour } from "../message/time.ts";
import { parsePolicy } from "../retry/parse-policy.ts";
import { silentLog } from "../runtime/log.ts";
import { deadMessageOf } from "./dead-message.ts";
import { keepByPolicies } from "./keep-by-policies.ts";
import { DeadKeeping } from "./keeping.ts";
import { DeadWorld, seededRandom } from "./testing/dead-world.ts";

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

  it("by the version that decided a consumer's dead, by the topic's policy for sends, and not at all for the rest", async () => {
    const world = new DeadWorld();
    const asked: string[] = [];
    const keepMsOf = keepByPolicies(
      {
        asDecided: async ([reference]) => {
          asked.push(reference!);
          const policy = reference === "short@2" ? { dead: { keep: "1h" } } : null;
          return [{ name: "short", version: 2, policy }];
        },
      },
      { policyFor: (topic) => (topic === "refunds" ? { ...parsePolicy({ dead: { keep: "2d" } }) } : undefined) },
    );
    const keepOf = async (message: DelayedMessage) =>
      keepMsOf(deadMessageOf((await world.get(await world.bury(message)))!));
    expect(await keepOf(world.consumers({ policy: "short@2" }))).toBe(hour);
    expect(await keepOf(world.consumers({ policy: "short@2" }))).toBe(hour);
    expect(await keepOf(world.consumers({ policy: "gone@1" }))).toBeUndefined();
    // Of a policy that a program brought along the service knows nothing.
    expect(await keepOf(world.consumers({ policy: "inline@0" }))).toBeUndefined();
    expect(asked).toEqual(["short@2", "gone@1", "inline@0"]);
    expect(await keepOf(world.message({ topic: "refunds", attempt: 3 }))).toBe(48 * hour);
    expect(await keepOf(world.message({ attempt: 3 }))).toBeUndefined();
    // Buried on its way in: nobody's policy was asked.
    expect(await keepOf(world.message({ topic: "refunds" }))).toBeUndefined();
  });
});
