import { describe, expect, it } from "vitest";
import { type CallKind, DependencyGuard, type DependencyView } from "./dependency-guard.ts";
import { defaultBreaker } from "./policy.ts";

const t0 = 1_800_000_000_000;
const key = "acct:1";

/** A process that calls; `wanted` calls a second, spread evenly. */
const run = (
  guard: DependencyGuard,
  fromMs: number,
  seconds: number,
  wanted: number,
  ok: (call: number) => boolean,
  kind: CallKind = "fresh",
  of = key,
) => {
  const told = { go: 0, park: 0, defer: 0 };
  for (let i = 0; i < seconds * wanted; i++) {
    const nowMs = fromMs + Math.floor((i * 1_000) / wanted);
    const verdict = guard.decide(of, kind, nowMs);
    told[verdict]++;
    if (verdict === "go") guard.record(of, ok(told.go), nowMs);
  }
  return told;
};
const well = () => true;
const broken = () => false;
const view = (part: Partial<DependencyView>): DependencyView => ({
  key,
  state: "closed",
  retriesPerSec: 10,
  retryPercent: 20,
  ...part,
});

describe("a process alone, the service out of reach", () => {
  it("opens within a fraction of a second, parks, asks with 20 calls every ten seconds, and comes back by a ramp", () => {
    const guard = new DependencyGuard();
    const first = run(guard, t0, 1, 1_000, broken);
    expect(first.go).toBeLessThan(150);
    expect(first.park).toBe(1_000 - first.go);
    const later = run(guard, t0 + 1_000, 60, 100, broken);
    expect(later.go).toBeGreaterThanOrEqual(5 * 10);
    expect(later.go).toBeLessThanOrEqual(6 * 20);
    const back = run(guard, t0 + 61_000, 30, 300, well);
    expect(guard.stateOf(key, t0 + 91_000)).toBe("closed");
    expect(back.park).toBeGreaterThan(200);
    expect(run(guard, t0 + 91_000, 5, 300, well)).toEqual({ go: 1_500, park: 0, defer: 0 });
  });

  it("RT-14: one bad tenant's key holds nobody else up", () => {
    const guard = new DependencyGuard();
    for (let i = 0; i < 100; i++) {
      run(guard, t0 + i * 100, 0.1, 1_000, broken, "fresh", "acct:bad");
      expect(run(guard, t0 + i * 100, 0.1, 1_000, well, "fresh", `acct:${i % 7}`).go).toBe(100);
    }
    expect(guard.stateOf("acct:bad", t0 + 9_000)).not.toBe("closed");
  });

  it("RT-24: set back or forward by an hour, it neither stays shut nor lets a flood through", () => {
    for (const jumpMs of [-3_600_000, 3_600_000]) {
      const guard = new DependencyGuard();
      run(guard, t0, 1, 1_000, broken);
      const told = run(guard, t0 + jumpMs, 20, 1_000, broken);
      expect(told.go).toBeLessThanOrEqual(60);
      run(guard, t0 + jumpMs + 20_000, 40, 200, well);
      expect(guard.stateOf(key, t0 + jumpMs + 60_000)).toBe("closed");
    }
  });
});

describe("the retry budget", () => {
  it("lets a fifth of the successes and ten a second go as retries, and defers the rest", () => {
    const guard = new DependencyGuard();
    let retried = 0;
    for (let second = 0; second < 60; second++) {
      run(guard, t0 + second * 1_000, 1, 100, well);
      const told = run(guard, t0 + second * 1_000, 1, 500, well, "retry");
      expect(told.park).toBe(0);
      retried += told.go;
    }
    // Retries that succeed earn for others: 20 % of 100 + 10 are 30, of which 20 % are 6, and so on.
    expect(retried / 60).toBeGreaterThan(30);
    expect(retried / 60).toBeLessThan(42);
  });

  it("RT-15: where nothing succeeds but the breaker stays closed, old retries still get the floor, fresh calls all", () => {
    const guard = new DependencyGuard({ breaker: null });
    const fresh = run(guard, t0, 30, 200, broken);
    expect(fresh.go).toBe(6_000);
    const old = run(guard, t0 + 30_000, 30, 200, broken, "retry");
    expect(old.go).toBeGreaterThanOrEqual(295);
    expect(old.go).toBeLessThan(330);
    expect(old.park).toBe(0);
  });

  it("a share of the floor below one a second is saved up instead of being lost", () => {
    const guard = new DependencyGuard();
    guard.decide(key, "fresh", t0);
    let retried = 0;
    for (let second = 0; second < 100; second++) {
      guard.apply([view({ retriesPerSec: 0.1 })], t0 + second * 1_000);
      retried += run(guard, t0 + second * 1_000, 1, 5, broken, "retry").go;
    }
    expect(retried).toBeGreaterThanOrEqual(9);
    expect(retried).toBeLessThan(25);
  });

  it("what good days earned fades: no storm of an hour's savings", () => {
    const guard = new DependencyGuard({ breaker: null });
    run(guard, t0, 3_600, 20, well);
    const storm = run(guard, t0 + 3_600_000, 1, 5_000, broken, "retry");
    expect(storm.go).toBeLessThan(100);
  });
});

describe("with the service", () => {
  const opened = (state: DependencyView["state"], callsPerSec: number) => {
    const guard = new DependencyGuard();
    guard.decide(key, "fresh", t0);
    guard.apply([view({ state, callsPerSec })], t0);
    return guard;
  };

  it("parks what others found broken, although all own calls succeeded", () => {
    const guard = new DependencyGuard();
    run(guard, t0, 1, 100, well);
    guard.apply([view({ state: "open", callsPerSec: 0 })], t0 + 1_000);
    expect(run(guard, t0 + 1_000, 5, 100, well)).toEqual({ go: 0, park: 500, defer: 0 });
  });

  it("keeps to its share of the ramp, released or fresh or retry, with nothing deferred", () => {
    for (const kind of ["fresh", "retry", "released", "probe"] as const) {
      const told = run(opened("ramping", 50), t0, 9, 500, well, kind);
      expect(told.go).toBeGreaterThanOrEqual(450);
      expect(told.go).toBeLessThanOrEqual(510);
      expect(told.defer).toBe(0);
    }
  });

  it("makes the probes of a round at once, and none that it was not given", () => {
    expect(run(opened("probing", 0.3), t0, 5, 100, well).go).toBe(3);
    expect(run(opened("probing", 0), t0, 5, 100, well).go).toBe(0);
  });

  it("goes on alone ten seconds after the last answer", () => {
    const guard = opened("open", 0);
    expect(guard.decide(key, "fresh", t0 + 9_999)).toBe("park");
    expect(run(guard, t0 + 10_000, 1, 100, well).go).toBeGreaterThan(10);
    run(guard, t0 + 11_000, 20, 100, well);
    expect(guard.stateOf(key, t0 + 31_000)).toBe("closed");
  });

  it("forced closed lets everything go, whatever fails; forced open nothing", () => {
    const guard = opened("closed", 0);
    guard.apply([view({ forced: true })], t0);
    expect(run(guard, t0, 5, 1_000, broken).go).toBe(5_000);
    guard.apply([view({ state: "open", callsPerSec: 0, forced: true })], t0 + 5_000);
    expect(run(guard, t0 + 5_000, 5, 1_000, well).go).toBe(0);
    guard.apply([view({})], t0 + 10_000);
    expect(run(guard, t0 + 10_000, 1, 100, well).go).toBe(100);
  });

  it("reports what happened once, each key once, and asks on about what is not closed", () => {
    const guard = new DependencyGuard();
    run(guard, t0, 1, 30, broken);
    run(guard, t0, 1, 5, well, "released", "other");
    const [one, other, ...rest] = guard.takeReports();
    expect(rest).toEqual([]);
    expect(one).toMatchObject({ key, succeeded: 0, retries: 0 });
    expect(one!.failed + one!.parked).toBe(30);
    expect(other).toEqual({ key: "other", succeeded: 5, failed: 0, retries: 5, parked: 0, deferred: 0 });
    expect(guard.takeReports()).toEqual([{ key, succeeded: 0, failed: 0, retries: 0, parked: 0, deferred: 0 }]);
  });

  it("tells how a key is to be judged where that is not the default", () => {
    const guard = new DependencyGuard();
    const breaker = { ...defaultBreaker, probes: 1 };
    guard.configure(key, breaker, null, t0);
    guard.decide(key, "retry", t0);
    expect(guard.takeReports()).toMatchObject([{ key, breaker, budget: null }]);
  });
});

describe("many keys", () => {
  it("forgets idle ones beyond 10,000, spares those that are in use or shut, and lets the rest pass unguarded", () => {
    const guard = new DependencyGuard({ keysMax: 100 });
    run(guard, t0, 1, 100, broken, "fresh", "broken");
    for (let i = 1; i < 100; i++) guard.decide(`key ${i}`, "fresh", t0);
    // All were used within the last minute: no room.
    expect(guard.decide("late", "fresh", t0 + 1_000)).toBe("go");
    expect(run(guard, t0, 1, 100, broken, "fresh", "late")).toMatchObject({ go: 100 });
    expect(guard.size).toBe(100);
    for (let i = 0; i < 500; i++) guard.decide(`new ${i}`, "fresh", t0 + 100_000);
    expect(guard.size).toBe(100);
    expect(guard.stateOf("broken", t0 + 5_000)).not.toBe("closed");
  });
});
