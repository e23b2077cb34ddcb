import type { MessageId } from "../../message/id.ts";
import type { DelayedMessage } from "../../message/message.ts";
import type { MessageState } from "../../message/state.ts";
import type { EpochMs } from "../../message/time.ts";
import { SortedList } from "./sorted-list.ts";

/**
 * Which waiting messages of a shard may be claimed, in the order of their due. This is where message groups live: of
 * each group only the head is in `claimable`, whoever stands behind it is not. It does not know states' rules, owners
 * or time; memory-delay-store.ts does.
 *
 * A head keeps its place until it ends, with one exception: while it waits and was never attempted, a message that
 * arrives with an earlier time takes its place. A head that is being sent or waits for a retry may have reached
 * the topic already, so nothing is put in front of it.
 */

/** A message with what the store knows of it. `dueMs` moves with retries; `message.deliverAtMs` is what was asked for. */
export type Waiting = {
  readonly id: MessageId;
  message: DelayedMessage;
  state: MessageState;
  dueMs: EpochMs;
  attempt: number;
  /** Number of acceptance in its shard. */
  order: number;
};

type Group<T> = { head: T; readonly followers: SortedList<T> };

export class WaitingRoom<T extends Waiting> {
  /** By due, then acceptance. */
  readonly claimable = new SortedList<T>((a, b) => a.dueMs - b.dueMs || a.order - b.order);
  readonly #groups = new Map<string, Group<T>>();

  /** Lets a scheduled message in. Answers the message that became claimable through it: itself, as a rule. */
  enter(entry: T): T | undefined {
    const group = this.#groupOf(entry);
    if (group === undefined) {
      this.#formGroup(entry);
      this.claimable.add(entry);
      return entry;
    }
    group.followers.add(entry);
    const { head } = group;
    // A claimed head stays by the same rule: claiming counted its attempt.
    if (head.attempt > 0 || inGroupOrder(head, entry) < 0) return undefined;
    group.followers.add(head);
    this.claimable.remove(head);
    return this.#promoteFirstOf(group);
  }

  /** Lets a message go for good. Answers the message of its group that became claimable by that. */
  leave(entry: T): T | undefined {
    this.claimable.remove(entry);
    const group = this.#groupOf(entry);
    if (group === undefined) return undefined;
    if (group.head !== entry) {
      group.followers.remove(entry);
      return undefined;
    }
    if (group.followers.size > 0) return this.#promoteFirstOf(group);
    this.#groups.delete(groupKey(entry.message)!);
    return undefined;
  }

  isClaimable(entry: T): boolean {
    const group = this.#groupOf(entry);
    return entry.state === "scheduled" && (group === undefined || group.head === entry);
  }

  /** Claimed: it keeps its place in its group, but cannot be claimed again. */
  takeOut(entry: T): void {
    this.claimable.remove(entry);
  }

  /** Claimed before and scheduled again. */
  putBack(entry: T): void {
    this.claimable.add(entry);
  }

  #groupOf(entry: T): Group<T> | undefined {
    const key = groupKey(entry.message);
    return key === undefined ? undefined : this.#groups.get(key);
  }

  #formGroup(head: T): void {
    const key = groupKey(head.message);
    if (key !== undefined) this.#groups.set(key, { head, followers: new SortedList<T>(inGroupOrder) });
  }

  #promoteFirstOf(group: Group<T>): T {
    const next = group.followers.first!;
    group.followers.remove(next);
    group.head = next;
    this.claimable.add(next);
    return next;
  }
}

/** By the time the user asked for, not by a retry's, then by acceptance. */
const inGroupOrder = (a: Waiting, b: Waiting): number =>
  a.message.deliverAtMs - b.message.deliverAtMs || a.order - b.order;

const groupKey = (message: DelayedMessage): string | undefined =>
  message.messageGroup === undefined
    ? undefined
    : JSON.stringify([message.tenant, message.topic, message.messageGroup]);
