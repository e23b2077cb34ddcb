import type { DatabaseSync, StatementSync } from "node:sqlite";
import type { DeadReason } from "../../delay/delay-store.port.ts";
import type { Entry } from "./entry-table.ts";

/** The dead of each shard by the time they died, with why. Their records stay in the record table. */
export class DeadTable {
  readonly #add: StatementSync;
  readonly #remove: StatementSync;
  readonly #reason: StatementSync;
  readonly #page: StatementSync;
  readonly #count: StatementSync;

  constructor(db: DatabaseSync) {
    this.#add = db.prepare("INSERT INTO dead (shard, ended_at, seq, id, code, detail) VALUES (?, ?, ?, ?, ?, ?)");
    this.#remove = db.prepare("DELETE FROM dead WHERE shard = ? AND ended_at = ? AND seq = ?");
    this.#reason = db.prepare("SELECT code, detail FROM dead WHERE shard = ? AND ended_at = ? AND seq = ?");
    this.#page = db.prepare(
      `SELECT id, ended_at, seq FROM dead WHERE shard = ? AND (ended_at, seq) > (?, ?)
       ORDER BY ended_at, seq LIMIT ?`,
    );
    this.#count = db.prepare("SELECT count(*) AS messages FROM dead WHERE shard = ?");
  }

  /** `entry` has died: its end is set. */
  add(entry: Entry, { code, detail }: DeadReason): void {
    const { shard, endedAtMs, seq, id } = entry;
    this.#add.run(shard, endedAtMs!, seq, id, code.slice(0, codeUnitsMax), detail.slice(0, detailUnitsMax));
  }

  remove({ shard, endedAtMs, seq }: Entry): void {
    this.#remove.run(shard, endedAtMs!, seq);
  }

  reasonOf({ shard, endedAtMs, seq }: Entry): DeadReason | undefined {
    const row = this.#reason.get(shard, endedAtMs!, seq) as DeadReason | undefined;
    return row === undefined ? undefined : { code: row.code, detail: row.detail };
  }

  /** Behind (afterMs, afterSeq), oldest first. */
  page(shard: number, afterMs: number, afterSeq: number, limit: number): DeadPlace[] {
    return this.#page.all(shard, afterMs, afterSeq, limit) as DeadPlace[];
  }

  count(shard: number): number {
    return this.#count.get(shard)!.messages as number;
  }
}

export type DeadPlace = { readonly id: Uint8Array; readonly ended_at: number; readonly seq: number };

/** A reason is for people: what is longer is cut, as in a record. */
const codeUnitsMax = 255;
const detailUnitsMax = 4_096;
