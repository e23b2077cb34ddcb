import { Prng } from "./prng.ts";
import type { SimNode } from "./sim-node.ts";
import { Trace } from "./trace.ts";

/**
 * The simulated world: one true time, a queue of what happens when, and the trace of what happened. Nothing in it asks
 * the machine for the time. An event runs, everything that it set in motion by promises runs to its end, then time
 * jumps to the next event; so a seed always gives the same run.
 *
 * What surprised us: an event loop turn per event (setImmediate) was half of the run's time. A `nextTick` that is
 * queued by a microtask comes exactly when no microtask is left, and costs a quarter.
 */
export type WorldEvent = {
  atMs: number;
  order: number;
  /** Whose event it is; it waits while that node is frozen and is dropped when it crashed. */
  readonly node: SimNode | undefined;
  readonly run: () => void;
  /** A timer of the node, not something that comes to it from outside. */
  isTimer: boolean;
  canceled: boolean;
};

/** Epoch milliseconds of the true time 0. */
export const epochStartMs = 1_750_000_000_000;

/** A run that needs more is running in circles; the busiest honest seed needs about a tenth. */
const eventsMax = 600_000;
/** The real event loop gets a turn now and then, for a test runner's sake. */
const eventsPerTurn = 2_000;

export class World {
  readonly seed: number;
  readonly random: Prng;
  readonly trace: Trace;
  /** True time since the start, in milliseconds with fractions. It only grows. */
  nowMs = 0;
  events = 0;
  readonly #queue: WorldEvent[] = [];
  #order = 0;

  constructor(seed: number) {
    this.seed = seed;
    this.random = new Prng(seed);
    this.trace = new Trace(() => this.nowMs);
  }

  at(atMs: number, node: SimNode | undefined, run: () => void): WorldEvent {
    const event = {
      atMs: Math.max(atMs, this.nowMs),
      order: this.#order++,
      node,
      run,
      isTimer: false,
      canceled: false,
    };
    this.#push(event);
    return event;
  }

  after(delayMs: number, node: SimNode | undefined, run: () => void): WorldEvent {
    return this.at(this.nowMs + delayMs, node, run);
  }

  /** Lets the world go on until `untilMs`, or until `done` says so. */
  run(untilMs: number, done: () => boolean = () => false): Promise<void> {
    return new Promise((resolve, reject) => {
      let turn = 0;
      const step = (): void => {
        try {
          if (done() || !this.#next(untilMs)) {
            resolve();
            return;
          }
          if (this.events > eventsMax) throw new Error(`more than ${eventsMax} events: something runs in circles`);
        } catch (error) {
          reject(error);
          return;
        }
        if (++turn % eventsPerTurn === 0) setImmediate(step);
        else queueMicrotask(() => process.nextTick(step));
      };
      step();
    });
  }

  /** Runs the next event; false when there is none before `untilMs`. */
  #next(untilMs: number): boolean {
    for (;;) {
      const event = this.#queue[0];
      if (event === undefined || event.atMs > untilMs) {
        this.nowMs = Math.max(this.nowMs, untilMs);
        return false;
      }
      this.#pop();
      const { node } = event;
      if (event.canceled || (node !== undefined && !node.alive)) continue;
      if (node !== undefined && node.frozenUntilMs > event.atMs) {
        // What came from outside meanwhile may be looked at first, or the timers that are due.
        // In their order, because equal times go by the number of their coming.
        event.atMs = node.frozenUntilMs + (event.isTimer ? node.timersAfterFreezeMs : 0);
        event.order = this.#order++;
        this.#push(event);
        continue;
      }
      this.nowMs = Math.max(this.nowMs, event.atMs);
      this.events++;
      event.run();
      return true;
    }
  }

  #push(event: WorldEvent): void {
    const queue = this.#queue;
    let place = queue.length;
    queue.push(event);
    while (place > 0) {
      const parent = (place - 1) >> 1;
      if (!isBefore(event, queue[parent]!)) break;
      queue[place] = queue[parent]!;
      place = parent;
    }
    queue[place] = event;
  }

  #pop(): void {
    const queue = this.#queue;
    const last = queue.pop()!;
    if (queue.length === 0) return;
    let place = 0;
    for (;;) {
      let child = place * 2 + 1;
      if (child >= queue.length) break;
      if (child + 1 < queue.length && isBefore(queue[child + 1]!, queue[child]!)) child++;
      if (!isBefore(queue[child]!, last)) break;
      queue[place] = queue[child]!;
      place = child;
    }
    queue[place] = last;
  }
}

const isBefore = (a: WorldEvent, b: WorldEvent): boolean => a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);
