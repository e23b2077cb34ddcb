import type { IncomingMessage } from "../ingest/topic-source.port.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Log } from "../runtime/log.ts";
import { Loop } from "../runtime/loop.ts";
import type { Timers } from "../runtime/timers.ts";
import type { DeliverySource, ReceiptOutcome } from "./delivery-source.port.ts";
import { Gather } from "./gather.ts";

/**
 * The messages that are in our hands, and their receipts: renewed for as long as we have them, acknowledged together.
 *
 * A receipt may go stale in our hands (the machine slept, the broker was away for longer than a message is invisible).
 * Then the message comes again, to us or to somebody else, and what we still do with it is for nothing.
 */
export type Held = {
  /** The same for every delivery of it. */
  readonly id: string;
  readonly source: DeliverySource;
  readonly ofRetryTopic: boolean;
  message: IncomingMessage;
  receipt: unknown;
  /** On the monotonic clock. */
  invisibleUntilMs: number;
  stale: boolean;
  /** A renewal got no answer. If it took effect, the broker takes the old receipt and brings the message again. */
  doubtful: boolean;
};

export type InHandOptions = {
  readonly invisibleMs: number;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: Log;
  readonly counted: { stale(): void };
};

/** One call for all costs a fifth of one call each; the proxy brings no more than 32 either. */
const ackBatchMax = 32;
const ackLingerMs = 5;
const acksInFlightMax = 8;
/** Beyond it a broker that answers slowly would get more renewals than it can answer. */
const renewalsAtOnceMax = 16;

export class InHand {
  readonly #options: InHandOptions;
  readonly #held = new Map<string, Held>();
  readonly #acks = new Map<DeliverySource, Gather<Held, ReceiptOutcome>>();
  readonly #renewing: Loop;

  constructor(options: InHandOptions) {
    this.#options = options;
    const { timers, log } = options;
    this.#renewing = new Loop({ name: "renewal of invisibility", timers, log, runOnce: () => this.#renew() });
  }

  start(): void {
    this.#renewing.start();
  }

  /** After it nothing may be in hand any more. */
  async stop(): Promise<void> {
    await Promise.all([...this.#acks.values()].map((acks) => acks.idle()));
    await this.#renewing.stop();
  }

  get size(): number {
    return this.#held.size;
  }

  find(id: string): Held | undefined {
    return this.#held.get(id);
  }

  take(held: Held): void {
    this.#held.set(held.id, held);
  }

  hasBeside(held: Held, isSuch: (other: Held) => boolean): boolean {
    for (const other of this.#held.values()) if (other !== held && isSuch(other)) return true;
    return false;
  }

  /** It came again while we have it: from now on this receipt counts. */
  takeAgain(held: Held, message: IncomingMessage): void {
    held.message = message;
    held.receipt = message.receipt;
    held.stale = false;
    held.doubtful = false;
    held.invisibleUntilMs = this.#options.clock.monotonicMs() + this.#options.invisibleMs;
  }

  /** It is no longer ours. */
  release(held: Held): void {
    if (this.#held.get(held.id) === held) this.#held.delete(held.id);
  }

  ack(held: Held): Promise<ReceiptOutcome> {
    if (held.stale) return Promise.resolve("stale");
    let acks = this.#acks.get(held.source);
    if (acks === undefined) {
      acks = new Gather<Held, ReceiptOutcome>({
        itemsMax: ackBatchMax,
        lingerMs: ackLingerMs,
        inFlightMax: acksInFlightMax,
        timers: this.#options.timers,
        call: (items) => held.source.ack(items),
      });
      this.#acks.set(held.source, acks);
    }
    return acks.add(held);
  }

  /** Makes it invisible for so long and answers whether the broker agreed; it is out of our hands either way. */
  async giveBack(held: Held, invisibleMs: number): Promise<boolean> {
    this.release(held);
    if (held.stale) return false;
    return (await held.source.changeInvisible(held, Math.round(invisibleMs))).outcome === "done";
  }

  /** Renewed when half of it is over, so that a broker may be away for the other half. */
  async #renew(): Promise<number> {
    const { clock, invisibleMs, counted } = this.#options;
    const dueMs = clock.monotonicMs() + invisibleMs / 2;
    const due = [...this.#held.values()].filter((held) => !held.stale && held.invisibleUntilMs <= dueMs);
    let next = 0;
    const worker = async (): Promise<void> => {
      for (let held = due[next++]; held !== undefined; held = due[next++]) {
        if (this.#held.get(held.id) !== held) continue;
        const { receipt } = held;
        const askedAtMs = clock.monotonicMs();
        const change = await held.source.changeInvisible(held, invisibleMs);
        // It came again meanwhile; the new receipt knows nothing of this.
        if (held.receipt !== receipt) continue;
        if (change.outcome === "done") {
          held.receipt = change.receipt;
          held.invisibleUntilMs = askedAtMs + invisibleMs;
        } else if (change.outcome === "failed") {
          held.doubtful = true;
        } else if (this.#held.get(held.id) === held) {
          held.stale = true;
          counted.stale();
        }
      }
    };
    await Promise.all(Array.from({ length: Math.min(renewalsAtOnceMax, due.length) }, worker));
    return Math.min(1_000, invisibleMs / 8);
  }
}
