import assert from "node:assert/strict";
import type { DatabaseSync, SQLInputValue, StatementSync } from "node:sqlite";
import { type MessageEvent, type MessageState, nextState } from "../../message/state.ts";
import type { EpochMs } from "../../message/time.ts";

/**
 * What the store knows of each message besides its contents: one small row per id. Rows are read, changed and saved
 * again within one transaction; nothing of them is kept in memory between calls.
 */
export type Entry = {
  /** 16 raw bytes. */
  readonly id: Uint8Array;
  readonly shard: number;
  state: MessageState;
  /** Number of acceptance in the whole store; the record's row while there is one. */
  seq: number;
  /** When it may be claimed next; a retry moves it. While `attempt` is 0 it is what the user asked for. */
  dueMs: EpochMs;
  attempt: number;
  /** Under which it was claimed last. */
  epoch: number;
  lane: number;
  expireAtMs: EpochMs | undefined;
  /** 16 bytes that stand for the message group; only while it waits or is out. */
  group: Uint8Array | undefined;
  endedAtMs: EpochMs | undefined;
  /** Of what has ended and is not dead: until when it is known, on the store's own clock. */
  forgetAtMs: number | undefined;
};

/** A state's place is its number in the file: only ever add at the end. `entry_claimed` rests on claimed being 1. */
const states: readonly MessageState[] = ["scheduled", "claimed", "delivered", "dead", "canceled", "expired"];

const columns = "id, shard, state, seq, due, attempt, epoch, lane, expire_at, grp, ended_at, forget_at";

export class EntryTable {
  readonly #find: StatementSync;
  readonly #insert: StatementSync;
  readonly #update: StatementSync;
  readonly #claimedBefore: StatementSync;
  readonly #countClaimed: StatementSync;
  readonly #forget: StatementSync;
  readonly #forgetSome: StatementSync;
  readonly #clockMs: () => number;

  constructor(db: DatabaseSync, clockMs: () => number) {
    this.#clockMs = clockMs;
    this.#find = db.prepare(`SELECT ${columns} FROM entry WHERE id = ?`);
    this.#insert = db.prepare(`INSERT INTO entry (${columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`);
    this.#update = db.prepare(
      `UPDATE entry SET state = ?, seq = ?, due = ?, attempt = ?, epoch = ?, lane = ?, expire_at = ?, grp = ?,
       ended_at = ?, forget_at = ? WHERE id = ?`,
    );
    this.#claimedBefore = db.prepare(
      `SELECT ${columns} FROM entry WHERE state = 1 AND shard = ? AND epoch < ? LIMIT ?`,
    );
    this.#countClaimed = db.prepare("SELECT count(*) AS messages FROM entry WHERE state = 1 AND shard = ?");
    this.#forget = db.prepare("DELETE FROM entry WHERE id = ?");
    this.#forgetSome = db.prepare(
      "DELETE FROM entry WHERE id IN (SELECT id FROM entry WHERE forget_at <= ? ORDER BY forget_at LIMIT ?)",
    );
    this.#find.setReturnArrays(true);
    this.#claimedBefore.setReturnArrays(true);
  }

  /** Undefined for what is unknown, is another shard's, or may be forgotten by now. */
  find(shard: number, id: Uint8Array): Entry | undefined {
    const row = this.#find.get(id) as unknown as Row | undefined;
    if (row === undefined) return undefined;
    const entry = entryOf(row);
    if (entry.shard !== shard || this.#isForgotten(entry)) return undefined;
    return entry;
  }

  /** An id of which only a tombstone past its time is left may be added again. */
  add(entry: Entry, mayHaveBeenKnown: boolean): void {
    if (mayHaveBeenKnown) {
      const row = this.#find.get(entry.id) as unknown as Row | undefined;
      if (row !== undefined && this.#isForgotten(entryOf(row))) this.#forget.run(entry.id);
    }
    this.#insert.run(entry.id, entry.shard, ...changing(entry));
  }

  save(entry: Entry): void {
    this.#update.run(...changing(entry), entry.id);
  }

  /** What owners before `epoch` have out. */
  claimedBefore(shard: number, epoch: number, limit: number): Entry[] {
    return (this.#claimedBefore.all(shard, epoch, limit) as unknown as Row[]).map(entryOf);
  }

  countClaimed(shard: number): number {
    return this.#countClaimed.get(shard)!.messages as number;
  }

  /** Forgets up to `limit` ended messages whose time is over; answers how many. */
  forgetSome(limit: number): number {
    return Number(this.#forgetSome.run(this.#clockMs(), limit).changes);
  }

  #isForgotten({ forgetAtMs }: Entry): boolean {
    return forgetAtMs !== undefined && forgetAtMs <= this.#clockMs();
  }
}

/** The one place where a state changes. */
export const move = (entry: Entry, event: MessageEvent): void => {
  const next = nextState(entry.state, event);
  assert(next !== undefined, `a ${entry.state} message: ${event} is not possible`);
  entry.state = next;
};

type Row = [Uint8Array, number, number, number, number, number, number, number, ...(number | Uint8Array | null)[]];

const entryOf = (row: Row): Entry => ({
  id: row[0],
  shard: row[1],
  state: states[row[2]]!,
  seq: row[3],
  dueMs: row[4] as EpochMs,
  attempt: row[5],
  epoch: row[6],
  lane: row[7],
  expireAtMs: (row[8] ?? undefined) as EpochMs | undefined,
  group: (row[9] ?? undefined) as Uint8Array | undefined,
  endedAtMs: (row[10] ?? undefined) as EpochMs | undefined,
  forgetAtMs: (row[11] ?? undefined) as number | undefined,
});

/** In the order of `columns`, from the state on. */
const changing = (entry: Entry): SQLInputValue[] => [
  states.indexOf(entry.state),
  entry.seq,
  entry.dueMs,
  entry.attempt,
  entry.epoch,
  entry.lane,
  entry.expireAtMs ?? null,
  entry.group ?? null,
  entry.endedAtMs ?? null,
  entry.forgetAtMs ?? null,
];
