import type { RedriveWitness } from "../dead/redrive-witness.port.ts";
import type { DelayStore, ScheduleResult } from "../delay/delay-store.port.ts";
import type { Parking } from "../dependencies/parking.port.ts";
import { isEscapementError } from "../message/errors.ts";
import { groupTail, type MessageId, nameBasedId, shardOf } from "../message/id.ts";
import { ingestProperty } from "../message/ingest-properties.ts";
import type { DelayedMessage } from "../message/message.ts";
import { retryProperty } from "../message/retry-properties.ts";
import type { Clock } from "../runtime/clock.ts";
import { reach } from "../runtime/failpoint.ts";
import type { Log } from "../runtime/log.ts";
import type { Random } from "../runtime/random.ts";
import { type Admitted, admitMessage } from "./admit.ts";
import { type HandOver, readHandOver, withEnvelope } from "./hand-over.ts";
import type { IncomingMessage, TopicSource } from "./topic-source.port.ts";

/**
 * The way in by RocketMQ topic: any RocketMQ client sends to the ingest topic as it sends to any other, and says in
 * properties where and when the message shall go. Received in batches, stored, and only then acknowledged, all in one
 * call. What cannot be admitted is kept among the dead with the reason; it is never dropped and holds up nothing.
 *
 * What a consumer hands over because it failed, or could not try, comes this way too (hand-over.ts): it is one of the
 * waiting like any other, is parked, or joins the dead.
 *
 * A message may come twice (its ack was lost). Its id is therefore made from what stays the same then: the sender's
 * message id, host, time and content. The sender's id alone will not do, two containers can make equal ones.
 */

/**
 * Left behind by the transaction in which a message was sent. They speak to the broker and to the sender: sent on, the
 * broker would take a half for checked before it was.
 */
const ofItsTransaction = ["__transactionId__", "TRANSACTION_CHECK_TIMES", "ESC_TX"];

const notSentOn: ReadonlySet<string> = new Set([
  ...Object.values(ingestProperty),
  ...Object.values(retryProperty),
  ...ofItsTransaction,
]);

export type TopicReceiverOptions = {
  readonly source: TopicSource;
  readonly store: DelayStore;
  /** Stores an admitted message; resolves when it is durable. */
  readonly accept: (admitted: Admitted) => Promise<ScheduleResult>;
  readonly parking: Parking;
  /** Hears of messages that fail again after they were brought back from the dead. */
  readonly redrives?: RedriveWitness;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly tenant: string;
  readonly ownTopics: ReadonlySet<string>;
  readonly counted: { accepted(count: number): void; refused(code: string): void };
  /** True while the store must not be written to: nothing is fetched then. */
  readonly paused: () => boolean;
};

/** Asked again this soon while the store must not be written to. */
const pausedRetryMs = 500;

/** Below the time after which the broker gives unacknowledged messages to somebody else. */
const heldMaxMs = 20_000;

export class TopicReceiver {
  readonly #options: TopicReceiverOptions;
  /** Received, and not stored yet because the store was in trouble: tried again before anything new is fetched. */
  #held: readonly IncomingMessage[] | undefined;
  #heldUntilMs = 0;

  constructor(options: TopicReceiverOptions) {
    this.#options = options;
  }

  /** Receives one batch, stores it, acknowledges what is durable. */
  async runOnce(signal: AbortSignal): Promise<number> {
    const { source, counted, paused } = this.#options;
    if (paused()) return pausedRetryMs;
    const messages = this.#heldStillOurs() ?? (await source.receive(signal));
    if (messages.length === 0) return 0;
    const outcomes = await Promise.allSettled(messages.map((message) => this.#take(message)));
    const durable = messages.filter((_, i) => outcomes[i]!.status === "fulfilled");
    reach("ingest-stored");
    if (durable.length === messages.length) this.#held = undefined;
    if (durable.length > 0) await source.ack(durable);
    counted.accepted(durable.length);
    const failed = outcomes.find((outcome) => outcome.status === "rejected");
    if (failed === undefined) return 0;
    // A bug of ours is not held: it would keep everything behind it waiting.
    this.#hold(messages.filter((_, i) => isEscapementError((outcomes[i] as Partial<PromiseRejectedResult>).reason)));
    // The loop waits a little before the next try.
    throw failed.reason;
  }

  /** The broker would bring them again by itself, but only when they become visible: 30 s late for a blip of the store. */
  #hold(messages: readonly IncomingMessage[]): void {
    if (this.#held === undefined) this.#heldUntilMs = this.#options.clock.monotonicMs() + heldMaxMs;
    this.#held = messages.length > 0 ? messages : undefined;
  }

  #heldStillOurs(): readonly IncomingMessage[] | undefined {
    const held = this.#held;
    if (held === undefined || this.#options.clock.monotonicMs() < this.#heldUntilMs) return held;
    this.#held = undefined;
    return undefined;
  }

  /** Resolves when the message is durable somewhere: among the waiting or among the dead. */
  async #take(incoming: IncomingMessage): Promise<void> {
    const { accept, counted, parking, clock } = this.#options;
    try {
      const handOver = readHandOver(incoming, clock.nowMs());
      const admitted = this.#admit(incoming, handOver);
      if (handOver?.kind === "dead") {
        await this.#buryWhole(admitted.message, handOver);
        this.#witness(handOver);
        return;
      }
      const { message } = admitted;
      const result = await accept(
        handOver?.kind === "park"
          ? { ...admitted, message: { ...message, deliverAtMs: await parking.placeFor(handOver.key, clock.nowMs()) } }
          : admitted,
      );
      if (handOver !== undefined) this.#witness(handOver);
      // Replace came too late: the sender cannot be told, and the first message is what holds.
      if (result.outcome === "too_late") counted.refused("too_late");
    } catch (error) {
      // Trouble of ours, not of the message: it stays unacknowledged and comes again.
      if (!isEscapementError(error) || error.status >= 500 || error.status === 429) throw error;
      counted.refused(error.code);
      await this.#bury(incoming, error.code, error.message);
    }
  }

  /** A redriven one begins with no attempts; handed over with one it has failed again, and is not merely deferred. */
  #witness({ kind, envelope }: HandOver): void {
    const { redrive, attempt } = envelope;
    if (redrive !== undefined && (attempt > 0 || kind === "dead")) {
      this.#options.redrives?.failed(redrive, kind === "dead");
    }
  }

  #admit(incoming: IncomingMessage, handOver: HandOver | undefined): Admitted {
    const { clock, random, tenant, ownTopics } = this.#options;
    const said = (name: string): string | undefined => incoming.properties.get(name);
    const properties = new Map<string, string>();
    for (const [name, value] of incoming.properties) if (!notSentOn.has(name)) properties.set(name, value);
    const nowMs = clock.nowMs();
    // Parked or dead, it has no time of its own.
    const deliverAt =
      handOver === undefined || handOver.kind === "retry" ? said(ingestProperty.deliverAt) : String(nowMs);
    const admitted = admitMessage(
      {
        topic: said(ingestProperty.topic),
        body: incoming.body,
        tag: incoming.tag,
        keys: incoming.keys.length === 0 ? undefined : incoming.keys,
        properties,
        messageGroup: said(ingestProperty.messageGroup) ?? incoming.messageGroup,
        deliverAt,
        delay: said(ingestProperty.delay),
        key: said(ingestProperty.key),
        onConflict: said(ingestProperty.onConflict),
        expireAfter: said(ingestProperty.expireAfter),
      },
      // A delay counts from now, not from the sender's clock: a clock that is behind would make it early.
      { tenant, nowMs, random, tail: 0, options: { textNumbers: true, ownTopics } },
    );
    if (handOver !== undefined) return withEnvelope(admitted, handOver);
    if (admitted.message.key !== undefined) return admitted;
    const { messageGroup } = admitted.message;
    const id = sourceId(incoming, messageGroup === undefined ? undefined : groupTail(tenant, messageGroup));
    return { ...admitted, message: { ...admitted.message, id }, onConflict: "keep" };
  }

  /** What its consumer has given up: kept with its envelope, so that it can be brought back as it was. */
  async #buryWhole(message: DelayedMessage, handOver: HandOver & { readonly kind: "dead" }): Promise<void> {
    const { store, clock } = this.#options;
    const { code, detail } = handOver;
    await store.bury(shardOf(message.id, store.shardCount), [{ message, reason: { code, detail } }], clock.nowMs());
  }

  async #bury(incoming: IncomingMessage, code: string, detail: string): Promise<void> {
    const { store, clock, log, tenant } = this.#options;
    const nowMs = clock.nowMs();
    const topic = incoming.properties.get(ingestProperty.topic) ?? incoming.topic;
    const message: DelayedMessage = {
      id: sourceId(incoming, undefined),
      tenant,
      // An operator must be able to see what was sent, so everything is kept as it came.
      topic: topic.slice(0, 127),
      ...(incoming.tag === undefined ? undefined : { tag: incoming.tag }),
      keys: incoming.keys,
      properties: incoming.properties,
      body: incoming.body,
      deliverAtMs: nowMs,
      acceptedAtMs: nowMs,
      attempt: 0,
    };
    await store.bury(shardOf(message.id, store.shardCount), [{ message, reason: { code, detail } }], nowMs);
    log.warn({ id: message.id, topic, code, detail }, "ingest message cannot be admitted and was kept among the dead");
  }
}

/**
 * The same for every delivery of one sent message. Without a group, the tail is made from the sender and the second
 * of sending (all of a standard message id but its counter), so that what is received together shares store calls.
 */
const sourceId = (incoming: IncomingMessage, tail: number | undefined): MessageId => {
  const { brokerMessageId, bornHost, bornAtMs } = incoming;
  const parts = ["ingest", brokerMessageId, bornHost, String(bornAtMs), String(incoming.body.length)];
  const origin =
    brokerMessageId.length === standardIdLength ? brokerMessageId.slice(0, -counterLength) : brokerMessageId;
  return nameBasedId(parts, tail ?? groupTail("ingest", origin));
};

/** A RocketMQ 5 message id: version, MAC, process, seconds and an 8-digit counter, in hexadecimal. */
const standardIdLength = 34;
const counterLength = 8;
