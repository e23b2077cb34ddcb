import type { BrokerMessage, MessageType, StoredMessage } from "./broker-message.ts";
import type { Delivery, Progress, ReceiveRequest } from "./delivery/deliveries.port.ts";

/**
 * The broker as its doors see it: gRPC (rpc/), remoting admin, and programs that hold it in hand. Every method throws
 * BrokerError with the status code that the real RocketMQ 5.5.0 answers in the same case.
 */
export interface Broker {
  /** Creates the topic on first use where that is allowed. @throws topicNotFound, illegalTopic */
  topic(name: string): TopicInfo;
  /** All of one topic; all are stored or none. @throws messagePropertyConflictWithType and others */
  send(messages: readonly BrokerMessage[]): Promise<readonly SendReceipt[]>;
  receive(request: ReceiveRequest, signal: AbortSignal): Promise<readonly Delivery[]>;
  acknowledge(group: string, topic: string, handles: readonly string[]): Promise<readonly ("ok" | "invalid")[]>;
  changeInvisible(group: string, topic: string, handle: string, invisibleMs: number): Promise<string>;
  forwardToDeadLetters(group: string, topic: string, handle: string): Promise<void>;
  /** @throws invalidTransactionId-like errors as the real one: internalServerError when there is no such open transaction */
  endTransaction(transactionId: string, resolution: "commit" | "rollback"): Promise<void>;
  /** @returns the message id of what will not be delivered now. */
  recall(topic: string, handle: string): Promise<string>;
  /** The group as settings need it; created on first use where that is allowed. */
  group(name: string): GroupInfo;

  createTopic(topic: TopicInfo): Promise<void>;
  createGroup(group: GroupInfo): Promise<void>;
  deleteTopic(name: string): Promise<void>;
  deleteGroup(name: string): Promise<void>;
  topics(): readonly TopicInfo[];
  groups(): readonly GroupInfo[];
  progress(group: string, topic: string): Progress;

  /** Asked when a transaction has been open for too long; picks a producer of that topic, false when there is none. */
  onCheck(ask: (message: StoredMessage, transactionId: string) => boolean): void;
}

/** MIXED takes every type. */
export type TopicType = MessageType | "MIXED";
export type TopicInfo = { readonly name: string; readonly type: TopicType; readonly queues: number };
export type GroupInfo = { readonly name: string; readonly attemptsMax: number; readonly orderly: boolean };

export type SendReceipt = {
  readonly messageId: string;
  readonly queueOffset: number;
  /** Of a TRANSACTION message. */
  readonly transactionId?: string;
  /** Of a DELAY message that waits. */
  readonly recallHandle?: string;
};
