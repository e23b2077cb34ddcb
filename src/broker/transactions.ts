import { code } from "../protocol/messaging-service.ts";
import { reach } from "../runtime/failpoint.ts";
import type { Log } from "../runtime/log.ts";
import { Loop } from "../runtime/loop.ts";
import type { Timers } from "../runtime/timers.ts";
import { BrokerError } from "./broker-error.ts";
import type { BrokerMessage, StoredMessage } from "./broker-message.ts";
import type { Deliveries, Delivery } from "./delivery/deliveries.port.ts";
import { unwrap, wrap } from "./message-envelope.ts";
import { halfTopic, transactionGroup } from "./names.ts";

/**
 * Transactional messages, on the machinery that delivers ordinary ones. A half message lies in a topic of the broker's
 * own and is received by the broker itself, as its only consumer: ending a transaction acknowledges it, a check is
 * nothing but its redelivery, the number of checks is its attempt, and when these are used up it becomes a dead letter.
 * So open transactions survive a restart as unacknowledged messages do.
 *
 * Unlike RocketMQ 5.5.0 an ended transaction is remembered while it could be ended again, so that a second answer,
 * from the client or a check, is refused and makes no second copy. What remains: a broker that dies between storing
 * the committed message and noting the end asks again, and a commit then stores it twice.
 */
export type TransactionOptions = {
  readonly deliveries: Deliveries;
  /** Stores messages that are not transactional (any more); resolves with the offset when durable. */
  readonly append: (topic: string, queueId: number, messages: readonly BrokerMessage[]) => Promise<number>;
  readonly deliver: (message: BrokerMessage) => Promise<unknown>;
  readonly checkAfterMs: number;
  readonly timers: Timers;
  readonly log: Log;
};

/** RocketMQ asks first after 6 s and then every 30 s; one number is easier to reason about. */
export const checkAfterMsDefault = 6_000;
/** Checks before a half message is set aside: RocketMQ's number. */
export const checksMax = 15;
/** A receive call of the check loop waits this long; a stop ends it at once. */
const pollMs = 20_000;
const takenAtOnce = 32;
/** Ended transactions that are remembered; a check that is still on its way to a client is answered within seconds. */
const endedMax = 10_000;

type Half = {
  handle: string;
  readonly message: BrokerMessage;
  /** Its end is being stored. Nobody else may end it meanwhile, and nobody is asked about it. */
  isEnding: boolean;
};

export class Transactions {
  readonly #options: TransactionOptions;
  readonly #open = new Map<string, Half>();
  readonly #ended = new Set<string>();
  readonly #beginning = new Map<string, { readonly resolve: () => void; readonly reject: (error: Error) => void }>();
  #stopped: BrokerError | undefined;
  readonly #loop: Loop;
  #ask: (message: StoredMessage, transactionId: string) => boolean = () => false;

  constructor(options: TransactionOptions) {
    this.#options = options;
    const { timers, log } = options;
    this.#loop = new Loop({ name: "transaction checks", timers, log, runOnce: (signal) => this.#check(signal) });
  }

  start(): void {
    this.#loop.start();
  }

  /** What has begun stays open for the next start; who has not heard of it yet is told. */
  async stop(): Promise<void> {
    this.#stopped = new BrokerError(code.internalServerError, "the broker is stopping");
    for (const { reject } of this.#beginning.values()) reject(this.#stopped);
    await this.#loop.stop();
  }

  onCheck(ask: (message: StoredMessage, transactionId: string) => boolean): void {
    this.#ask = ask;
  }

  /** @returns the transaction's id; the half message is durable then. */
  async begin(message: BrokerMessage): Promise<{ readonly transactionId: string; readonly queueOffset: number }> {
    const queueOffset = await this.#options.append(halfTopic, 0, [asHalf(message)]);
    reach("half-stored");
    const transactionId = idOf(queueOffset, message.messageId);
    // The broker must have received it itself before the client may end it; whichever receive call brings it.
    if (this.#stopped !== undefined) throw this.#stopped;
    if (!this.#open.has(transactionId)) {
      const begun = new Promise<void>((resolve, reject) => {
        this.#beginning.set(transactionId, { resolve, reject });
      });
      void this.#take(0, new AbortController().signal).catch(() => {}); // The loop brings it when this one fails.
      await begun.finally(() => this.#beginning.delete(transactionId));
    }
    return { transactionId, queueOffset };
  }

  /** @throws BrokerError when there is no open transaction of that id, or its end could not be stored. */
  async end(transactionId: string, resolution: "commit" | "rollback"): Promise<void> {
    const half = this.#open.get(transactionId);
    if (half === undefined || half.isEnding) {
      throw new BrokerError(
        code.internalServerError,
        "there is no such open transaction: it was ended already, or given up after too many checks",
      );
    }
    half.isEnding = true;
    try {
      if (resolution === "commit") {
        await this.#options.deliver(half.message);
        reach("committed");
      }
    } finally {
      half.isEnding = false;
    }
    this.#open.delete(transactionId);
    this.#remember(transactionId);
    await this.#done(half.handle);
  }

  /**
   * Too many checks: from now on it cannot be ended.
   * @returns false when it was ended after all. @throws while its end is being stored; ask again then
   */
  giveUp({ queueOffset, messageId }: StoredMessage): boolean {
    const transactionId = idOf(queueOffset, messageId);
    if (this.#ended.has(transactionId)) return false;
    if (this.#open.get(transactionId)?.isEnding) throw new Error("the end of this transaction is being stored");
    this.#open.delete(transactionId);
    return true;
  }

  async #check(signal: AbortSignal): Promise<number> {
    await this.#take(pollMs, signal);
    return 0;
  }

  async #take(waitMs: number, signal: AbortSignal): Promise<void> {
    const { deliveries, checkAfterMs } = this.#options;
    const request = { group: transactionGroup, topic: halfTopic, filter: { tags: new Set<string>() } };
    const taken = await deliveries.receive({ ...request, max: takenAtOnce, invisibleMs: checkAfterMs, waitMs }, signal);
    for (const delivery of taken) this.#received(delivery);
  }

  #received({ message: stored, handle, attempt }: Delivery): void {
    const transactionId = idOf(stored.queueOffset, stored.messageId);
    if (this.#ended.has(transactionId)) {
      // When that cannot be stored it comes once more.
      return void this.#done(handle).catch(() => {});
    }
    const known = this.#open.get(transactionId);
    if (known?.isEnding) {
      known.handle = handle;
      return;
    }
    const message = unwrap(stored.body);
    this.#open.set(transactionId, { handle, message, isEnding: false });
    this.#beginning.get(transactionId)?.resolve();
    if (attempt === 1) return;
    const { queueId, queueOffset, storedAtMs } = stored;
    const asked = this.#ask({ ...message, queueId, queueOffset, storedAtMs }, transactionId);
    if (asked) return;
    this.#options.log.warn(
      { topic: message.topic, transactionId, check: attempt - 1, of: checksMax },
      "an open transaction could not be checked: no producer of its topic is connected",
    );
  }

  async #done(handle: string): Promise<void> {
    await this.#options.deliveries.acknowledge(transactionGroup, halfTopic, [handle]);
  }

  #remember(transactionId: string): void {
    this.#ended.add(transactionId);
    if (this.#ended.size <= endedMax) return;
    for (const oldest of this.#ended) {
      this.#ended.delete(oldest);
      break;
    }
  }
}

/** Message ids are only as unique as producers make them; the place in the half topic is. */
const idOf = (queueOffset: number, messageId: string): string => `${queueOffset.toString(36)}-${messageId}`;

const empty = Buffer.alloc(0);

const asHalf = (message: BrokerMessage): BrokerMessage => ({
  topic: halfTopic,
  messageId: message.messageId,
  type: "TRANSACTION",
  tag: undefined,
  messageGroup: undefined,
  deliverAtMs: undefined,
  userProperties: empty,
  systemProperties: empty,
  body: wrap(message),
});
