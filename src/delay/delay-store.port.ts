import type { MessageId } from "../message/id.ts";
import type { IdList } from "../message/id-list.ts";
import type { DelayedMessage } from "../message/message.ts";
import type { MessageState } from "../message/state.ts";
import type { DurationMs, EpochMs } from "../message/time.ts";

/**
 * Where messages wait. A store keeps messages in a fixed number of shards; every verb works on one shard and is one
 * atomic step there. `delay-store.contract.ts` is this port's manual: what is said here is tried there on every
 * adapter.
 *
 * Two kinds of callers:
 * - Anyone may schedule, cancel, reschedule and get: these are settled by the message's own state.
 * - Only the owner of a shard may claim, settle and recover. The owner is known by its `epoch`, a number that grows
 *   with every change of owner; a call with an older epoch changes nothing and throws `fenced`.
 *
 * Failures: `store_unavailable` when no answer came (the effect is unknown; every verb may be repeated safely),
 * `store_refusing` and `store_full` when the store said no and nothing was changed.
 */
export interface DelayStore {
  /** Fixed for the life of the data. */
  readonly shardCount: number;

  // --- anyone -------------------------------------------------------------------------------------------------

  /**
   * Accepts messages of one shard, in order. Durable when it returns. At most {@link scheduleItemsMax} items and
   * {@link scheduleBytesMax} bytes of bodies.
   */
  schedule(shard: number, items: readonly ScheduleItem[], nowMs: EpochMs): Promise<ScheduleResult[]>;

  /** Puts messages among the dead without their ever having waited (an ingest message that cannot be admitted). */
  bury(shard: number, items: readonly { message: DelayedMessage; reason: DeadReason }[], nowMs: EpochMs): Promise<void>;

  cancel(shard: number, ids: readonly MessageId[], nowMs: EpochMs): Promise<ChangeResult[]>;

  reschedule(shard: number, changes: readonly Reschedule[], nowMs: EpochMs): Promise<ChangeResult[]>;

  /** What is known of each id; undefined where nothing is. Ended messages are known for the dedupe window. */
  get(shard: number, ids: readonly MessageId[], nowMs: EpochMs): Promise<(StoredMessage | undefined)[]>;

  /**
   * Dead messages of a shard, oldest first: after a cursor continues behind the last page, from an instant with what
   * died then or later, without either from the first.
   */
  dead(shard: number, from: string | EpochMs | undefined, limit: number): Promise<Page<StoredMessage>>;

  /**
   * Brings messages back from the dead: each takes the place of the dead one of its id, if that died at exactly
   * `diedAtMs`; attempts begin anew. Answers whether it did. Of two who ask about the same death only one gets true, so
   * that nobody's second look sends twice what somebody else, or he himself, has brought back. Same limits as `schedule`.
   */
  revive(shard: number, items: readonly ReviveItem[], nowMs: EpochMs): Promise<boolean[]>;

  /**
   * Removes dead messages for good. Each is known as `canceled` for the dedupe window and then not at all. Answers
   * whether it was dead since exactly `diedAtMs`.
   */
  discard(shard: number, deaths: readonly Death[], nowMs: EpochMs): Promise<boolean[]>;

  /** Counts of one shard, for people. */
  stats(shard: number, nowMs: EpochMs): Promise<ShardStats>;

  // --- the owner of the shard ---------------------------------------------------------------------------------

  /** Takes the shard when it is free or already ours. A new owner gets a new, higher epoch; for ours it renews. */
  acquire(shard: number, owner: string, leaseMs: DurationMs): Promise<AcquireResult>;

  /** Extends leases. Answers, in order, whether each is still ours. */
  renew(leases: readonly { shard: number; epoch: number }[], owner: string, leaseMs: DurationMs): Promise<boolean[]>;

  /** Gives the shard up at once, so that another may acquire it. Not ours any more: does nothing. */
  release(shard: number, epoch: number, owner: string): Promise<void>;

  /**
   * Returns up to `limit` messages that an earlier owner had claimed to waiting, due as before, their attempts kept
   * counted. Answers how many; call until 0 before the first claim.
   */
  recover(shard: number, epoch: number, limit: number, nowMs: EpochMs): Promise<number>;

  /**
   * Scheduled messages with `fromMs <= due <= untilMs`, in pages. Reads only. A message that is neither added nor
   * removed during the paging is seen exactly once, whatever happens to the others.
   */
  near(shard: number, fromMs: EpochMs, untilMs: EpochMs, cursor: string | undefined, limit: number): Promise<NearPage>;

  /** How many scheduled messages `near` would list. Cheap: it must not read them one by one. */
  count(shard: number, fromMs: EpochMs, untilMs: EpochMs): Promise<number>;

  /**
   * Takes messages out for sending and counts the attempt. An id is skipped when it is no longer scheduled, reported
   * in `later` when it is due after `nowMs`, ended as `expired` when its time has run out, and reported in `deferred`
   * once the bodies taken so far exceed `bytesMax` (the first one is always taken). At most {@link claimIdsMax} ids.
   * An id that this owner has claimed already is handed out again as it was, without counting another attempt: the
   * reply of the first call was lost. (The owner never asks again for what it holds.)
   */
  claim(shard: number, epoch: number, ids: IdList, nowMs: EpochMs, bytesMax: number): Promise<ClaimResult>;

  /**
   * Records what became of claimed messages. Ids that are not claimed are ignored, so that a repeated call is
   * harmless. When the head of a message group ends, the next of its group becomes claimable and is reported.
   */
  settle(shard: number, epoch: number, outcomes: readonly Outcome[], nowMs: EpochMs): Promise<SettleResult>;

  // --- members and news ---------------------------------------------------------------------------------------

  /** Says that `member` lives and will for `ttlMs`; answers all living members, sorted. */
  heartbeat(member: string, ttlMs: DurationMs): Promise<string[]>;

  /** Says that `member` goes; others hear of it. */
  leave(member: string): Promise<void>;

  /**
   * Hears of messages that became due soon (`schedule` and `reschedule` with `wakeUntilMs`) and of members that came
   * or went. News may be lost: it buys speed, the owner's regular reading of `near` is what finds every message.
   */
  listen(listener: StoreListener): Promise<void>;

  // --- its own health -----------------------------------------------------------------------------------------

  /** The store's clock where it has one, its round trip, and what is wrong with its durability settings (empty when all is well). */
  check(): Promise<StoreCheck>;

  close(): Promise<void>;
}

/** One store call blocks its shard's store thread for about 0.7 ms per 100 messages; more per call raised p99 lateness. */
export const scheduleItemsMax = 200;
/** Keeps one call's arguments well below Redis's query buffer limit and its blocking time in the low milliseconds. */
export const scheduleBytesMax = 8_000_000;
export const claimIdsMax = 200;
export const settleOutcomesMax = 200;

export type OnConflict = "keep" | "replace";

export type ScheduleItem = {
  readonly message: DelayedMessage;
  /**
   * `undefined` for a fresh random id, which cannot meet an earlier message: the store skips looking. `keep` returns
   * what is there; `replace` puts this message in its place while it still waits, or revives an ended, unsent one.
   */
  readonly onConflict?: OnConflict;
  /** Tell the listeners when the message is due at or before this instant. Absent: nobody needs to be told. */
  readonly wakeUntilMs?: EpochMs;
};

/** A message that died, and when: after it was brought back and died again it is another death. */
export type Death = { readonly id: MessageId; readonly diedAtMs: EpochMs };

export type ReviveItem = {
  readonly message: DelayedMessage;
  readonly diedAtMs: EpochMs;
  readonly wakeUntilMs?: EpochMs;
};

export type ScheduleResult = {
  /** `too_late`: replace was asked for, but the message is being sent or was delivered. */
  readonly outcome: "scheduled" | "kept" | "replaced" | "too_late";
  /** What holds for this id after the call. */
  readonly state: MessageState;
  readonly deliverAtMs: EpochMs;
  readonly attempt: number;
};

export type Reschedule = {
  readonly id: MessageId;
  readonly deliverAtMs: EpochMs;
  /** Absent: keeps what it had. `null`: never expires. */
  readonly expireAtMs?: EpochMs | null;
  readonly body?: Buffer;
  readonly properties?: ReadonlyMap<string, string>;
  readonly wakeUntilMs?: EpochMs;
};

export type ChangeResult = {
  /** `done`: canceled or rescheduled. Canceling what is canceled already is `done` too. */
  readonly outcome: "done" | "too_late" | "not_found";
  readonly state?: MessageState;
  readonly deliverAtMs?: EpochMs;
  readonly attempt?: number;
  /** After `done`, for a local owner: lane and due as needed by the near set. Absent when it cannot be claimed now. */
  readonly waiting?: { readonly lane: number; readonly dueMs: EpochMs };
};

export type StoredMessage = {
  readonly id: MessageId;
  readonly state: MessageState;
  readonly deliverAtMs: EpochMs;
  readonly attempt: number;
  /** When it ended. */
  readonly endedAtMs?: EpochMs;
  /** Why it is dead. */
  readonly reason?: DeadReason;
  /** The whole message while it waits, is claimed or is dead; gone once it was delivered, canceled or expired. */
  readonly message?: DelayedMessage;
};

export type DeadReason = { readonly code: string; readonly detail: string };

export type Page<T> = { readonly items: readonly T[]; readonly cursor: string | undefined };

export type NearPage = {
  readonly ids: IdList;
  /** Lane number and due of each id, in the same order. */
  readonly lanes: Uint32Array;
  readonly dueMs: Float64Array;
  /** Undefined on the last page. */
  readonly cursor: string | undefined;
};

export type ClaimResult = {
  /** `attempt` already counts this claim. In the order of the ids asked for. */
  readonly claimed: readonly DelayedMessage[];
  /** Still waiting, but for a later time. */
  readonly later: readonly { readonly id: MessageId; readonly dueMs: EpochMs }[];
  /** Not looked at, because of `bytesMax`. */
  readonly deferred: IdList;
  /** Neither: canceled, delivered, unknown, or not the head of its group. */
  readonly gone: number;
  readonly expired: number;
  /** Heads of message groups that became claimable because an expired one left. */
  readonly released: readonly Released[];
};

export type Outcome =
  | { readonly kind: "delivered"; readonly id: MessageId }
  | { readonly kind: "retry"; readonly id: MessageId; readonly dueMs: EpochMs }
  /** Was not sent after all; waits again, due as before, and the attempt is taken back. */
  | { readonly kind: "give_back"; readonly id: MessageId }
  | { readonly kind: "bury"; readonly id: MessageId; readonly reason: DeadReason };

export type Released = { readonly id: MessageId; readonly lane: number; readonly dueMs: EpochMs };

export type SettleResult = {
  /** Heads of message groups that became claimable. */
  readonly released: readonly Released[];
};

export type AcquireResult =
  | { readonly outcome: "acquired"; readonly epoch: number }
  | { readonly outcome: "held"; readonly owner: string; readonly expiresInMs: number };

export type ShardStats = {
  readonly owner: string | undefined;
  readonly epoch: number;
  readonly waitingByTopic: ReadonlyMap<string, number>;
  readonly claimed: number;
  readonly dead: number;
  readonly dueNow: number;
  /** Waiting messages due in each of the next 60 minutes, counted from now. */
  readonly duePerMinute: readonly number[];
  /** Waiting messages due in each of the next 24 hours, counted from now. */
  readonly duePerHour: readonly number[];
};

export type StoreListener = {
  readonly onWake: (shard: number, id: Buffer, idOffset: number, lane: number, dueMs: EpochMs) => void;
  readonly onMembersChanged: () => void;
  /** News may have been missed (the connection was lost and is back). */
  readonly onGap: () => void;
};

export type StoreCheck = {
  /**
   * Another one than before: what the store recorded last may be gone. It started again from its disk, or a replica
   * has become the primary.
   */
  readonly incarnation: string;
  /** The store's own clock. Absent: it has none but this machine's, so it cannot contradict it. */
  readonly timeMs?: EpochMs;
  readonly roundTripMs: number;
  /** Sentences for the operator, such as `appendfsync is everysec, must be always`. Not empty: accepting must stop. */
  readonly problems: readonly string[];
  /** Worth knowing, but no reason to stop. */
  readonly warnings: readonly string[];
};
