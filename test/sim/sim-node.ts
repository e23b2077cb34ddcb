import type { MachineClock } from "../../src/runtime/clock.ts";
import type { Timer, Timers } from "../../src/runtime/timers.ts";
import type { Prng } from "./prng.ts";
import { epochStartMs, type World } from "./world.ts";

/**
 * One life of one process: its machine's clocks, timers and chance. A crash ends it for good: no event of it ever runs
 * again. A process that starts anew is another SimNode.
 */
export class SimNode {
  readonly name: string;
  readonly machineName: string;
  readonly random: Prng;
  readonly machine: MachineClock;
  readonly timers: Timers;
  readonly startedMs: number;
  alive = true;
  /** Nothing of it runs before this: a stopped process, a long collection of garbage, a stalled event loop. */
  frozenUntilMs = 0;
  diedMs = Number.POSITIVE_INFINITY;
  /** When its orderly stop began. */
  stoppingMs = Number.POSITIVE_INFINITY;

  constructor(world: World, name: string, wall: WallClock) {
    this.name = name;
    this.machineName = wall.name;
    this.random = world.random.fork(`node ${name}`);
    this.startedMs = world.nowMs;
    // A process's monotonic clock starts anywhere.
    const monotonicStartMs = this.random.between(0, 1e6) - world.nowMs;
    this.machine = {
      wallMs: () => Math.floor(epochStartMs + world.nowMs + wall.offsetMs),
      monotonicMs: () => world.nowMs + monotonicStartMs,
    };
    this.timers = {
      after: (delayMs, callback): Timer => {
        const event = world.after(this.#timerMs(delayMs), this, callback);
        return {
          cancel: () => {
            event.canceled = true;
          },
        };
      },
    };
  }

  /** As Node's: up to a millisecond early, usually a little late. */
  #timerMs(delayMs: number): number {
    if (delayMs <= 0) return this.random.between(0, 0.02);
    const offMs = this.random.chance(0.3) ? -this.random.float() : this.random.float() * 0.4;
    return Math.max(0, delayMs + offMs);
  }
}

/** A wall clock, of a machine or of the store: the true time and an offset that faults move. */
export type WallClock = { readonly name: string; offsetMs: number };
