import type { Timer, Timers } from "../runtime/timers.ts";

/**
 * Waiting for slow peers, but not for ever. Everyone we wait for has an entry; a sweep passes every eighth of the
 * time allowed, and who is met by the eighth sweep in a row without having moved is given up. So a peer is cut after
 * 7/8 to 8/8 of the time allowed, at the cost of one timer for all of them, and of none while nobody is waited for.
 *
 * Not Node's own `requestTimeout`: that one counts from the request's start and cannot tell a stream of an hour that
 * moves from a body that trickles in at a byte a second.
 */
export class Patience {
  readonly #timers: Timers;
  readonly #sweepMs: number;
  readonly #waits = new Set<Wait>();
  #timer: Timer | undefined;

  constructor(timers: Timers, timeoutMs: number) {
    this.#timers = timers;
    this.#sweepMs = Math.max(1, timeoutMs / sweepsAllowed);
  }

  /** Begins to wait for a peer; `giveUp` is called at most once, if neither progress nor the end came in time. */
  begin(giveUp: () => void): Wait {
    const wait = new Wait(giveUp, this.#waits);
    this.#waits.add(wait);
    if (this.#timer === undefined) this.#timer = this.#timers.after(this.#sweepMs, this.#sweep);
    return wait;
  }

  readonly #sweep = (): void => {
    this.#timer = undefined;
    for (const wait of [...this.#waits]) wait.met(sweepsAllowed);
    if (this.#waits.size > 0) this.#timer = this.#timers.after(this.#sweepMs, this.#sweep);
  };
}

const sweepsAllowed = 8;

/** One peer that we wait for. */
export class Wait {
  readonly #giveUp: () => void;
  readonly #waits: Set<Wait>;
  #sweeps = 0;
  #paused = false;

  constructor(giveUp: () => void, waits: Set<Wait>) {
    this.#giveUp = giveUp;
    this.#waits = waits;
  }

  /** The peer moved: it has the whole time again. */
  progress(): void {
    this.#sweeps = 0;
  }

  /** It is our turn; time does not count against the peer until `resume`. */
  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    this.#sweeps = 0;
  }

  end(): void {
    this.#waits.delete(this);
  }

  met(sweepsAllowed: number): void {
    if (this.#paused || ++this.#sweeps < sweepsAllowed) return;
    this.end();
    this.#giveUp();
  }
}
