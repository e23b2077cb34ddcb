import { HandleQueue } from "./handle-queue.ts";

/**
 * A lane: the due messages of one tenant for one topic. Lanes take turns, each may have only so much out at once, and
 * a lane whose topic refuses is paused alone; so a missing topic or one tenant's flood delays nobody else.
 *
 * While a lane is paused its messages wait as ids, unclaimed: an outage of the broker costs them no attempts, only
 * the few that are sent to see whether it is over.
 */

/** At 63 k/s and 30 ms a call, about 1,900 messages are between claim and settle; more only raises memory. */
const outMessagesMax = 2_048;
const outBytesMax = 16 * 1024 * 1024;
/** What one turn may take, so that the next lane comes soon. */
const turnMessages = 512;
/** Of each turn, this share goes to messages that are catching up, the rest to those that just became due. */
const overdueShare = 0.2;
const pauseFirstMs = 50;
const pauseMaxMs = 5_000;
/** While a lane is suspected, this many go out to try. */
const probeMessages = 8;

export class Lane {
  readonly #fresh = new HandleQueue();
  readonly #overdue = new HandleQueue();
  #outMessages = 0;
  #outBytes = 0;
  #averageBytes = 256;
  #failures = 0;
  #pausedUntilMs = 0;

  get ready(): number {
    return this.#fresh.length + this.#overdue.length;
  }

  get out(): number {
    return this.#outMessages;
  }

  get idle(): boolean {
    return this.ready === 0 && this.#outMessages === 0 && this.#failures === 0;
  }

  get pausedUntilMs(): number {
    return this.#pausedUntilMs;
  }

  push(handle: number, fresh: boolean): void {
    (fresh ? this.#fresh : this.#overdue).push(handle);
  }

  /** Comes back to the front: it was taken, but could not be claimed this time. */
  pushBack(handle: number): void {
    this.#overdue.pushFront(handle);
  }

  /** How many may be taken now, at `monotonicMs`. */
  allowance(monotonicMs: number): number {
    if (this.ready === 0 || monotonicMs < this.#pausedUntilMs) return 0;
    const byBytes = Math.ceil((outBytesMax - this.#outBytes) / this.#averageBytes);
    const most = this.#failures > 0 ? probeMessages : outMessagesMax;
    return Math.max(0, Math.min(most - this.#outMessages, byBytes, turnMessages, this.ready));
  }

  /** Takes `count` handles, fresh ones first but never only fresh ones. */
  take(count: number, visit: (handle: number) => void): void {
    const forOverdue = Math.min(this.#overdue.length, Math.max(1, Math.floor(count * overdueShare)));
    const fresh = Math.min(this.#fresh.length, count - forOverdue);
    this.#outMessages += count;
    for (let i = 0; i < fresh; i++) visit(this.#fresh.shift());
    for (let i = fresh; i < count; i++) visit(this.#overdue.length > 0 ? this.#overdue.shift() : this.#fresh.shift());
  }

  /** Taken but not claimed after all. */
  untake(count: number): void {
    this.#outMessages -= count;
  }

  claimed(bytes: number): void {
    this.#outBytes += bytes;
    this.#averageBytes += (Math.max(bytes, 64) - this.#averageBytes) / 32;
  }

  settled(bytes: number): void {
    this.#outMessages -= 1;
    this.#outBytes -= bytes;
  }

  succeeded(): void {
    this.#failures = 0;
    this.#pausedUntilMs = 0;
  }

  /** The topic refused for a passing reason: wait, then try with a few. */
  suspected(monotonicMs: number): void {
    // Several batches were under way when the first one failed; they are one failure.
    if (monotonicMs < this.#pausedUntilMs) return;
    this.#pausedUntilMs = monotonicMs + Math.min(pauseMaxMs, pauseFirstMs * 2 ** this.#failures);
    this.#failures++;
  }
}
