import { IndexedHeap, type Placed } from "./indexed-heap.ts";

/**
 * How far one group is with one queue. Pure: no store, no clock, no journal; every change is a method with all it needs
 * as arguments, so that recovery calls the same methods as delivery does.
 *
 * What it remembers is only what is not done: `next`, below which every offset has been looked at, and of those the
 * few that are *held* (out with a consumer, or to be delivered again) or *skipped* (behind another of their message
 * group). Any other offset below `next` is done with: acknowledged, buried, or not wanted by the group's filter. So a
 * hundred thousand acknowledgements out of order cost nothing, and no message has an object before it is out.
 *
 * A message group has a lane while one of its messages is held: that one is its head, and later ones that we come by
 * are skipped and wait in the lane by offset. When the head is done, the next of its lane becomes ready. A message
 * that is delivered again was its lane's head all the time, so that a failure blocks its own group and no other.
 *
 * Times are monotonic milliseconds: setting the clock neither shortens nor lengthens an invisibility.
 */
export type Held = Placed & {
  readonly offset: number;
  readonly messageGroup: string | undefined;
  /** Deliveries so far; 0 for one that waited behind another and is ready now. */
  attempt: number;
  /** What the receipt handle of the present delivery carries. {@link noNonce} fits no handle. */
  nonce: number;
  /** Invisible until then. Infinity while it is being buried. */
  untilMs: number;
  invisibleMs: number;
  /** Its time came, or it was given back. */
  ready: boolean;
};

export const noNonce = 0;

export class QueueProgress {
  #next: number;
  #skippedCount = 0;
  readonly #held = new Map<number, Held>();
  readonly #out = new IndexedHeap<Held>((held) => held.untilMs);
  readonly #ready = new IndexedHeap<Held>((held) => held.offset);
  readonly #lanes = new Map<string, number[]>();

  constructor(next: number) {
    this.#next = next;
  }

  /** The first offset that was never looked at. */
  get next(): number {
    return this.#next;
  }

  get skippedCount(): number {
    return this.#skippedCount;
  }

  get heldCount(): number {
    return this.#held.size;
  }

  /** Every offset below is done with. Walks over all that is held. */
  get doneUpTo(): number {
    // What is skipped needs no look: the head of its lane is held, and lies before it.
    let lowest = this.#next;
    for (const offset of this.#held.keys()) if (offset < lowest) lowest = offset;
    return lowest;
  }

  /** Those that were delivered before and those that never were, of all that is held or skipped. */
  get counts(): { readonly delivered: number; readonly undelivered: number } {
    let delivered = 0;
    for (const { attempt } of this.#held.values()) if (attempt > 0) delivered++;
    return { delivered, undelivered: this.#held.size - delivered + this.#skippedCount };
  }

  get held(): Iterable<Held> {
    return this.#held.values();
  }

  *skipped(): Iterable<{ readonly offset: number; readonly messageGroup: string }> {
    for (const [messageGroup, lane] of this.#lanes) for (const offset of lane) yield { offset, messageGroup };
  }

  heldAt(offset: number): Held | undefined {
    return this.#held.get(offset);
  }

  /** Nothing of it will come any more, as far as this group is concerned. */
  isDone(offset: number): boolean {
    if (offset >= this.#next || this.#held.has(offset)) return false;
    for (const lane of this.#lanes.values()) if (lane.includes(offset)) return false;
    return true;
  }

  isBlocked(messageGroup: string): boolean {
    return this.#lanes.has(messageGroup);
  }

  /** The oldest one to be delivered again (or for the first time, when it had waited behind its group's head). */
  nextReady(nowMs: number): Held | undefined {
    for (let held = this.#out.peek(); held !== undefined && held.untilMs <= nowMs; held = this.#out.peek()) {
      this.#makeReady(held);
    }
    return this.#ready.peek();
  }

  /** When {@link nextReady} has something: -Infinity for now, Infinity for never by itself. */
  get nextReadyMs(): number {
    return this.#ready.size > 0 ? -Infinity : (this.#out.peek()?.untilMs ?? Infinity);
  }

  /** The delivery that a receipt handle stands for, while that is neither over nor followed by another. */
  find(offset: number, nonce: number, nowMs: number): Held | undefined {
    const held = this.#held.get(offset);
    if (held === undefined || held.ready || nonce === noNonce) return undefined;
    return held.nonce === nonce && held.untilMs > nowMs ? held : undefined;
  }

  /** Offsets below are looked at; those that are neither taken nor skipped are done with. */
  pass(next: number): void {
    if (next > this.#next) this.#next = next;
  }

  /** What we do not know about the offsets up to `next` is taken for: not delivered. */
  presumeWaiting(next: number): void {
    for (let offset = this.#next; offset < next; offset++) this.#ready.add(this.#hold(offset, undefined));
    this.pass(next);
  }

  /** It goes out: a new one, or one that is ready. */
  take(delivery: {
    readonly offset: number;
    readonly messageGroup: string | undefined;
    readonly attempt: number;
    readonly nonce: number;
    readonly untilMs: number;
    readonly invisibleMs: number;
  }): Held {
    const { offset } = delivery;
    let held = this.#held.get(offset);
    if (held === undefined) {
      if (offset < this.#next) this.#unskip(offset);
      held = this.#hold(offset, delivery.messageGroup);
    }
    this.pass(offset + 1);
    held.attempt = delivery.attempt;
    this.change(held, delivery.nonce, delivery.untilMs, delivery.invisibleMs);
    return held;
  }

  /** It waits behind another of its message group that is held. */
  skip(offset: number, messageGroup: string): void {
    this.pass(offset + 1);
    const lane = this.#lanes.get(messageGroup);
    if (lane === undefined) {
      // Only where records are missing: its head is not known, so it is one.
      if (!this.#held.has(offset)) this.#ready.add(this.#hold(offset, messageGroup));
      return;
    }
    if (offset <= (lane.at(-1) ?? -1) && (lane.includes(offset) || this.#held.has(offset))) return;
    lane.push(offset);
    this.#skippedCount++;
  }

  /** A new handle, a new time. */
  change(held: Held, nonce: number, untilMs: number, invisibleMs: number): void {
    (held.ready ? this.#ready : this.#out).remove(held);
    held.ready = false;
    held.nonce = nonce;
    held.untilMs = untilMs;
    held.invisibleMs = invisibleMs;
    this.#out.add(held);
  }

  /** Nobody got it: ready again, as if it had not been taken. */
  giveBack(offset: number): void {
    const held = this.#held.get(offset);
    if (held === undefined || held.ready) return;
    held.attempt--;
    this.#makeReady(held);
  }

  /** @returns false when it was done with before. */
  done(offset: number): boolean {
    const held = this.#held.get(offset);
    if (held === undefined) return this.#unskip(offset);
    this.#held.delete(offset);
    (held.ready ? this.#ready : this.#out).remove(held);
    if (held.messageGroup !== undefined) this.#release(held.messageGroup);
    return true;
  }

  /** The queue ends earlier than this group had come: it was made anew, or lost its end. What lay beyond is no more. */
  cutTo(end: number): void {
    for (const [messageGroup, lane] of this.#lanes) {
      const kept = lane.filter((offset) => offset < end);
      this.#skippedCount -= lane.length - kept.length;
      this.#lanes.set(messageGroup, kept);
    }
    for (const offset of [...this.#held.keys()]) if (offset >= end) this.done(offset);
    this.#next = Math.min(this.#next, end);
  }

  #hold(offset: number, messageGroup: string | undefined): Held {
    const held: Held = {
      place: -1,
      offset,
      messageGroup,
      attempt: 0,
      nonce: noNonce,
      untilMs: -Infinity,
      invisibleMs: 0,
      ready: true,
    };
    this.#held.set(offset, held);
    if (messageGroup !== undefined && !this.#lanes.has(messageGroup)) this.#lanes.set(messageGroup, []);
    return held;
  }

  /** Only where records are missing: what was taken or done had left its lane before. */
  #unskip(offset: number): boolean {
    for (const lane of this.#lanes.values()) {
      const at = lane.indexOf(offset);
      if (at < 0) continue;
      lane.splice(at, 1);
      this.#skippedCount--;
      return true;
    }
    return false;
  }

  #makeReady(held: Held): void {
    this.#out.remove(held);
    held.ready = true;
    held.nonce = noNonce;
    this.#ready.add(held);
  }

  #release(messageGroup: string): void {
    const offset = this.#lanes.get(messageGroup)?.shift();
    if (offset === undefined) {
      this.#lanes.delete(messageGroup);
      return;
    }
    this.#skippedCount--;
    this.#ready.add(this.#hold(offset, messageGroup));
  }
}
