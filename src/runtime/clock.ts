import { type EpochMs, epochMs } from "../message/time.ts";

/** The time of day and the time since start. The only two questions about time that a room may ask. */
export interface Clock {
  /** The checked time of day. It follows when both clocks behind it are set back, so it may step backward. */
  nowMs(): EpochMs;
  /** Monotonic milliseconds with fractions, for deadlines and leases. */
  monotonicMs(): number;
}

/** What the machine says, unchecked. Implemented in adapters/system; only {@link CheckedClock} reads it. */
export interface MachineClock {
  wallMs(): number;
  monotonicMs(): number;
}

/** The machine's clock as it stands: for timing calls and stamping what is sent, never for deciding what is due. */
export const uncheckedClock = (machine: MachineClock): Clock => ({
  nowMs: () => epochMs(Math.floor(machine.wallMs())),
  monotonicMs: machine.monotonicMs,
});

/** Above this difference between our clock and the store's one of them is wrong, and we cannot know which. */
export const clockToleranceMs = 500;

/**
 * The clock that decides what is due. "Never early" cannot rest on one wall clock: an operator or NTP may set it an
 * hour forward, and everything due within that hour would go out at once.
 *
 * So time runs on the monotonic clock from an anchor. Once a second the store's clock is asked (`observe`), and only
 * while the machine's wall clock and the store's agree to {@link clockToleranceMs} is the anchor set anew, to the
 * earlier of the two. While they disagree, or nobody has been asked yet, `trusted` is false and nothing is sent.
 *
 * A reading of the store's clock is as old as its round trip may have been, and a slow answer must not put us ahead
 * by that much. So it only corrects what it contradicts: as long as our time may be the store's, it is kept; else it
 * becomes the earliest that the reading allows. Quick readings make it exact to their round trip. One slower than
 * {@link clockToleranceMs} corrects nothing, since that might set us back by as much: when it contradicts our time,
 * nothing is sent until a quick one has said what the time is.
 *
 * Example: at 12:00:00 both agree. At 12:00:00.4 somebody sets our wall clock to 13:00:00. `nowMs` goes on at
 * 12:00:00.4; at 12:00:01 the store says 12:00:01, we say 13:00:01: not trusted, sending stops. When the wall clock
 * is put right, the next observation agrees and sending goes on; nothing left early.
 */
export class CheckedClock implements Clock {
  readonly #machine: MachineClock;
  #anchorWallMs: number;
  #anchorMonotonicMs: number;
  #problem: string | undefined = "the store's clock has not been asked yet";
  #everTrusted = false;
  #skewMs = 0;

  constructor(machine: MachineClock) {
    this.#machine = machine;
    this.#anchorMonotonicMs = machine.monotonicMs();
    this.#anchorWallMs = machine.wallMs();
  }

  nowMs(): EpochMs {
    return Math.floor(this.#anchorWallMs + this.#machine.monotonicMs() - this.#anchorMonotonicMs) as EpochMs;
  }

  monotonicMs(): number {
    return this.#machine.monotonicMs();
  }

  /** Why nothing may be sent at the moment; undefined when the time can be trusted. */
  get problem(): string | undefined {
    return this.#problem;
  }

  get trusted(): boolean {
    return this.#problem === undefined;
  }

  /**
   * True from the first time that both clocks agreed. Before it even the time of day may be wrong by an hour; after it
   * the time runs on from there, also while `trusted` is false.
   */
  get everTrusted(): boolean {
    return this.#everTrusted;
  }

  /** Our wall clock minus the reference, at the last observation. */
  get skewMs(): number {
    return this.#skewMs;
  }

  /**
   * Where there is no other clock: the machine's wall clock is the time of day, and whoever sets it sets ours. Nothing
   * can be held against it, since a machine that slept looks the same as one whose clock was set forward. Answers by
   * how many milliseconds it was set since the last look, as the monotonic clock sees it, so that it can be said.
   */
  follow(): number {
    const steppedMs = this.#machine.wallMs() - this.nowMs();
    this.#anchorWallMs = this.#machine.wallMs();
    this.#anchorMonotonicMs = this.#machine.monotonicMs();
    this.#problem = undefined;
    this.#everTrusted = true;
    return steppedMs;
  }

  /** Takes the reading of another clock; `roundTripMs` is how long asking took, so the reading is that old at most. */
  observe(referenceMs: number, roundTripMs: number): void {
    const monotonicMs = this.#machine.monotonicMs();
    const wallMs = this.#machine.wallMs();
    const referenceLatestMs = referenceMs + roundTripMs;
    this.#skewMs = wallMs - (referenceMs + roundTripMs / 2);
    const apartMs = Math.max(referenceMs - wallMs, wallMs - referenceLatestMs, 0);
    if (apartMs > clockToleranceMs) {
      this.#problem = `this machine's clock and the store's clock differ by ${Math.round(apartMs)} ms, more than ${clockToleranceMs} ms`;
      return;
    }
    const runningMs = this.#anchorWallMs + monotonicMs - this.#anchorMonotonicMs;
    // Both clocks are read in whole milliseconds, so a reading is good to one.
    const mayBeRight = runningMs >= referenceMs && runningMs <= referenceLatestMs + 1;
    if (!mayBeRight && roundTripMs > clockToleranceMs) {
      this.#problem = `the store took ${Math.round(roundTripMs)} ms to say its time, too long to set this machine's by it`;
      return;
    }
    this.#problem = undefined;
    this.#everTrusted = true;
    this.#anchorWallMs = Math.min(wallMs, mayBeRight ? runningMs : referenceMs);
    this.#anchorMonotonicMs = monotonicMs;
  }
}
