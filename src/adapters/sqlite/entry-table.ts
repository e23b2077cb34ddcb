import assert from "node:assert/strict";
import type { DatabaseSync, SQLInputValue, StatementSync } from "node:sqlite";
import { type MessageEvent, type MessageState, nextState } from "../../message/state.ts";
import type { EpochMs } from "../../message/time.ts";
import type { OutTable } from "./out-table.ts";

/**
 * What the store knows of each message besides its contents: one small row per id. Rows are read, changed and saved
 * again within one transaction; only of what is out the entry stays in memory (out-table.ts), where its row still says
 * that it waits.
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
  lane: number;
  expireAtMs: EpochMs | undefined;
  /** 16 bytes that stand for the message group; only while it waits or is out. */
  group: Uint8Array | undefined;
  endedAtMs: EpochMs | undefined;
  /** Of what has ended and is not dead: until when it is known, on the store's own clock. */
  forgetAtMs: number | undefined;
};

/** A state's place is its number in the file: only ever add at the end. Claimed is never written. */
const states: readonly MessageState[] = ["scheduled", "claimed", "delivered", "dead", "canceled", "expired"];

const columns = "id, shard, state, seq, due, attempt, lane, expire_at, grp, ended_at, forget_at";

export class EntryTable {
  readonly #find: StatementSync;
  readonly #insert: StatementSync;
  readonly #insertPlain: StatementSync;
  readonly #update: StatementSync;
  readonly #end: StatementSync;
  readonly #forget: StatementSync;
  readonly #forgetEnded: StatementSync;
  readonly #outs: OutTable;
  readonly #clockMs: () => number;

  constructor(db: DatabaseSync, outs: OutTable, clockMs: () => number) {
    this.#outs = outs;
    this.#clockMs = clockMs;
    this.#find = db.prepare(`SELECT ${columns} FROM entry WHERE id = ?`);
    this.#insert = db.prepare(`INSERT INTO entry (${columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`);
    this.#insertPlain = db.prepare(
      "INSERT INTO entry (id, shard, state, seq, due, attempt, lane) VALUES (?, ?, 0, ?, ?, 0, ?)",
    );
    this.#update = db.prepare(
      `UPDATE entry SET state = ?, seq = ?, due = ?, attempt = ?, lane = ?, expire_at = ?, grp = ?, ended_at = ?,
       forget_at = ? WHERE id = ?`,
    );
    this.#end = db.prepare(
      "UPDATE entry SET state = ?, attempt = ?, grp = NULL, ended_at = ?, forget_at = ? WHERE id = ?",
    );
    this.#forget = db.prepare("DELETE FROM entry WHERE id = ?");
    this.#forgetEnded = db.prepare("DELETE FROM entry WHERE id = ? AND forget_at <= ?");
    this.#find.setReturnArrays(true);
  }

  /** Undefined for what is unknown, is another shard's, or may be forgotten by now. */
  find(shard: number, id: Uint8Array): Entry | undefined {
    const entry = this.#outs.get(id)?.entry ?? this.findRow(id);
    if (entry === undefined || entry.shard !== shard || this.#isForgotten(entry)) return undefined;
    return entry;
  }

  /** As its row has it, whether or not it is out. */
  findRow(id: Uint8Array): Entry | undefined {
    const row = this.#find.get(id) as unknown as Row | undefined;
    return row === undefined ? undefined : entryOf(row);
  }

  /** An id of which only a tombstone past its time is left may be added again. */
  add(entry: Entry, mayHaveBeenKnown: boolean): void {
    if (mayHaveBeenKnown) {
      const known = this.findRow(entry.id);
      if (known !== undefined && this.#isForgotten(known)) this.#forget.run(entry.id);
    }
    const { id, shard, state, seq, dueMs, attempt, lane, expireAtMs, group } = entry;
    if (state === "scheduled" && attempt === 0 && expireAtMs === undefined && group === undefined) {
      this.#insertPlain.run(id, shard, seq, dueMs, lane);
    } else this.#insert.run(id, shard, ...changing(entry));
  }

  save(entry: Entry): void {
    this.#update.run(...changing(entry), entry.id);
  }

  /** It has ended, and nothing else of it has changed but its attempt. */
  saveEnd({ id, state, attempt, endedAtMs, forgetAtMs }: Entry): void {
    this.#end.run(states.indexOf(state), attempt, endedAtMs ?? null, forgetAtMs ?? null, id);
  }

  /** Unless it has come to life again. */
  forget(id: Uint8Array): void {
    this.#forgetEnded.run(id, this.#clockMs());
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

type Row = [Uint8Array, number, number, number, number, number, number, ...(number | Uint8Array | null)[]];

const entryOf = (row: Row): Entry => ({
  id: row[0],
  shard: row[1],
  state: states[row[2]]!,
  seq: row[3],
  dueMs: row[4] as EpochMs,
  attempt: row[5],
  lane: row[6],
  expireAtMs: (row[7] ?? undefined) as EpochMs | undefined,
  group: (row[8] ?? undefined) as Uint8Array | undefined,
  endedAtMs: (row[9] ?? undefined) as EpochMs | undefined,
  forgetAtMs: (row[10] ?? undefined) as number | undefined,
});

/** In the order of `columns`, from the state on. */
const changing = (entry: Entry): SQLInputValue[] => [
  states.indexOf(entry.state),
  entry.seq,
  entry.dueMs,
  entry.attempt,
  entry.lane,
  entry.expireAtMs ?? null,
  entry.group ?? null,
  entry.endedAtMs ?? null,
  entry.forgetAtMs ?? null,
];
