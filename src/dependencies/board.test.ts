import { describe, expect, it } from "vitest";
import { DependencyGuard } from "../retry/dependency-guard.ts";
import { defaultBreaker } from "../retry/policy.ts";
import type { DependencyView } from "../wire/consumer-sync.ts";
import { report, TestFleet } from "./testing.ts";

const key = "acct:1";

/** Two processes of the service, two workers at each, all calling one dependency. */
class Workers {
  readonly fleet = new TestFleet(2);
  readonly names = ["w0", "w1", "w2", "w3"];
  views: DependencyView[] = [];

  sync(part: Parameters<typeof report>[1], names = this.names): void {
    this.views = names.map((name) => {
      const node = this.fleet.nodes[Number(name.slice(1)) % 2]!;
      return node.board.sync(name, [report(key, part)])[0]!;
    });
  }

  seconds(count: number, part: Parameters<typeof report>[1], names?: string[]): Promise<void> {
    return this.fleet.pass(count, () => this.sync(part, names));
  }

  get states(): string[] {
    return this.views.map(({ state }) => state);
  }
}

describe("the board", () => {
  it("opens for everybody what everybody together finds broken, though each alone has seen too little", async () => {
    const all = new Workers();
    // 2 failures a second at each of two processes are 20 calls in 5 seconds only when they are added.
    await all.seconds(7, { failed: 1 });
    expect(all.states).toEqual(["open", "open", "open", "open"]);
    expect(all.views[0]).toMatchObject({ callsPerSec: 0 });
  });

  it("counts every call once, however the processes race for the document", async () => {
    const fleet = new TestFleet(4);
    for (let round = 0; round < 10; round++) {
      for (const [i, { board }] of fleet.nodes.entries())
        board.sync(`w${i}`, [report(key, { succeeded: 3, failed: 2 })]);
      fleet.nowMs += 500;
      await Promise.all(fleet.nodes.map(({ board }) => board.runOnce()));
    }
    await fleet.nodes[0]!.board.runOnce();
    const { body } = (await fleet.documents.read("breaker", key))!;
    const slots: { succeeded: number; failed: number }[] = JSON.parse(body).breaker.slots;
    const sum = (of: "succeeded" | "failed") => slots.reduce((total, slot) => total + slot[of], 0);
    expect([sum("succeeded"), sum("failed")]).toEqual([120, 80]);
  });

  it("hears of a lone worker's outage by what that parks, and of one among many that it is only his", async () => {
    const alone = new Workers();
    await alone.seconds(10, { succeeded: 20 }, ["w0"]);
    // Its own breaker opened at a few failures, and there are no calls any more.
    await alone.seconds(1, { failed: 15, parked: 5 }, ["w0"]);
    await alone.seconds(12, { parked: 20 }, ["w0"]);
    expect(alone.states).not.toContain("closed");
    const many = new Workers();
    for (let second = 0; second < 20; second++) {
      await many.seconds(1, { succeeded: 20 }, ["w1", "w2", "w3"]);
      many.sync({ parked: 20 }, ["w0"]);
    }
    expect(many.states).toEqual(["closed"]);
  });

  it("opens with its workers' own breakers, however well all went a moment before", async () => {
    const fleet = new TestFleet(1);
    const { board } = fleet.nodes[0]!;
    const guards = [new DependencyGuard(), new DependencyGuard()];
    let ownOpenMs: number | undefined;
    let sharedOpenMs: number | undefined;
    const outageMs = fleet.nowMs + 20_000;
    for (let tick = 0; sharedOpenMs === undefined && tick < 500; tick++) {
      for (const guard of guards) {
        // 20 a second each.
        for (let i = 0; i < 2; i++) {
          // From then on three of five fail.
          const ok = fleet.nowMs < outageMs || (tick * 2 + i) % 5 < 2;
          if (guard.decide(key, "fresh", fleet.nowMs) === "go") guard.record(key, ok, fleet.nowMs);
        }
        if (guard.stateOf(key, fleet.nowMs) === "open") ownOpenMs ??= fleet.nowMs;
      }
      if (tick % 10 === 0) guards.forEach((guard, i) => void board.sync(`w${i}`, guard.takeReports()));
      if (tick % 5 === 0) await board.runOnce();
      if (board.phase(key) === "open") sharedOpenMs = fleet.nowMs;
      fleet.nowMs += 100;
    }
    expect(ownOpenMs! - outageMs).toBeLessThan(9_000);
    // Messages that are parked stay for five seconds: none of them comes out in between.
    expect(sharedOpenMs! - ownOpenMs!).toBeLessThan(2_000);
  });

  it("a policy that has no breaker any more leaves none behind that stays open", async () => {
    const all = new Workers();
    await all.seconds(3, { failed: 20 });
    expect(all.states[0]).toBe("open");
    await all.seconds(15, { breaker: null });
    expect(all.states).toEqual(["closed", "closed", "closed", "closed"]);
    expect(all.fleet.nodes[0]!.board.releaseOf(key)).toMatchObject({ perSec: expect.any(Number) });
  });

  it("gives the probes and the ramp to the workers in shares that come together to the whole", async () => {
    const all = new Workers();
    await all.seconds(3, { failed: 20 });
    await all.seconds(10, {});
    expect(all.states).toEqual(["probing", "probing", "probing", "probing"]);
    const sum = () => all.views.reduce((total, { callsPerSec }) => total + callsPerSec!, 0);
    expect(sum()).toBeCloseTo(2, 1);
    await all.seconds(3, { succeeded: 5, retries: 5 });
    expect(all.states[0]).toBe("ramping");
    await all.seconds(6, { succeeded: 90, retries: 90 });
    const rate = all.fleet.nodes[0]!.board.find(key)!.shared!.breaker.ratePerSec;
    expect(rate).toBeGreaterThan(250);
    expect(sum() / rate).toBeGreaterThan(0.85);
    expect(sum() / rate).toBeLessThan(1.15);
  });

  it("a worker that vanishes leaves its share to the others within seconds, and a process with all of its", async () => {
    const all = new Workers();
    await all.seconds(3, { failed: 20 });
    await all.seconds(10, {});
    await all.seconds(3, { succeeded: 5 });
    const rate = () => all.fleet.nodes[0]!.board.find(key)!.shared!.breaker.ratePerSec;
    const full = (seconds: number, names: string[]) =>
      all.fleet.pass(seconds, () => all.sync({ succeeded: Math.ceil(rate() / names.length) }, names));
    const part = () => all.views[0]!.callsPerSec! / rate();
    await full(8, all.names);
    expect(part()).toBeLessThan(0.3);
    await full(12, ["w0", "w1", "w3"]);
    expect(part()).toBeGreaterThan(0.3);
    all.fleet.members.pop();
    await full(8, ["w0"]);
    expect(part()).toBeGreaterThan(0.9);
  });

  it("RT-14: one tenant's failures open his key and no other", async () => {
    const fleet = new TestFleet(1);
    const { board } = fleet.nodes[0]!;
    const tenants = Array.from({ length: 50 }, (_, i) => `acct:${i}`);
    let views: DependencyView[] = [];
    await fleet.pass(20, () => {
      views = board.sync(
        "w",
        tenants.map((tenant, i) => report(tenant, i === 7 ? { failed: 30 } : { succeeded: 29, failed: 1 })),
      );
    });
    expect(views.filter(({ state }) => state !== "closed").map(({ key: of }) => of)).toEqual(["acct:7"]);
    expect(new Set(fleet.writes)).toEqual(new Set(["breaker/acct:7"]));
  });

  it("10,000 keys that are well write nothing, and are forgotten when nobody reports them", async () => {
    const fleet = new TestFleet(1);
    const { board } = fleet.nodes[0]!;
    const reports = Array.from({ length: 10_000 }, (_, i) => report(`acct:${i}`, { succeeded: 5 }));
    await fleet.pass(3, () => void board.sync("w", reports));
    expect(fleet.writes).toEqual([]);
    expect(board.known("", 20_000).length).toBe(10_000);
    await fleet.pass(70);
    expect(board.known("", 20_000).length).toBe(0);
  });

  it("removes the document once the dependency has been well for a while", async () => {
    const all = new Workers();
    await all.seconds(3, { failed: 20 });
    await all.seconds(12, { succeeded: 10 });
    await all.seconds(100, { succeeded: 10 });
    expect(all.states).toEqual(["closed", "closed", "closed", "closed"]);
    expect(await all.fleet.documents.list("breaker", { limit: 10 })).toEqual([]);
  });

  it("goes on alone while the documents are away, and agrees again afterwards", async () => {
    const all = new Workers();
    await all.seconds(3, { failed: 20 });
    all.fleet.documentsAway = true;
    await all.seconds(11, {});
    expect(all.states).toEqual(["probing", "probing", "probing", "probing"]);
    all.fleet.documentsAway = false;
    await all.seconds(4, { succeeded: 8 });
    expect(new Set(all.states)).toEqual(new Set(["ramping"]));
  });

  it("judges a key as its policy says, and not at all where that has no breaker", async () => {
    const all = new Workers();
    await all.seconds(5, { failed: 50, breaker: null });
    expect(all.states[0]).toBe("closed");
    await all.seconds(5, { failed: 1, succeeded: 3, breaker: { ...defaultBreaker, failureRate: 0.2 } });
    expect(all.states[0]).toBe("open");
  });
});

describe("an operator", () => {
  const forced = (fleet: TestFleet, state: "open" | "closed", seconds: number) => ({
    state,
    sinceMs: fleet.nowMs,
    untilMs: fleet.nowMs + seconds * 1_000,
    reason: "maintenance",
  });

  it("holds a dependency open although all is well, until the time is over; then it comes back by probes", async () => {
    const all = new Workers();
    await all.seconds(2, { succeeded: 10 });
    await all.fleet.nodes[1]!.board.force(key, forced(all.fleet, "open", 30));
    await all.seconds(2, { succeeded: 10 });
    expect(all.views).toMatchObject(all.names.map(() => ({ state: "open", forced: true, callsPerSec: 0 })));
    await all.seconds(27, {});
    expect(all.states[0]).toBe("open");
    await all.seconds(3, {});
    expect(all.states[0]).toBe("probing");
    expect(all.views[0]!.forced).toBeUndefined();
  });

  it("holds it closed although all fails, and leaves it to its breaker again", async () => {
    const all = new Workers();
    await all.seconds(4, { failed: 20 });
    expect(all.states[0]).toBe("open");
    await all.fleet.nodes[0]!.board.force(key, forced(all.fleet, "closed", 600));
    await all.seconds(30, { failed: 20 });
    expect(all.views[3]).toMatchObject({ state: "closed", forced: true });
    await all.fleet.nodes[0]!.board.force(key, undefined);
    await all.seconds(4, { failed: 20 });
    expect(all.states[3]).toBe("open");
  });
});
