import type { StoredMessage } from "../broker-message.ts";

/** Who gets what, and until when: pop, acknowledge, change invisibility, attempts, dead letters. */
export interface Deliveries {
  /**
   * Takes up to `max` messages for a group, oldest first, redeliveries before new ones; of a message group only the
   * head, and only while no other of it is out. Waits up to `waitMs` for the first.
   * When `signal` aborts (the client is gone), what was taken but not returned is put back without counting an attempt.
   */
  receive(request: ReceiveRequest, signal: AbortSignal): Promise<readonly Delivery[]>;
  /**
   * One result per handle, once they are durable. A handle that is outdated (invisibility over, changed since) is
   * `invalid`, unless the message is done with anyway.
   */
  acknowledge(group: string, topic: string, handles: readonly string[]): Promise<readonly ("ok" | "invalid")[]>;
  /** @returns the new handle (the old one is worth nothing any more), or undefined when the handle is invalid. */
  changeInvisible(group: string, topic: string, handle: string, invisibleMs: number): Promise<string | undefined>;
  /** Moves the message to the group's dead-letter topic at once. */
  forwardToDeadLetters(group: string, topic: string, handle: string): Promise<"ok" | "invalid">;
  /** For operators: how far a group is with a topic. */
  progress(group: string, topic: string): Progress;
  /** Every offset below is done with, in all groups that have ever received from this queue. For retention. */
  consumedUpTo(topic: string, queueId: number): number | undefined;
  /** To be called when a topic is deleted: offsets of a new one of that name begin at 0, and so must every group. */
  forgetTopic(topic: string): Promise<void>;
  /** To be called when a group is deleted; retention need not wait for it any more. */
  forgetGroup(group: string): Promise<void>;
  close(): Promise<void>;
}

export type ReceiveRequest = {
  readonly group: string;
  readonly topic: string;
  readonly filter: TagFilter;
  readonly max: number;
  readonly invisibleMs: number;
  readonly waitMs: number;
};

/** Empty means every message, with a tag or without one. */
export type TagFilter = { readonly tags: ReadonlySet<string> };

export type Delivery = {
  readonly message: StoredMessage;
  readonly handle: string;
  /** From 1. */
  readonly attempt: number;
};

export type Progress = {
  /** Never delivered so far. */
  readonly waiting: number;
  /** With a consumer now, or invisible. */
  readonly out: number;
  readonly queues: readonly {
    readonly queueId: number;
    readonly first: number;
    readonly done: number;
    readonly next: number;
  }[];
};

/** What deliveries need to know of topics and groups, and where dead letters go. */
export interface DeliveryRules {
  queueCount(topic: string): number;
  /** Deliveries of one message before it is a dead letter. RocketMQ's default is 17: one, and 16 retries. */
  attemptsMax(group: string): number;
  /** Stores a copy in the group's dead-letter topic; the original is done with when this resolves. */
  bury(group: string, message: StoredMessage): Promise<void>;
}
