import type { DatabaseSync, StatementSync } from "node:sqlite";

/**
 * What is to be forgotten, and when: a row for each commit in which something ended, in the order of their ending. An
 * index of its own would cost every message that ends two more writes, one of them when it is forgotten.
 */
export class EndedTable {
  readonly #add: StatementSync;
  readonly #first: StatementSync;
  readonly #remove: StatementSync;
  #ids: Uint8Array[] = [];
  /** Of the oldest row, as far as known: it need not be read again until then. */
  #nextAtMs = 0;

  constructor(db: DatabaseSync) {
    this.#add = db.prepare("INSERT INTO ended (forget_at, ids) VALUES (?, ?)");
    this.#first = db.prepare("SELECT n, forget_at, ids FROM ended ORDER BY n LIMIT 1");
    this.#remove = db.prepare("DELETE FROM ended WHERE n = ?");
  }

  add(id: Uint8Array): void {
    this.#ids.push(id);
  }

  /** At the end of the transaction; all that ended in it is forgotten at the same time. */
  write(forgetAtMs: number): void {
    if (this.#ids.length === 0) return;
    this.#add.run(forgetAtMs, Buffer.concat(this.#ids));
    this.#ids = [];
    this.#nextAtMs = Math.min(this.#nextAtMs, forgetAtMs);
  }

  /** The transaction is taken back. */
  drop(): void {
    this.#ids = [];
    this.#nextAtMs = 0;
  }

  /** Hands out at least `atLeast` ids whose time is over, whole rows at a time, or all there are. */
  forget(nowMs: number, atLeast: number, forget: (id: Uint8Array) => void): void {
    for (let count = 0; count < atLeast && this.#nextAtMs <= nowMs; ) {
      const row = this.#first.get() as EndedRow | undefined;
      this.#nextAtMs = row?.forget_at ?? Number.POSITIVE_INFINITY;
      if (row === undefined || row.forget_at > nowMs) return;
      for (let at = 0; at < row.ids.length; at += 16) forget(row.ids.subarray(at, at + 16));
      this.#remove.run(row.n);
      count += row.ids.length / 16;
    }
  }
}

type EndedRow = { readonly n: number; readonly forget_at: number; readonly ids: Uint8Array };
