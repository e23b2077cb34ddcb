import type { MessageId } from "../message/id.ts";
import type { SqlExecutor } from "./database.port.ts";

/**
 * The outbox: messages that wait in the caller's database until the broker has them. Times are the database's own; no
 * other clock is compared with them.
 *
 * A row has a *shard*, which one relay reads at a time; and, when its order matters, a *lane*: of a lane only the first
 * row may be sent. What is sent is removed; so the table is as small as the trouble is.
 */
export type OutboxMessage = {
  /** The same on every copy, whoever sends it. */
  readonly id: MessageId;
  readonly kind: "send" | "cancel";
  /** For operators; what is sent where is in `head`. */
  readonly topic: string;
  /** Undefined: no order. */
  readonly lane: number | undefined;
  readonly shard: number;
  /** Absolute, or counted from the commit; absent: at once. */
  readonly due?: { readonly atMs: number } | { readonly afterMs: number };
  readonly head: OutboxHead;
  readonly body: Buffer;
  /** The id is the caller's own: a row that is there already is kept. */
  readonly mayExist: boolean;
};

/** What travels with the body. Additions must be optional: rows outlive the library that wrote them. */
export type OutboxHead = {
  readonly tag?: string;
  readonly keys?: readonly string[];
  readonly properties?: readonly (readonly [name: string, value: string])[];
  readonly messageGroup?: string;
  /** The delay server's name for a delayed message, and what a cancel names. */
  readonly key?: string;
  /** As it was given. */
  readonly expireAfter?: string;
};

export type OutboxRow = {
  readonly row: number;
  readonly id: MessageId;
  /** `newer`: of a kind that this version does not know. `unreadable`: somebody has damaged its head. */
  readonly kind: OutboxMessage["kind"] | "newer" | "unreadable";
  readonly topic: string;
  readonly lane: number | undefined;
  readonly attempts: number;
  readonly dueAtMs: number | undefined;
  readonly createdAtMs: number;
  readonly head: OutboxHead;
  readonly body: Buffer;
};

/** A row before its body is fetched. */
export type RowStub = Pick<OutboxRow, "row" | "lane" | "kind" | "topic" | "dueAtMs"> & {
  readonly bodyBytes: number;
  readonly dueSinceMs: number;
};
export type LanePlace = {
  readonly row: number;
  readonly lane: number;
  readonly inMs: number;
  /** False: as far as is known it waits for nothing but whoever wrote it, who may be sending it now. */
  readonly wasTried: boolean;
};
export type DelayedPlace = Pick<OutboxRow, "row" | "id" | "createdAtMs">;
export type OwnRow = Pick<OutboxRow, "row" | "id" | "lane" | "dueAtMs" | "createdAtMs">;

/** Of a transaction that we began, or of a join; which may well be inside of one that we began. */
export type Savepoint = "whole" | "join";

/** What a joined send has written: a row of the outbox, or a half's in the barrier. */
export type JoinedRow = { readonly table: "outbox" | "halves"; readonly id: MessageId };

/** Statements inside the caller's transaction. */
export interface OutboxWriter {
  /** A row that the relay leaves alone for `graceMs`, or until `letGo`. */
  write(sql: SqlExecutor, txId: MessageId, message: OutboxMessage, graceMs: number | "held"): Promise<void>;
  /** A held row may be sent; nothing happens when it is not there. */
  letGo(sql: SqlExecutor, id: MessageId): Promise<void>;
  /** Takes a held row of this transaction back; nothing happens when it is not there. */
  drop(sql: SqlExecutor, txId: MessageId, id: MessageId): Promise<void>;
  /**
   * Takes an unsent row back that this transaction sees, if the cancel's own row is there; it must not hold up others when
   * there is none.
   */
  remove(sql: SqlExecutor, id: MessageId, cancel: MessageId): Promise<void>;
  /** Waits its turn among the transactions that write this lane, so that rows are in the order of the commits. */
  lockLane(sql: SqlExecutor, lane: number): Promise<void>;
  /** The grace and the delays that count from the commit begin now. Right before COMMIT only: it reads. */
  touch(sql: SqlExecutor, txId: MessageId, graceMs: number): Promise<void>;
  /** That this transaction was committed; fails as `duplicate` when it was fenced. */
  mark(sql: SqlExecutor, txId: MessageId): Promise<void>;
  /**
   * The same where the mark may be there already, or have been taken back by a savepoint; holds up a fence. Only beside
   * that row: "gone" when the transaction that wrote it was rolled back meanwhile.
   */
  markBeside(sql: SqlExecutor, txId: MessageId, row: JoinedRow): Promise<"marked" | "fenced" | "gone">;
  setSavepoint(sql: SqlExecutor, savepoint: Savepoint): Promise<void>;
  /** Fails as `savepoint-gone` when the transaction is not the one in which it was set. */
  releaseSavepoint(sql: SqlExecutor, savepoint: Savepoint): Promise<void>;
}

/** Statements on connections of our own, each a transaction by itself. */
export interface Outbox {
  readonly shardCount: number;
  /** Committed rows of these transactions. */
  rowsOf(txIds: readonly MessageId[]): Promise<readonly OwnRow[]>;
  /** The first rows of each of these lanes, as many as are asked for or more, up to `upToRow`. */
  placesOf(lanes: ReadonlyMap<number, number>, upToRow: number): Promise<readonly LanePlace[]>;
  /** Committed rows with delayed messages of these names. */
  delayed(ids: readonly MessageId[]): Promise<readonly DelayedPlace[]>;
  /** The shards that hold something, and in how many milliseconds their first row is due (0: now). */
  nextDue(shards: readonly number[]): Promise<readonly { readonly shard: number; readonly inMs: number }[]>;
  /** What is due in a shard, in the order of becoming due; rows that somebody has locked are left out. `after`: only what comes behind it. */
  due(shard: number, limit: number, after?: RowStub): Promise<readonly RowStub[]>;
  /** With bodies; rows that are gone meanwhile are left out. */
  fetch(rows: readonly number[]): Promise<readonly OutboxRow[]>;
  /** Answers how many were still there. */
  remove(rows: readonly number[]): Promise<number>;
  /** Tried in vain: counted, with the reason, and due again after a wait that doubles with each attempt. */
  failed(rows: readonly number[], reason: string, wait: BackoffWait): Promise<void>;
  /** Not before `inMs` from now; not an attempt. */
  postpone(rows: readonly number[], inMs: number, reason?: string): Promise<void>;
  /** Those that nobody has tried are due soon, whatever grace they have. */
  hasten(rows: readonly number[], inMs: number): Promise<void>;
  /** Aside, with the reason. */
  bury(rows: readonly number[], reason: string): Promise<void>;
  /** As it is at one moment. */
  outcome(txId: MessageId): Promise<TxTrace>;
  /**
   * Makes sure that a transaction which has not committed never will; "open" when it holds its mark at this moment,
   * "too-old" when nothing was done, because it began longer ago than `withinMs` by the database's clock.
   */
  fence(
    txId: MessageId,
    began: { readonly atMs: number; readonly withinMs: number },
  ): Promise<"settled" | "open" | "too-old">;
  /** That this transaction was ended by its own callback: part of it is committed, or none. */
  noteEndedInside(txId: MessageId): Promise<void>;
  /** Removes held rows that stand in these shards, committed, for longer; answers how many. */
  removeHeld(shards: readonly number[], olderThanMs: number): Promise<number>;
  /** Removes marks of transactions that both were marked and began longer ago; answers how many. */
  sweep(olderThan: { readonly marksMs: number; readonly fencesMs: number }, limit: number): Promise<number>;
  close(): Promise<void>;
}

export type BackoffWait = { readonly baseMs: number; readonly maxMs: number; readonly jitter: number };

export type TxTrace = {
  readonly mark: { readonly outcome: "committed" | "fenced" | "ended-inside"; readonly atMs: number } | undefined;
  readonly waiting: readonly { readonly id: MessageId; readonly attempts: number; readonly lastError?: string }[];
  readonly dead: readonly { readonly id: MessageId; readonly reason: string }[];
};

/** Which relay reads which shard. */
export interface ShardLeases {
  /** Renews what is ours, gives back what is beyond our share, takes what is free. Answers what we own for `leaseMs`. */
  keep(owner: string, leaseMs: number): Promise<readonly number[]>;
  release(owner: string): Promise<void>;
}
