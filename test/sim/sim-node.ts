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
  /** So long after standing still its timers come; what came from outside is there at once. */
  timersAfterFreezeMs = 0;
  diedMs = Number.POSITIVE_INFINITY;
  /** When its orderly stop began. */
  stoppingMs = Number.POSITIVE_INFINITY;

  #effect = "";
  #effectsToGo = 0;
  #onEffect: () => void = () => {};

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
        event.isTimer = true;
        return {
          cancel: () => {
            event.canceled = true;
          },
        };
      },
    };
  }

  /** `act` comes right after the count-th such effect of this node at store or broker, before the node hears of it. */
  afterEffects(effect: Effect, count: number, act: () => void): void {
    this.#effect = effect === "any" ? "" : effect;
    this.#effectsToGo = count;
    this.#onEffect = act;
  }

  /** Said by the store and the broker: something that this node asked for was done. */
  hadEffect(what: string): void {
    if (!this.alive || this.#effectsToGo === 0 || !what.startsWith(this.#effect)) return;
    if (--this.#effectsToGo === 0) this.#onEffect();
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

/** What a node asks others to do, where a fault may be put right behind it. */
export const effects = [
  "any",
  "claim",
  "settle",
  "send",
  "schedule",
  "acquire",
  "recover",
  "release",
  "renew",
] as const;
export type Effect = (typeof effects)[number];
