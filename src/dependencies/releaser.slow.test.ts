import { describe, expect, it } from "vitest";
import { bayOf, parkedAtMs, placeInBay } from "../message/bay.ts";
import { shardOf } from "../message/id.ts";
import { type EpochMs, epochMs } from "../message/time.ts";
import { firstBay } from "./bay-book.ts";
import { report, TestFleet } from "./testing.ts";

const key = "acct:1";
const syncing = (fleet: TestFleet, part: Parameters<typeof report>[1]) => () =>
  fleet.nodes.forEach(({ board }, i) => {
    board.sync(`w${i}`, [report(key, part)]);
  });

/** Broken, and known to be by everybody. */
const broken = async (nodes = 2): Promise<TestFleet> => {
  const fleet = new TestFleet(nodes);
  await fleet.pass(3, syncing(fleet, { failed: 20 }));
  return fleet;
};

describe("bays", () => {
  it("keep the order of parking and tell when it was, to a quarter of a second, for years", () => {
    for (const at of [Date.UTC(2026, 0, 1), Date.UTC(2027, 5, 3, 4, 5, 6, 789), Date.UTC(2044, 11, 31)]) {
      for (const bay of [0, 7, 65_535]) {
        const place = placeInBay(bay, epochMs(at));
        expect(bayOf(place)).toBe(bay);
        expect(new Date(place).getUTCFullYear()).toBeGreaterThanOrEqual(5_000);
        expect(at - parkedAtMs(place, epochMs(at + 3 * 86_400_000))).toBeGreaterThanOrEqual(0);
        expect(at - parkedAtMs(place, epochMs(at + 3 * 86_400_000))).toBeLessThan(256);
        expect(placeInBay(bay, epochMs(at + 256)) - place).toBe(1);
      }
    }
    expect(bayOf(epochMs(Date.UTC(4999, 11, 31)))).toBeUndefined();
  });

  it("belong to one key each, whoever asks first and however many ask at once", async () => {
    const fleet = new TestFleet(3);
    const keys = Array.from({ length: 400 }, (_, i) => `tenant ${i} 王`);
    const bays = await Promise.all(keys.flatMap((of) => fleet.nodes.map(({ bays: book }) => book.bayOf(of))));
    const byKey = keys.map((_, i) => new Set(bays.slice(i * 3, i * 3 + 3)));
    expect(byKey.every((found) => found.size === 1)).toBe(true);
    expect(new Set(bays).size).toBe(400);
    for (const [i, of] of keys.entries()) expect(await fleet.nodes[2]!.bays.keyOf(bays[i * 3]!)).toBe(of);
  });
});

describe("the releaser", () => {
  it("lets nothing out while it is open, then the probes, then ever more, each process its share", async () => {
    const fleet = await broken();
    await fleet.park(key, 4_000);
    await fleet.pass(6, syncing(fleet, {}));
    expect(fleet.released.length).toBe(0);
    await fleet.pass(7, syncing(fleet, {}));
    expect(fleet.released.length).toBeGreaterThanOrEqual(18);
    expect(fleet.released.length).toBeLessThanOrEqual(21);
    await fleet.pass(1, syncing(fleet, { succeeded: 8, retries: 8 }));
    const counts: number[] = [];
    let before = fleet.released.length;
    await fleet.pass(8, () => {
      counts.push(fleet.released.length - before);
      syncing(fleet, { succeeded: Math.floor((fleet.released.length - before) / 2) + 30, retries: 500 })();
      before = fleet.released.length;
    });
    expect(counts.at(-1)!).toBeGreaterThan(counts[2]!);
    const ofFirst = fleet.released.filter(({ node }) => node === "node-0").length / fleet.released.length;
    expect(ofFirst).toBeGreaterThan(0.4);
    expect(ofFirst).toBeLessThan(0.6);
  });

  it("leaves fresh calls their part of the ramp, and keeps a tenth for what waits", async () => {
    const fleet = await broken(1);
    await fleet.park(key, 500);
    await fleet.pass(11, syncing(fleet, {}));
    await fleet.pass(2, syncing(fleet, { succeeded: 12 }));
    const { board } = fleet.nodes[0]!;
    await fleet.pass(6, () => {
      const rate = board.find(key)!.shared!.breaker.ratePerSec;
      board.sync("w0", [report(key, { succeeded: Math.floor(rate) })]);
    });
    const rate = board.find(key)!.shared!.breaker.ratePerSec;
    const release = board.releaseOf(key) as { perSec: number };
    expect(rate).toBeGreaterThan(300);
    expect(release.perSec / rate).toBeGreaterThanOrEqual(0.1);
    expect(release.perSec / rate).toBeLessThan(0.4);
  });

  it("finds what is handed over after the breaker closed, and what another process parked", async () => {
    const fleet = new TestFleet(2);
    await fleet.pass(2, syncing(fleet, { succeeded: 5 }));
    await fleet.park(key, 40);
    await fleet.pass(4, syncing(fleet, { succeeded: 5 }));
    // A handler that parks for what is well must not get it back at once.
    expect(fleet.released.length).toBe(0);
    await fleet.pass(10, syncing(fleet, { succeeded: 5 }));
    expect(fleet.released.length).toBe(40);
    expect(await fleet.nodes[0]!.parked.of(key)).toBe(0);
  });

  it("takes over the shards of a process that is gone", async () => {
    const fleet = new TestFleet(2);
    await fleet.pass(1, syncing(fleet, { succeeded: 5 }));
    await fleet.park(key, 40);
    fleet.members.pop();
    await fleet.pass(16, () => void fleet.nodes[0]!.board.sync("w0", [report(key, { succeeded: 5 })]));
    expect(fleet.released.length).toBe(40);
  });

  it("lets a key that nobody reports any more out slowly, instead of keeping it for ever", async () => {
    const fleet = await broken();
    await fleet.park(key, 300);
    await fleet.pass(50);
    // Nothing but probes, which nobody makes.
    expect(fleet.released.length).toBeLessThanOrEqual(100);
    const probes = fleet.released.length;
    await fleet.pass(20);
    expect(fleet.released.length - probes).toBeGreaterThan(50);
    expect(fleet.released.length - probes).toBeLessThan(180);
    await fleet.pass(30);
    expect(fleet.released.length).toBe(300);
  });

  it("lets out after seven days whatever the breaker says, and not before", async () => {
    const fleet = await broken(1);
    const { board } = fleet.nodes[0]!;
    const open = () => ({
      state: "open" as const,
      sinceMs: fleet.nowMs,
      untilMs: fleet.nowMs + 7 * 86_400_000,
      reason: "r",
    });
    await board.force(key, open());
    await fleet.park(key, 30);
    fleet.nowMs += 6.99 * 86_400_000;
    await board.force(key, open());
    await fleet.park(key, 10);
    await fleet.pass(70, syncing(fleet, {}));
    expect(fleet.released.length).toBe(0);
    fleet.nowMs += 0.01 * 86_400_000;
    await fleet.pass(70, syncing(fleet, {}));
    expect(fleet.released.length).toBe(30);
  });

  it("never lets out what was canceled", async () => {
    const fleet = await broken(1);
    const messages = await fleet.park(key, 40);
    for (const { id } of messages.slice(0, 39)) {
      const [result] = await fleet.store.cancel(shardOf(id, 8), [id], epochMs(fleet.nowMs) as EpochMs);
      expect(result!.outcome).toBe("done");
    }
    await fleet.nodes[0]!.board.force(key, {
      state: "closed",
      sinceMs: fleet.nowMs,
      untilMs: fleet.nowMs + 60_000,
      reason: "r",
    });
    await fleet.pass(12, syncing(fleet, {}));
    expect(fleet.released.length).toBe(1);
  });

  it("lets out, and counts, nothing of the bay next door", async () => {
    const fleet = await broken(1);
    const { bays, board, parked } = fleet.nodes[0]!;
    const own = await bays.bayOf(key);
    let i = 0;
    while (firstBay(`tenant ${i}`) !== own - 1) i++;
    const neighbour = `tenant ${i}`;
    await fleet.park(key, 200);
    await fleet.park(neighbour, 20);
    expect((await bays.bayOf(neighbour)) + 1).toBe(own);
    await fleet.pass(12, () => void board.sync("w1", [report(neighbour, { succeeded: 1 })]));
    expect(await parked.of(neighbour)).toBe(0);
    // Its own are parked still, but for what its probes let out.
    expect(await parked.of(key)).toBe(200 - (fleet.released.length - 20));
    expect(fleet.released.length).toBeLessThanOrEqual(40);
    await fleet.park(key, 50);
    expect(await parked.of(neighbour)).toBe(0);
  });

  it("one tenant's thousands do not hold up another's few", async () => {
    const fleet = new TestFleet(1);
    const { board } = fleet.nodes[0]!;
    const sync = () => void board.sync("w0", [report("large", { succeeded: 1 }), report("small", { succeeded: 1 })]);
    await fleet.pass(1, sync);
    await fleet.park("large", 4_000);
    await fleet.park("small", 10);
    expect(await fleet.nodes[0]!.parked.byKey()).toEqual({ total: 4_010, byKey: { large: 4_000, small: 10 } });
    await fleet.pass(8, sync);
    expect(await fleet.nodes[0]!.parked.of("small")).toBe(0);
    expect(await fleet.nodes[0]!.parked.of("large")).toBeGreaterThan(500);
  });
});
