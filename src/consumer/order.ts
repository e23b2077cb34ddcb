import type { Held } from "./held.ts";

/**
 * What must not overtake what. A lane is a message group (or with `block-queue` a queue); of a lane one message is
 * worked on at a time, in the order of delivery. Whether a lane goes on after a failure is what the modes differ in:
 *
 * - `skip-key`: it goes on; the failed one comes again later, behind those that overtook it.
 * - `block-key`: it waits until the failed one has succeeded or is dead. Other message groups go on.
 * - `block-queue`: the same for everything in that queue.
 *
 * A blocked head stays with the broker, unacknowledged and invisible for its wait. Its followers that are in our hands
 * go back with it, and those that come before its wait is over are sent back: they were on their way already. Who comes
 * later opens the lane. A broker with an ordered group brings it only when its head is done, perhaps by another process;
 * to keep it away longer would let it go round between processes that each have their own idea of the lane.
 */
export type Order = "skip-key" | "block-key" | "block-queue";
export const orders: readonly Order[] = ["skip-key", "block-key", "block-queue"];

type Lane = {
  readonly waiting: Held[];
  head: Held | undefined;
  blocked: { headId: string; untilMs: number } | undefined;
};

/** More lanes than this are looked through for those whose head went elsewhere; then at twice as many as are left. */
const lanesToSweep = 1_000;
/** Who comes before its blocked head is sent back for no less than this. */
export const sentBackMinMs = 1_000;

export class Lanes {
  readonly #order: Order | undefined;
  readonly #lanes = new Map<string, Lane>();
  #sweepAt = lanesToSweep;

  constructor(order: Order | undefined) {
    this.#order = order;
  }

  /** Failed messages must stay with the broker. */
  get blocks(): boolean {
    return this.#order === "block-key" || this.#order === "block-queue";
  }

  /** True when it may be worked on now; false when it waits for its turn; a number: send it back for so long. */
  enter(held: Held, nowMs: number): boolean | number {
    const name = this.laneOf(held);
    if (name === undefined) return true;
    let lane = this.#lanes.get(name);
    if (lane === undefined) {
      if (this.#lanes.size >= this.#sweepAt) this.#sweep(nowMs);
      lane = { waiting: [], head: undefined, blocked: undefined };
      this.#lanes.set(name, lane);
    }
    const { blocked } = lane;
    if (blocked !== undefined) {
      // Later than that, an ordered broker brings a follower only because its head is over, with whomever it was.
      if (blocked.headId !== held.id && nowMs < blocked.untilMs) {
        return Math.max(sentBackMinMs, blocked.untilMs - nowMs);
      }
      lane.blocked = undefined;
    }
    if (lane.head === undefined) {
      lane.head = held;
      return true;
    }
    lane.waiting.push(held);
    return false;
  }

  /** Its turn is over; answers whose turn it is now. */
  leave(held: Held): Held | undefined {
    const name = this.laneOf(held);
    const lane = name === undefined ? undefined : this.#lanes.get(name);
    if (lane === undefined || lane.head !== held) return undefined;
    lane.head = lane.waiting.shift();
    if (lane.head === undefined && lane.blocked === undefined) this.#lanes.delete(name!);
    return lane.head;
  }

  /** Nothing of its lane goes on before it is here again; answers its followers, who go back as well. */
  block(held: Held, untilMs: number): readonly Held[] {
    const name = this.laneOf(held);
    const lane = name === undefined ? undefined : this.#lanes.get(name);
    if (lane === undefined) return [];
    lane.blocked = { headId: held.id, untilMs };
    lane.head = undefined;
    return lane.waiting.splice(0);
  }

  /** It is in other hands by now, and its lane goes where it is; answers its followers that are still here. */
  abandon(held: Held): readonly Held[] {
    const name = this.laneOf(held);
    const lane = name === undefined ? undefined : this.#lanes.get(name);
    if (lane === undefined || lane.head !== held) return [];
    this.#lanes.delete(name!);
    return lane.waiting.splice(0);
  }

  /** Somebody of its lane is here already. */
  isBehind(held: Held): boolean {
    const name = this.laneOf(held);
    return name !== undefined && this.#lanes.get(name)?.head !== undefined;
  }

  get size(): number {
    return this.#lanes.size;
  }

  /** Everyone who waits for a turn; they have none any more. */
  clear(): readonly Held[] {
    return [...this.#lanes.values()].flatMap((lane) => lane.waiting.splice(0));
  }

  #sweep(nowMs: number): void {
    for (const [name, { head, blocked }] of this.#lanes) {
      if (head === undefined && (blocked === undefined || blocked.untilMs <= nowMs)) this.#lanes.delete(name);
    }
    this.#sweepAt = Math.max(lanesToSweep, 2 * this.#lanes.size);
  }

  /** Undefined: it has no order. */
  laneOf({ message, ofRetryTopic }: Held): string | undefined {
    if (this.#order === undefined || ofRetryTopic) return undefined;
    if (this.#order === "block-queue") return `${message.topic}/${message.queueId ?? 0}`;
    return message.messageGroup === undefined ? undefined : `${message.topic}/${message.messageGroup}`;
  }
}
