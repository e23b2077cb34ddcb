import { MemoryDelayStore } from "../../src/adapters/memory/memory-delay-store.ts";
import type { DelayStore } from "../../src/delay/delay-store.port.ts";
import { hour } from "../../src/message/time.ts";
import type { Ledger } from "./ledger.ts";
import type { Prng } from "./prng.ts";
import type { WallClock } from "./sim-node.ts";
import type { StoreConnection } from "./store-connection.ts";
import { epochStartMs, type World } from "./world.ts";

/**
 * The store as a server somewhere else: one memory store that is the world's truth, its own clock, and its troubles.
 * Nodes reach it through a StoreConnection each, where calls are late, lost and refused.
 */

/** How likely a call meets trouble; faults.ts turns these up and heals them. */
export type CallTroubles = {
  /** The request never arrives. */
  lostRequest: number;
  /** It takes effect, nobody hears of it. */
  lostReply: number;
  /** The store says no, and nothing changes. */
  refused: number;
  /** It takes long. */
  slow: number;
  slowMs: number;
  /** A wake does not reach its listener. */
  wakeLost: number;
};

export const noCallTroubles: CallTroubles = {
  lostRequest: 0,
  lostReply: 0,
  refused: 0,
  slow: 0,
  slowMs: 0,
  wakeLost: 0,
};

export class StoreServer {
  readonly world: World;
  readonly ledger: Ledger;
  readonly random: Prng;
  readonly truth: DelayStore;
  readonly clock: WallClock = { name: "store", offsetMs: 0 };
  /** Until when each shard's lease lasts, in true time, as long as the clock does not jump. */
  readonly leaseUntilMs = new Map<number, number>();
  readonly connections = new Set<StoreConnection>();
  troubles: CallTroubles = { ...noCallTroubles };
  /** How often it was started again. */
  starts = 0;
  isDown = false;
  /** Requests that arrive before this wait until then, as behind a slow disk. */
  #stalledUntilMs = 0;
  /** Where its clock stood furthest ahead: leases given then last until then. */
  furthestOffsetMs = 0;
  readonly #waitingForDisk: (() => void)[] = [];

  constructor(world: World, ledger: Ledger, shardCount: number, makeStore?: StoreMaker) {
    this.world = world;
    this.ledger = ledger;
    this.random = world.random.fork("store");
    const options = {
      clockMs: () => Math.floor(epochStartMs + world.nowMs + this.clock.offsetMs),
      shardCount,
      // Longer than any simulated step of the store's clock, so that a forgotten key never explains a second message.
      dedupeWindowMs: (48 * hour) as typeof hour,
    };
    this.truth = makeStore?.(options) ?? new MemoryDelayStore(options);
    void this.truth.listen({
      onWake: (...wake) => {
        for (const connection of this.connections) connection.hear((listener) => listener.onWake(...wake));
      },
      onMembersChanged: () => {
        for (const connection of this.connections) connection.hear((listener) => listener.onMembersChanged());
      },
      onGap: () => {},
    });
  }

  /** Everybody loses the connection; what the server had acknowledged it still has. */
  stop(): void {
    this.isDown = true;
    this.world.trace.mark("store", "stops: all connections break");
    for (const connection of this.connections) connection.break();
  }

  startAgain(): void {
    this.isDown = false;
    this.starts++;
    this.world.trace.mark("store", "is back");
    for (const connection of this.connections) connection.reconnectSoon();
  }

  /** Serves a request now, or, while the server stalls, in its turn when that is over. */
  serve(request: () => void): void {
    if (this.#stalledUntilMs > this.world.nowMs) this.#waitingForDisk.push(request);
    else request();
  }

  stall(forMs: number): void {
    const { world } = this;
    this.#stalledUntilMs = Math.max(this.#stalledUntilMs, world.nowMs + forMs);
    world.trace.mark("store", `stalls for ${Math.round(forMs)} ms`);
    world.after(forMs, undefined, () => this.#serveWaiting());
  }

  stopStalling(): void {
    this.#stalledUntilMs = this.world.nowMs;
    this.#serveWaiting();
  }

  #serveWaiting(): void {
    if (this.#stalledUntilMs > this.world.nowMs) return;
    // One after the other, so that every effect has an instant of its own.
    this.#waitingForDisk.splice(0).forEach((request, i) => {
      this.world.after(i * 0.003, undefined, request);
    });
  }

  stepClock(byMs: number): void {
    this.clock.offsetMs += byMs;
    this.furthestOffsetMs = Math.max(this.furthestOffsetMs, this.clock.offsetMs);
    this.world.trace.mark("store", `its clock jumps by ${byMs} ms, to ${this.clock.offsetMs} ms off`);
  }
}

export type StoreMaker = (options: ConstructorParameters<typeof MemoryDelayStore>[0]) => DelayStore;
