import type { Clock } from "../runtime/clock.ts";
import type { Log } from "../runtime/log.ts";
import type { Timers } from "../runtime/timers.ts";
import { Gather } from "./gather.ts";
import type { HandOff, HandOverMessage, HandOverResult } from "./hand-off.port.ts";

/**
 * Hands messages over, many in one call, and remembers whether that works: trouble is told when it begins and when it
 * ends, however many messages it concerns.
 */
export type HandOversOptions = {
  readonly handOff: HandOff;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: Log;
};

/** 64 in a call: 16 µs of CPU each instead of 200; a call at full load takes some 30 ms, so four keep a broker busy. */
const batchMax = 64;
const batchBytesMax = 3_000_000;
const lingerMs = 2;
const inFlightMax = 4;
/**
 * What could not be handed over is back after so long at the latest. So that is how long after the end of the trouble
 * a message that comes again may have been given back by a peer in the same need.
 */
export const fallbackMaxMs = 60_000;

export class HandOvers {
  readonly #options: HandOversOptions;
  readonly #gather: Gather<HandOverMessage, HandOverResult>;
  #worksSinceMs = Number.NEGATIVE_INFINITY;
  #failing = 0;

  constructor(options: HandOversOptions) {
    this.#options = options;
    const { handOff, timers } = options;
    this.#gather = new Gather<HandOverMessage, HandOverResult>({
      itemsMax: batchMax,
      bytesMax: batchBytesMax,
      bytesOf: ({ body }) => body.length,
      lingerMs,
      inFlightMax,
      timers,
      call: (messages) => handOff.send(messages),
    });
  }

  /** Resolves when it is durable, or is not. */
  async add(message: HandOverMessage | undefined): Promise<boolean> {
    const result: HandOverResult = message === undefined ? noRoom : await this.#gather.add(message);
    const { log, clock } = this.#options;
    if (result.ok) {
      if (this.#failing > 0) {
        this.#worksSinceMs = clock.monotonicMs();
        log.info({ notHandedOver: this.#failing }, "messages can be handed over again");
      }
      this.#failing = 0;
      return true;
    }
    if (this.#failing++ === 0) {
      const { code, detail } = result;
      log.warn(
        { code, detail },
        "failed messages cannot be handed over: they stay with RocketMQ, which brings them again when their wait is over",
      );
    }
    return false;
  }

  /** Handing over does not work, or did not a short while ago. */
  get inTrouble(): boolean {
    return this.#failing > 0 || this.#options.clock.monotonicMs() - this.#worksSinceMs < fallbackMaxMs;
  }

  idle(): Promise<void> {
    return this.#gather.idle();
  }
}

const noRoom: HandOverResult = {
  ok: false,
  code: "no_room_for_envelope",
  detail: "its own properties leave no room for what a retry must carry",
};
