import type { Timer, Timers } from "../../runtime/timers.ts";
import { IndexedHeap, type Placed } from "./indexed-heap.ts";

/** Something to do at a monotonic time. */
export type Appointment = Placed & { atMs: number; readonly keep: () => void };

/** Beyond 2^31 ms the system's timers ring at once. */
const timerMaxMs = 3_600_000;

/** Many appointments, one timer: for the nearest. A thousand waiting polls cost what one costs. */
export class Agenda {
  readonly #heap = new IndexedHeap<Appointment>((appointment) => appointment.atMs);
  readonly #timers: Timers;
  readonly #nowMs: () => number;
  #timer: Timer | undefined;
  #ringsAtMs = Infinity;
  #isRinging = false;

  constructor(timers: Timers, nowMs: () => number) {
    this.#timers = timers;
    this.#nowMs = nowMs;
  }

  /** Makes or moves the appointment; Infinity cancels it. */
  set(appointment: Appointment, atMs: number): void {
    this.#heap.remove(appointment);
    appointment.atMs = atMs;
    if (atMs !== Infinity) this.#heap.add(appointment);
    // A timer for what is off by now only rings for nothing; one that nobody needs goes.
    if (atMs < this.#ringsAtMs || this.#heap.size === 0) this.#arm();
  }

  close(): void {
    this.#timer?.cancel();
  }

  #arm(): void {
    if (this.#isRinging) return;
    this.#timer?.cancel();
    const first = this.#heap.peek();
    this.#ringsAtMs = first?.atMs ?? Infinity;
    if (first === undefined) return;
    const delayMs = Math.min(Math.max(Math.ceil(first.atMs - this.#nowMs()), 0), timerMaxMs);
    this.#timer = this.#timers.after(delayMs, () => this.#ring());
  }

  #ring(): void {
    this.#isRinging = true;
    // Timers may be early by a little, so the time is looked at again.
    const nowMs = this.#nowMs();
    for (let first = this.#heap.peek(); first !== undefined && first.atMs <= nowMs; first = this.#heap.peek()) {
      this.#heap.remove(first);
      first.keep();
    }
    this.#isRinging = false;
    this.#arm();
  }
}
