import { describe, expect, it } from "vitest";
import type { Timers } from "../runtime/timers.ts";
import { Patience } from "./patience.ts";

/** Time that passes when told to. */
class HandTimers implements Timers {
  nowMs = 0;
  #pending: { atMs: number; callback: () => void }[] = [];

  after(delayMs: number, callback: () => void) {
    const entry = { atMs: this.nowMs + delayMs, callback };
    this.#pending.push(entry);
    return {
      cancel: () => {
        this.#pending = this.#pending.filter((other) => other !== entry);
      },
    };
  }

  get pending(): number {
    return this.#pending.length;
  }

  pass(ms: number): void {
    const untilMs = this.nowMs + ms;
    for (;;) {
      const next = this.#pending.filter(({ atMs }) => atMs <= untilMs).sort((a, b) => a.atMs - b.atMs)[0];
      if (next === undefined) break;
      this.nowMs = next.atMs;
      this.#pending = this.#pending.filter((other) => other !== next);
      next.callback();
    }
    this.nowMs = untilMs;
  }
}

describe("patience", () => {
  it("ends within an eighth before the time allowed, wherever between two sweeps the wait began", () => {
    for (let offsetMs = 0; offsetMs < 100; offsetMs += 7) {
      const timers = new HandTimers();
      const patience = new Patience(timers, 800);
      patience.begin(() => {});
      timers.pass(offsetMs);
      const beganMs = timers.nowMs;
      let gaveUpMs = 0;
      patience.begin(() => {
        gaveUpMs = timers.nowMs;
      });
      timers.pass(2_000);
      expect(gaveUpMs - beganMs).toBeGreaterThanOrEqual(700);
      expect(gaveUpMs - beganMs).toBeLessThanOrEqual(800);
    }
  });

  it("starts anew with progress, stands still while paused, and gives up once", () => {
    const timers = new HandTimers();
    let gaveUp = 0;
    const wait = new Patience(timers, 800).begin(() => void gaveUp++);
    for (let i = 0; i < 10; i++) {
      timers.pass(600);
      wait.progress();
    }
    wait.pause();
    timers.pass(10_000);
    wait.resume();
    timers.pass(600);
    expect(gaveUp).toBe(0);
    timers.pass(10_000);
    expect(gaveUp).toBe(1);
  });

  it("keeps no timer while it waits for nobody", () => {
    const timers = new HandTimers();
    const patience = new Patience(timers, 800);
    expect(timers.pending).toBe(0);
    const waits = [1, 2, 3].map(() => patience.begin(() => {}));
    expect(timers.pending).toBe(1);
    for (const wait of waits) wait.end();
    timers.pass(100);
    expect(timers.pending).toBe(0);
  });
});
