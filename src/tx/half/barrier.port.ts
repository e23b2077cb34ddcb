import type { MessageId } from "../../message/id.ts";

/**
 * The barrier: one row for each half message, in the database of the business rows. Whoever writes it first decides:
 * the business transaction writes "committed" before the half is sent, and a check that finds no row writes
 * "rolled back", after which the business transaction cannot commit any more. That is what makes an answer to the
 * broker irrevocable without a server of our own between them.
 *
 * The row has a second office: as long as nobody has seen the message on its topic it says who may try next to make it
 * visible (its *turn*), so that the client's commit, the answer to a check and the backstop are never two at a time.
 * All instants in it are of the database's clock.
 */
export interface BarrierStore<Tx> {
  /** Drawn when the table was made. A check about another database's message is not ours to answer. */
  databaseId(): Promise<string>;
  /**
   * On the connection of the business transaction. `fenced`: a check came first; this transaction must not commit.
   * `held`: nobody's turn comes before `letGo`.
   */
  enlist(tx: Tx, entry: BarrierEntry, turnMs: number | "held"): Promise<"enlisted" | "fenced">;
  /** Its first turn begins now; nothing happens when it is not there. */
  letGo(tx: Tx, id: MessageId, turnMs: number): Promise<void>;
  /** Takes an entry back, before its transaction commits. */
  withdraw(tx: Tx, id: MessageId): Promise<void>;
  /** What a rollback to a savepoint has left; on the connection of the business transaction. */
  surviving(tx: Tx, txId: string): Promise<ReadonlySet<MessageId>>;
  /** Asked of the primary: writes "rolled back" if there is no row, and else says how it stands, once it can be known. */
  judge(key: BarrierKey, turnMs: number): Promise<Verdict>;
  /** True when the row is committed, not seen, and its turn was free: it is the caller's for `turnMs`. */
  takeTurn(id: MessageId, turnMs: number): Promise<boolean>;
  isCommitted(id: MessageId): Promise<boolean>;
  /** These were received from their topic. @returns how many were not known to have been */
  see(ids: readonly MessageId[]): Promise<number>;
  /** Committed, and nobody has tried for `overdueMs` since their last turn ended; each is the caller's for a turn. */
  claimOverdue(wanted: OverdueWanted): Promise<readonly OverdueHalf[]>;
  ofTransaction(txId: string): Promise<readonly BarrierRow[]>;
  /** Forgets rows that are settled and older than this. @returns how many */
  purge(olderThanMs: number, limit: number): Promise<number>;
}

export type BarrierKey = { readonly id: MessageId; readonly txId: string };

export type BarrierEntry = BarrierKey & {
  readonly topic: string;
  /** The message with or without its body, as `kept-half.ts` packs it. */
  readonly kept: Buffer;
};

export type Verdict =
  | { readonly state: "rolled-back" }
  /** `turn`: it is the caller's turn to make it visible. */
  | { readonly state: "committed"; readonly seen: boolean; readonly turn: boolean }
  /** The business transaction holds the row, or the database cannot say: ask again. */
  | { readonly state: "unknown"; readonly because: "open" | "replica" | "unreachable"; readonly detail: string };

export type OverdueWanted = {
  readonly overdueMs: number;
  readonly turnMs: number;
  /** Absent: of every topic. */
  readonly topics?: readonly string[];
  readonly limit: number;
};

export type OverdueHalf = BarrierEntry & { readonly resends: number };

export type BarrierRow = {
  readonly id: MessageId;
  readonly topic: string;
  readonly state: "committed" | "rolled-back";
  readonly seen: boolean;
  readonly resends: number;
};
