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
 * go back with it, and those that come before it are sent back, until it is here again. A broker with an ordered group
 * does not bring them before their head; what is here is for the others, and for what was already on its way.
 */
export type Order = "skip-key" | "block-key" | "block-queue";
export const orders: readonly Order[] = ["skip-key", "block-key", "block-queue"];

type Lane = {
  readonly waiting: Held[];
  head: Held | undefined;
  blocked: { headId: string; untilMs: number } | undefined;
};

/** Who comes before its blocked head is sent back for no less than this. */
export const sentBackMinMs = 1_000;

export class Lanes {
  readonly #order: Order | undefined;
  readonly #lanes = new Map<string, Lane>();

  constructor(order: Order | undefined) {
    this.#order = order;
  }

  /** Failed messages must stay with the broker. */
  get blocks(): boolean {
    return this.#order === "block-key" || this.#order === "block-queue";
  }

  /** True when it may be worked on now; false when it waits for its turn; a number: send it back for so long. */
  enter(held: Held, nowMs: number): boolean | number {
    const name = this.#nameOf(held);
    if (name === undefined) return true;
    let lane = this.#lanes.get(name);
    if (lane === undefined) {
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
    const name = this.#nameOf(held);
    const lane = name === undefined ? undefined : this.#lanes.get(name);
    if (lane === undefined || lane.head !== held) return undefined;
    lane.head = lane.waiting.shift();
    if (lane.head === undefined && lane.blocked === undefined) this.#lanes.delete(name!);
    return lane.head;
  }

  /** Nothing of its lane goes on before it is here again; answers its followers, who go back as well. */
  block(held: Held, untilMs: number): readonly Held[] {
    const name = this.#nameOf(held);
    const lane = name === undefined ? undefined : this.#lanes.get(name);
    if (lane === undefined) return [];
    lane.blocked = { headId: held.id, untilMs };
    lane.head = undefined;
    return lane.waiting.splice(0);
  }

  /** Everyone who waits for a turn; they have none any more. */
  clear(): readonly Held[] {
    return [...this.#lanes.values()].flatMap((lane) => lane.waiting.splice(0));
  }

  #nameOf({ message, ofRetryTopic }: Held): string | undefined {
    if (this.#order === undefined || ofRetryTopic) return undefined;
    if (this.#order === "block-queue") return `${message.topic}/${message.queueId ?? 0}`;
    return message.messageGroup === undefined ? undefined : `${message.topic}/${message.messageGroup}`;
  }
}
