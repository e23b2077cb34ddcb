import type { DatabaseSync } from "node:sqlite";
import type { Ledger } from "./ledger.ts";
import { pragmaValue } from "./sqlite-file.ts";

/**
 * Keeps the file from growing with what is over: tombstones past their time are deleted along with other work, and
 * pages that have become free are given back to the disk. Both in bounded steps, so that nothing waits for them.
 */
export class Housekeeping {
  readonly #db: DatabaseSync;
  readonly #ledger: Ledger;
  #commits = 0;

  constructor(db: DatabaseSync, ledger: Ledger) {
    this.#db = db;
    this.#ledger = ledger;
  }

  /** A part of every transaction that writes. */
  forget(): void {
    this.#ledger.forgetSome(forgottenPerCommit);
  }

  /** Called after every commit; looks at the free pages now and then. */
  shrinkSometimes(): void {
    if (++this.#commits % commitsPerLook !== 0) return;
    const free = pragmaValue(this.#db, "freelist_count") as number;
    const pages = pragmaValue(this.#db, "page_count") as number;
    if (free > freePagesKept && free > pages * freeShareKept) {
      this.#db.exec(`PRAGMA incremental_vacuum(${pagesPerStep})`);
    }
  }

  /**
   * The disk is full: carrying the log back into the file may need no room there, and the log can then be written anew
   * from its start. Outside of transactions; when it does not work, nothing has changed.
   */
  makeRoom(): void {
    try {
      this.#db.exec("PRAGMA wal_checkpoint(PASSIVE)");
    } catch {
      // The next write says what is wrong.
    }
  }
}

/** At least so many where there are; a row of `ended` is one commit's, so that forgetting keeps up with ending. */
const forgottenPerCommit = 1_000;
const commitsPerLook = 16;
/** Free pages are used again by the next messages, which is cheaper than to give them back: 16 MiB or a quarter stay. */
const freePagesKept = 4_096;
const freeShareKept = 0.25;
/** Moving a page is a read and a write: 4 MiB in a step. */
const pagesPerStep = 1_024;
