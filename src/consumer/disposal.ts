import type { IncomingMessage } from "../ingest/topic-source.port.ts";
import type { Clock } from "../runtime/clock.ts";
import { reach } from "../runtime/failpoint.ts";
import type { Log } from "../runtime/log.ts";
import type { Work } from "./consumer-parts.ts";
import type { ConsumerStats } from "./consumer-stats.ts";
import type { ReceiptOutcome } from "./delivery-source.port.ts";
import { askAgainMs, type Disposition, invisibleFor } from "./disposition.ts";
import { handOverOf } from "./hand-over.ts";
import { fallbackMaxMs, type HandOvers } from "./hand-overs.ts";
import type { InHand } from "./held.ts";
import { type Lanes, sentBackMinMs } from "./order.ts";
import type { Remembered } from "./remembered.ts";

/**
 * Carries out what was decided about a message: hands it over and then acknowledges it, or gives it back to the broker.
 * In this order always, so that there is no instant at which nobody has it.
 */
export type DisposalOptions<T> = {
  readonly inHand: InHand;
  readonly handOvers: HandOvers;
  readonly remembered: Remembered;
  readonly lanes: Lanes;
  readonly retryTopic: string;
  readonly stats: ConsumerStats;
  readonly clock: Clock;
  readonly log: Log;
  /** Its lane goes on. */
  readonly next: (work: Work<T>) => void;
  /** There is room again, and perhaps something to do. */
  readonly changed: () => void;
};

const waitCounts = { retry: "retried", snooze: "snoozed", defer: "deferred", return: "returned" } as const;

export class Disposal<T> {
  readonly #options: DisposalOptions<T>;
  readonly #underWay = new Set<Promise<void>>();

  constructor(options: DisposalOptions<T>) {
    this.#options = options;
  }

  get isBusy(): boolean {
    return this.#underWay.size > 0;
  }

  /** Resolves when something that is under way has ended. */
  oneEnded(): Promise<void> {
    return Promise.race(this.#underWay);
  }

  dispose(work: Work<T>, disposition: Disposition): void {
    this.#track(work, this.#carryOut(work, disposition));
  }

  /** Whose turn it is not: the broker brings it again behind its head. */
  sendBack(work: Work<T>, invisibleMs: number): void {
    this.#track(work, this.#sendBack(work, invisibleMs));
  }

  /** It went stale before anything was done with it. Should it come here again, it did not crash. */
  drop(work: Work<T>): void {
    const nextDelivery = work.message.deliveryAttempt + 1;
    this.#options.remembered.gaveBack(work.id, { nextDelivery, envelope: work.envelope });
    this.#track(work, this.#letGo(work));
  }

  /** Where its lane must not go on without it, its followers go too: they are as old as it is. */
  async #letGo(work: Work<T>): Promise<void> {
    const { inHand, lanes, next } = this.#options;
    inHand.release(work);
    if (!lanes.blocks) return next(work);
    const followers = lanes.abandon(work) as readonly Work<T>[];
    await Promise.all(followers.map((follower) => this.#sendBack(follower, sentBackMinMs)));
  }

  #track(work: Work<T>, act: Promise<void>): void {
    const { log, inHand, next, changed } = this.#options;
    const tracked = act
      .catch((error: unknown) => {
        // A bug of ours: the message is left to its invisibility, and comes again as a crash.
        log.error({ err: error, id: work.id }, "unexpected error while a message was disposed of");
        inHand.release(work);
        next(work);
      })
      .finally(() => {
        this.#underWay.delete(tracked);
        changed();
      });
    this.#underWay.add(tracked);
  }

  async #carryOut(work: Work<T>, disposition: Disposition): Promise<void> {
    const { lanes, handOvers, retryTopic, stats, clock } = this.#options;
    if (disposition.kind === "done") return this.#acknowledge(work);
    // It comes again, or has come to somebody else: what we would hand over is theirs to decide.
    if (work.stale) return this.#letGo(work);
    if (lanes.blocks && disposition.kind !== "dead" && !work.ofRetryTopic) {
      this.#count(disposition);
      return this.#giveBack(work, disposition, invisibleFor(disposition, clock.nowMs()));
    }
    if (await handOvers.add(handOverOf(work.message, disposition, retryTopic))) {
      reach("handed-over");
      this.#count(disposition);
      return this.#acknowledge(work);
    }
    stats.notHandedOver++;
    // Back before its wait is over, it is handed over once more.
    const waitMs = Math.min(invisibleFor(disposition, clock.nowMs()), fallbackMaxMs);
    return this.#giveBack(work, disposition, work.mustBeHandedOver ? Math.max(waitMs, askAgainMs) : waitMs);
  }

  #count(disposition: Exclude<Disposition, { kind: "done" }>): void {
    const { stats } = this.#options;
    if (disposition.kind === "park") stats.parked++;
    else if (disposition.kind === "dead") stats.dead++;
    else stats[waitCounts[disposition.why]]++;
  }

  async #acknowledge(work: Work<T>): Promise<void> {
    const { inHand, remembered, stats, next } = this.#options;
    remembered.finished(work.id);
    // Its followers need not wait for the broker's word; should it be lost, this one comes again and is known.
    next(work);
    let outcome: ReceiptOutcome;
    let acknowledged: IncomingMessage;
    do {
      acknowledged = work.message;
      outcome = await inHand.ack(work);
      // It came again meanwhile (the broker was away for long): that delivery has a receipt of its own.
    } while (work.message !== acknowledged);
    inHand.release(work);
    if (outcome === "done" && !work.doubtful) remembered.acknowledged(work.id);
    if (outcome !== "done") stats.notAcknowledged++;
  }

  /** Leaves it to the broker for a while. What was decided stays remembered here. */
  async #giveBack(
    work: Work<T>,
    disposition: Exclude<Disposition, { kind: "done" }>,
    invisibleMs: number,
  ): Promise<void> {
    const { inHand, remembered, lanes, clock, next } = this.#options;
    const isItsWay = lanes.blocks && disposition.kind !== "dead";
    remembered.gaveBack(work.id, {
      nextDelivery: work.message.deliveryAttempt + 1,
      envelope: disposition.envelope,
      ...(isItsWay ? undefined : { pending: disposition, mustBeHandedOver: work.mustBeHandedOver }),
    });
    const untilMs = clock.monotonicMs() + invisibleMs;
    const followers = lanes.blocks ? (lanes.block(work, untilMs) as readonly Work<T>[]) : [];
    if (!lanes.blocks) next(work);
    await Promise.all([
      inHand.giveBack(work, invisibleMs),
      ...followers.map((follower) => this.#sendBack(follower, invisibleMs)),
    ]);
  }

  async #sendBack(work: Work<T>, invisibleMs: number): Promise<void> {
    const nextDelivery = work.message.deliveryAttempt + 1;
    this.#options.remembered.gaveBack(work.id, { nextDelivery, envelope: work.envelope });
    await this.#options.inHand.giveBack(work, invisibleMs);
  }
}
