import { code } from "../protocol/messaging-service.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Log } from "../runtime/log.ts";
import { Loop } from "../runtime/loop.ts";
import type { Timers } from "../runtime/timers.ts";
import type { Broker, GroupInfo, SendReceipt, TopicInfo } from "./broker.port.ts";
import { BrokerError } from "./broker-error.ts";
import type { BrokerMessage, StoredMessage } from "./broker-message.ts";
import { attemptsMaxDefault, type Catalog } from "./catalog.ts";
import { withDeadLetterOrigin } from "./dead-letter.ts";
import type { DelayRoom } from "./delay-room.port.ts";
import type { Delivery, DeliveryRules, Progress, ReceiveRequest } from "./delivery/deliveries.port.ts";
import type { PopDeliveries } from "./delivery/pop-deliveries.ts";
import { javaHash } from "./java-hash.ts";
import {
  checkGroupName,
  checkTopicName,
  deadLetterTopic,
  discardedTopic,
  halfTopic,
  transactionGroup,
} from "./names.ts";
import { readRecallHandle, recallHandle } from "./recall-handle.ts";
import type { CommitLogStore } from "./storage/commit-log-store.ts";
import { checksMax, Transactions } from "./transactions.ts";

/**
 * The broker itself, joined from its parts: what a message's type means, which queue it goes to, what exists. It knows
 * neither gRPC nor files.
 */
export type LocalBrokerOptions = {
  readonly store: CommitLogStore;
  readonly deliveries: (rules: DeliveryRules) => Promise<PopDeliveries>;
  /** Gives back what is due. */
  readonly delay: (deliver: (message: BrokerMessage) => Promise<void>) => Promise<DelayRoom>;
  readonly catalog: Catalog;
  readonly transactionCheckMs: number;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: Log;
};

/** RocketMQ's proxy allows a day by default and brokers three; our store has no such limit, and a year is a typing error. */
const delayMsMax = 365 * 86_400_000;
/** What comes in between lies above the bound; in memory that is memory. */
const retentionEveryMs = 1_000;

export class LocalBroker implements Broker {
  readonly #options: LocalBrokerOptions;
  readonly #catalog: Catalog;
  #deliveries!: PopDeliveries;
  #delay!: DelayRoom;
  #transactions!: Transactions;
  readonly #retention: Loop;
  /** Round robin by topic. */
  readonly #turns = new Map<string, number>();
  /** Topics that are being deleted. Who wants one of that name waits, or would get what is on its way out. */
  readonly #deletions = new Map<string, Promise<void>>();

  private constructor(options: LocalBrokerOptions) {
    this.#options = options;
    this.#catalog = options.catalog;
    const { store, clock, timers, log } = options;
    this.#retention = new Loop({
      name: "broker retention",
      timers,
      log,
      runOnce: async () => {
        await store.collect(clock.nowMs(), (topic, queueId) => this.#deliveries.consumedUpTo(topic, queueId));
        return retentionEveryMs;
      },
    });
  }

  static async start(options: LocalBrokerOptions): Promise<LocalBroker> {
    const broker = new LocalBroker(options);
    await broker.#start();
    return broker;
  }

  async #start(): Promise<void> {
    const { timers, log, transactionCheckMs } = this.#options;
    this.#catalog.own(halfTopic);
    this.#catalog.own(discardedTopic);
    for (const [topic, queues] of this.#options.store.topics()) this.#catalog.adopt(topic, queues);
    this.#deliveries = await this.#options.deliveries({
      queueCount: (topic) => this.#catalog.queueCount(topic),
      attemptsMax: (group) => (group === transactionGroup ? checksMax + 1 : this.#catalog.attemptsMax(group)),
      bury: (group, message) => this.#bury(group, message),
    });
    this.#delay = await this.#options.delay((message) => this.#deliver(message).then(() => {}));
    this.#transactions = new Transactions({
      deliveries: this.#deliveries,
      append: (topic, queueId, messages) => this.#options.store.append(topic, queueId, messages),
      deliver: (message) => this.#deliver(message),
      checkAfterMs: transactionCheckMs,
      timers,
      log,
    });
    this.#transactions.start();
    this.#retention.start();
  }

  /** What is under way is finished first. */
  async stop(): Promise<void> {
    try {
      await this.#delay.close();
    } finally {
      await this.#transactions.stop();
      await this.#retention.stop();
      await this.#deliveries.close();
      await this.#catalog.saved().catch((error: unknown) => {
        this.#options.log.warn({ err: error }, "the catalog could not be written: topics made by use will be MIXED");
      });
    }
  }

  topic(name: string): TopicInfo {
    return this.#catalog.topic(name);
  }

  group(name: string): GroupInfo {
    return this.#catalog.group(name);
  }

  async send(messages: readonly BrokerMessage[]): Promise<readonly SendReceipt[]> {
    const [first] = messages;
    if (first === undefined) throw new BrokerError(code.messageCorrupted, "there is no message in the request");
    const { type } = first;
    checkTopicName(first.topic);
    if (this.#deletions.has(first.topic)) await this.#deletions.get(first.topic);
    const topic = this.#catalog.topic(first.topic);
    for (const message of messages) assertType(message, topic);
    if (messages.length > 1 && (type === "DELAY" || type === "TRANSACTION")) {
      throw new BrokerError(code.internalServerError, `${type} messages are sent one at a time`);
    }
    if (type === "TRANSACTION") {
      const { transactionId, queueOffset } = await this.#transactions.begin(first);
      return [{ messageId: first.messageId, queueOffset, transactionId }];
    }
    if (type === "DELAY") return [await this.#sendDelayed(first)];
    const queueOffset = await this.#options.store.append(topic.name, this.#queueFor(topic, first), messages);
    return messages.map(({ messageId }, i) => ({ messageId, queueOffset: queueOffset + i }));
  }

  async receive(request: ReceiveRequest, signal: AbortSignal): Promise<readonly Delivery[]> {
    if (request.topic !== discardedTopic) checkTopicName(request.topic);
    checkGroupName(request.group);
    if (this.#deletions.has(request.topic)) await this.#deletions.get(request.topic);
    this.#catalog.topic(request.topic);
    this.#catalog.group(request.group);
    return this.#deliveries.receive(request, signal);
  }

  acknowledge(group: string, topic: string, handles: readonly string[]): Promise<readonly ("ok" | "invalid")[]> {
    return this.#deliveries.acknowledge(group, topic, handles);
  }

  async changeInvisible(group: string, topic: string, handle: string, invisibleMs: number): Promise<string> {
    const changed = await this.#deliveries.changeInvisible(group, topic, handle, invisibleMs);
    if (changed === undefined) throw outdated();
    return changed;
  }

  async forwardToDeadLetters(group: string, topic: string, handle: string): Promise<void> {
    if ((await this.#deliveries.forwardToDeadLetters(group, topic, handle)) === "invalid") throw outdated();
  }

  endTransaction(transactionId: string, resolution: "commit" | "rollback"): Promise<void> {
    return this.#transactions.end(transactionId, resolution);
  }

  async recall(topic: string, handle: string): Promise<string> {
    const { type } = this.#catalog.topic(topic);
    if (type !== "DELAY" && type !== "MIXED") {
      throw new BrokerError(
        code.messagePropertyConflictWithType,
        `the topic "${topic}" takes ${type} messages, which cannot be recalled`,
      );
    }
    const read = readRecallHandle(handle);
    if (read === undefined || read.topic !== topic) {
      throw new BrokerError(code.badRequest, "the recall handle is not one that this broker gave out for this topic");
    }
    const outcome = await this.#delay.recall(read.name);
    if (outcome === "recalled") return read.messageId;
    throw new BrokerError(
      code.internalServerError,
      outcome === "too_late" ? "too late: the message was delivered or recalled before" : "there is no such message",
    );
  }

  async createTopic(topic: TopicInfo): Promise<void> {
    await this.#deletions.get(topic.name);
    await this.#catalog.createTopic(topic);
  }

  createGroup(group: GroupInfo): Promise<void> {
    return this.#catalog.createGroup(group);
  }

  async deleteTopic(name: string): Promise<void> {
    await this.#deletions.get(name);
    this.#catalog.mustKnow(name);
    const deletion = this.#delete(name).finally(() => this.#deletions.delete(name));
    this.#deletions.set(
      name,
      deletion.catch(() => {}),
    );
    await deletion;
  }

  /**
   * The messages first: when that is refused (a full disk) nothing has happened. One of the same name begins at offset 0
   * again, and so does every group then; a start after a crash in between sees that the groups are too far.
   */
  async #delete(name: string): Promise<void> {
    await this.#options.store.deleteTopic(name);
    await this.#deliveries.forgetTopic(name);
    this.#turns.delete(name);
    await this.#catalog.deleteTopic(name);
  }

  async deleteGroup(name: string): Promise<void> {
    await this.#catalog.deleteGroup(name);
    await this.#deliveries.forgetGroup(name);
  }

  topics(): readonly TopicInfo[] {
    return this.#catalog.topics;
  }

  groups(): readonly GroupInfo[] {
    return this.#catalog.groups;
  }

  progress(group: string, topic: string): Progress {
    return this.#deliveries.progress(group, topic);
  }

  onCheck(ask: (message: StoredMessage, transactionId: string) => boolean): void {
    this.#transactions.onCheck(ask);
  }

  async #sendDelayed(message: BrokerMessage): Promise<SendReceipt> {
    const { messageId, topic, deliverAtMs } = message;
    if (deliverAtMs === undefined) {
      throw new BrokerError(code.illegalDeliveryTime, "a DELAY message needs a delivery timestamp");
    }
    const nowMs = this.#options.clock.nowMs();
    if (deliverAtMs > nowMs + delayMsMax) {
      throw new BrokerError(code.illegalDeliveryTime, "the delivery timestamp is more than 365 days away");
    }
    // Already due, it is delivered now and there is nothing to recall.
    if (deliverAtMs <= nowMs) return { messageId, queueOffset: await this.#deliver(message) };
    const name = await this.#delay.schedule(message, deliverAtMs);
    return { messageId, queueOffset: 0, recallHandle: recallHandle({ topic, deliverAtMs, messageId, name }) };
  }

  /** To its topic as it is, whatever it waited for before. */
  async #deliver(message: BrokerMessage): Promise<number> {
    if (this.#deletions.has(message.topic)) await this.#deletions.get(message.topic);
    // The topic may have been deleted meanwhile; what was accepted is not thrown away.
    if (!this.#catalog.has(message.topic)) this.#catalog.adopt(message.topic, 1);
    const topic = this.#catalog.topic(message.topic);
    return this.#options.store.append(topic.name, this.#queueFor(topic, message), [message]);
  }

  async #bury(group: string, message: StoredMessage): Promise<void> {
    if (group === transactionGroup) {
      if (!this.#transactions.giveUp(message)) return;
      this.#options.log.warn(
        { messageId: message.messageId, checks: checksMax },
        `nobody could tell the end of a transaction; its message is kept in the topic ${discardedTopic}`,
      );
      await this.#options.store.append(discardedTopic, 0, [{ ...message, topic: discardedTopic }]);
      return;
    }
    await this.#deletions.get(deadLetterTopic(group));
    const { name } = this.#catalog.deadLetters(group);
    await this.#options.store.append(name, 0, [withDeadLetterOrigin(message, name)]);
    const attempts = this.#catalog.attemptsMax(group) ?? attemptsMaxDefault;
    this.#options.log.warn(
      { group, topic: message.topic, messageId: message.messageId, attempts },
      `nobody acknowledged a message and its attempts are used up; it is now in the topic ${name}`,
    );
  }

  #queueFor({ name, queues }: TopicInfo, { messageGroup }: BrokerMessage): number {
    if (queues === 1) return 0;
    if (messageGroup !== undefined) return (javaHash(messageGroup) >>> 0) % queues;
    const turn = (this.#turns.get(name) ?? 0) % queues;
    this.#turns.set(name, turn + 1);
    return turn;
  }
}

const outdated = (): BrokerError =>
  new BrokerError(
    code.invalidReceiptHandle,
    "the receipt handle is not valid (any more): its invisible time is over, it was used, or it is another group's",
  );

const assertType = ({ type }: BrokerMessage, topic: TopicInfo): void => {
  if (topic.type === "MIXED" || topic.type === type) return;
  throw new BrokerError(
    code.messagePropertyConflictWithType,
    `the topic "${topic.name}" takes ${topic.type} messages, this one is ${type}`,
  );
};
