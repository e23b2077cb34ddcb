import type {
  ChangeOutcome,
  DeliverySource,
  ReceiptOutcome,
  Taken,
} from "../../../src/consumer/delivery-source.port.ts";
import type { IncomingMessage } from "../../../src/ingest/topic-source.port.ts";
import { epochMs } from "../../../src/message/time.ts";
import { decodeEnvelope } from "../../../src/retry/envelope-codec.ts";
import type { Prng } from "../prng.ts";
import type { SimNode } from "../sim-node.ts";
import type { Broker } from "../sim-sink.ts";
import { epochStartMs } from "../world.ts";
import type { Book, Delivery, Entry } from "./book.ts";

/**
 * One topic and the consumer group that receives it: a message that was given out is invisible for a while and comes
 * again, to anybody, with a higher count; receipts go stale; what was acknowledged is gone, unless the broker forgets.
 * With an ordered group, what shares a lane comes one after the other's acknowledgement.
 */
type Kept = {
  readonly entry: Entry;
  readonly message: Omit<IncomingMessage, "deliveryAttempt" | "receipt">;
  readonly lane: string | undefined;
  hiddenUntilMs: number;
  receipt: number;
};

export type GroupTroubles = { lostReply: number; duplicate: number };

/** Carried as a user's property would be, so every hand-over tells which copy it was made of. */
export const entryProperty = "sim-entry";

const longPollMs = 5_000;
/** What a call that nobody answers takes. */
const callTimeoutMs = 3_000;

export class GroupTopic {
  readonly name: string;
  /** What a planted bug makes of a delivery. */
  received: (message: IncomingMessage) => IncomingMessage = (message) => message;
  readonly troubles: GroupTroubles = { lostReply: 0, duplicate: 0 };
  readonly #broker: Broker;
  readonly #book: Book;
  readonly #invisibleMs: number;
  readonly #random: Prng;
  readonly #kept: Kept[] = [];
  readonly #waiting = new Set<() => void>();
  #receipts = 0;

  constructor(name: string, broker: Broker, book: Book, invisibleMs: number) {
    this.name = name;
    this.#broker = broker;
    this.#book = book;
    this.#invisibleMs = invisibleMs;
    this.#random = broker.world.random.fork(`topic ${name}`);
  }

  get unacknowledged(): readonly Entry[] {
    return this.#kept.map(({ entry }) => entry);
  }

  /** @param lane what is delivered in order; undefined: no order */
  store(
    name: string,
    properties: ReadonlyMap<string, string>,
    more: { messageGroup?: string; queueId?: number; lane?: string } = {},
  ): void {
    const { world } = this.#broker;
    const text = properties.get("ESC_RETRY");
    const decoded = text === undefined ? undefined : decodeEnvelope(text);
    const entry: Entry = {
      number: this.#book.entries.length,
      name,
      topic: this.name,
      storedMs: world.nowMs,
      envelope: decoded?.ok === true ? decoded.envelope : undefined,
      deliveries: [],
      ackedMs: undefined,
      duplicated: false,
    };
    this.#book.entries.push(entry);
    const sent = this.#book.sent.get(name);
    if (sent === undefined) throw new Error(`bug of the simulation: ${name} was never sent`);
    sent.entries.push(entry);
    const { lane, ...said } = more;
    this.#kept.push({
      entry,
      message: {
        brokerMessageId: `0A${String(entry.number).padStart(30, "0")}`,
        bornHost: "10.0.0.8:6000",
        bornAtMs: epochMs(Math.floor(epochStartMs + world.nowMs)),
        topic: this.name,
        keys: [],
        properties,
        body: Buffer.from(name),
        ...said,
      },
      lane,
      hiddenUntilMs: 0,
      receipt: 0,
    });
    world.trace.say(this.name, `has ${name}${entry.envelope === undefined ? "" : `, ${wordsOf(entry)}`}`, [name]);
    this.#look();
  }

  source(node: SimNode): DeliverySource {
    return {
      topic: this.name,
      receive: (max, signal) => this.#receive(node, max, signal),
      ack: (taken) =>
        this.#call<readonly ReceiptOutcome[]>(
          node,
          taken,
          () => taken.map((one) => this.#ack(node, one)),
          taken.map(() => "failed"),
        ),
      changeInvisible: (taken, invisibleMs) =>
        this.#call<ChangeOutcome>(node, [taken], () => this.#change(node, taken, invisibleMs), { outcome: "failed" }),
      close: async () => {},
    };
  }

  // --- giving out -----------------------------------------------------------------------------------------------

  #receive(node: SimNode, max: number, signal: AbortSignal): Promise<readonly IncomingMessage[]> {
    const { world } = this.#broker;
    return new Promise((resolve, reject) => {
      if (this.#broker.isDown) {
        world.after(this.#random.between(1, 10), node, () => reject(new Error("broker_unavailable")));
        return;
      }
      let isOver = false;
      const end = (): void => {
        isOver = true;
        this.#waiting.delete(look);
        signal.removeEventListener("abort", stop);
      };
      const stop = (): void => {
        if (isOver) return;
        end();
        world.after(this.#random.between(0.2, 1), node, () => resolve([]));
      };
      const look = (): void => {
        if (isOver || this.#broker.isDown) return;
        const given = this.#give(node, max);
        if (given.length === 0) return;
        end();
        if (given[0]!.delivery.isLost) {
          world.after(callTimeoutMs, node, () => reject(new Error("broker_unavailable")));
        } else
          world.after(this.#random.between(0.2, 1), node, () =>
            resolve(given.map(({ message }) => this.received(message))),
          );
      };
      signal.addEventListener("abort", stop, { once: true });
      this.#waiting.add(look);
      look();
      world.after(longPollMs, node, () => {
        // A connection to a broker that is down is noticed at last.
        if (this.#broker.isDown && !isOver) {
          end();
          reject(new Error("broker_unavailable"));
        } else stop();
      });
    });
  }

  #give(node: SimNode, max: number): { message: IncomingMessage; delivery: Delivery }[] {
    const { world } = this.#broker;
    if (!node.alive) return [];
    const isLost = this.#random.chance(this.troubles.lostReply / 3);
    const given: { message: IncomingMessage; delivery: Delivery }[] = [];
    const busy = new Set<string>();
    for (const kept of this.#kept) {
      if (given.length === max) break;
      if (kept.lane !== undefined && busy.has(kept.lane)) continue;
      if (kept.hiddenUntilMs > world.nowMs) {
        if (kept.lane !== undefined) busy.add(kept.lane);
        continue;
      }
      const { entry } = kept;
      kept.hiddenUntilMs = world.nowMs + this.#invisibleMs;
      kept.receipt = ++this.#receipts;
      const number = entry.deliveries.length + 1;
      const delivery: Delivery = {
        entry,
        number,
        node,
        atMs: world.nowMs,
        isLost,
        changedMs: [],
        hadTrouble: isLost,
      };
      this.#checkRedelivery(entry, node);
      entry.deliveries.push(delivery);
      world.trace.say(
        this.name,
        `gives ${entry.name} to ${node.name}, delivery ${number}${isLost ? ", which is lost" : ""}`,
        [entry.name],
      );
      given.push({
        message: {
          ...kept.message,
          properties: new Map(kept.message.properties).set(entryProperty, `${entry.number}/${number}`),
          deliveryAttempt: number,
          receipt: kept.receipt,
        },
        delivery,
      });
    }
    if (given.length > 0) this.#lookAfter(this.#invisibleMs);
    return given;
  }

  /** A message comes again only when its holder is in trouble, or has given it back. */
  #checkRedelivery(entry: Entry, node: SimNode): void {
    const last = entry.deliveries.at(-1);
    if (last === undefined || entry.duplicated) return;
    const holder = last.node;
    const { nowMs } = this.#broker.world;
    // A holder that is out of time was renewed when half of it was over, and again and again.
    const isExplained =
      !holder.alive ||
      entry.deliveries.some((delivery) => delivery.node === holder && delivery.hadTrouble) ||
      last.changedMs.length > 0 ||
      this.#book.hadTrouble(holder, last.atMs, nowMs);
    if (isExplained) return;
    this.#book.violated(
      "C2 nothing is given out again while its holder is well",
      `${entry.name} comes to ${node.name}, and ${holder.name} has it since ${(last.atMs / 1000).toFixed(3)} s`,
      entry.name,
    );
  }

  #look(): void {
    for (const look of [...this.#waiting]) look();
  }

  #lookAfter(ms: number): void {
    this.#broker.world.after(ms + 0.01, undefined, () => this.#look());
  }

  // --- answers --------------------------------------------------------------------------------------------------

  #call<T>(node: SimNode, taken: readonly Taken[], effect: () => T, failed: T): Promise<T> {
    const { world } = this.#broker;
    return new Promise((resolve) => {
      const fate = this.#random.float();
      const { lostReply } = this.troubles;
      const deliveries = taken.map(({ receipt }) =>
        this.#kept.find((one) => one.receipt === receipt)?.entry.deliveries.at(-1),
      );
      const lose = (): void => {
        this.#book.unanswered.push({ node, atMs: world.nowMs });
        for (const delivery of deliveries) if (delivery !== undefined) delivery.hadTrouble = true;
        world.after(callTimeoutMs, node, () => resolve(failed));
      };
      if (fate < lostReply / 2) return lose();
      world.after(this.#random.between(0.2, 1), undefined, () => {
        // What a process sent off just before its end arrives, or does not.
        if (!node.alive && this.#random.chance(0.5)) return;
        if (this.#broker.isDown) return lose();
        const result = effect();
        if (fate < lostReply) lose();
        else world.after(this.#random.between(0.2, 1), node, () => resolve(result));
      });
    });
  }

  #valid(taken: Taken): Kept | undefined {
    const kept = this.#kept.find(({ receipt }) => receipt === taken.receipt);
    return kept !== undefined && kept.hiddenUntilMs > this.#broker.world.nowMs ? kept : undefined;
  }

  #ack(node: SimNode, taken: Taken): ReceiptOutcome {
    const kept = this.#valid(taken);
    if (kept === undefined) return "stale";
    const { world } = this.#broker;
    const { entry } = kept;
    this.#book.acknowledged(entry, node, world.nowMs);
    entry.ackedMs = world.nowMs;
    if (this.#random.chance(this.troubles.duplicate)) {
      world.trace.say(this.name, `forgets that ${node.name} acknowledged ${entry.name}`, [entry.name]);
      entry.duplicated = true;
      return "done";
    }
    world.trace.say(this.name, `${node.name} acknowledges ${entry.name}`, [entry.name]);
    this.#kept.splice(this.#kept.indexOf(kept), 1);
    this.#look();
    return "done";
  }

  #change(node: SimNode, taken: Taken, invisibleMs: number): ChangeOutcome {
    const kept = this.#valid(taken);
    if (kept === undefined) return { outcome: "stale" };
    const { world } = this.#broker;
    kept.hiddenUntilMs = world.nowMs + invisibleMs;
    kept.receipt = ++this.#receipts;
    // Renewals are as long as at first; everything else is a way of giving back.
    if (invisibleMs !== this.#invisibleMs) {
      kept.entry.deliveries.at(-1)!.changedMs.push(world.nowMs);
      world.trace.say(this.name, `${node.name} gives ${kept.entry.name} back for ${invisibleMs} ms`, [kept.entry.name]);
    }
    this.#lookAfter(invisibleMs);
    return { outcome: "done", receipt: kept.receipt };
  }
}

const wordsOf = ({ envelope }: Entry): string =>
  `hop ${envelope!.hop}, ${envelope!.attempt} attempts, ${envelope!.crashes} crashes`;
