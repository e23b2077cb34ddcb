import type { DatabaseSync, StatementSync } from "node:sqlite";
import { type EscapementError, isEscapementError } from "../../message/errors.ts";
import { isDamage, sqliteFailure } from "./sqlite-errors.ts";

/**
 * One transaction, and so one fsync, for all calls that have arrived. Nobody is answered before the commit is on disk,
 * readers neither, since they may have seen what is not there yet.
 *
 * A call that fails takes back only itself. That is dear when it has changed something: then everything is rolled back
 * and each call is run again, alone. Savepoints would make it cheap and would cost every call two statements, for what
 * hardly ever happens; and some failures (a full disk among them) make SQLite roll the whole transaction back anyway.
 */
export type Work<T> = {
  /** False promises that `run` changes nothing. */
  readonly writes: boolean;
  /** May run more than once: each time from the same state of the file. */
  readonly run: () => T;
};

export type Done<T> = { readonly value: T } | { readonly error: EscapementError };

export type GroupCommitOptions = {
  readonly db: DatabaseSync;
  /** Where the file is, for errors. */
  readonly path: string;
  /** Runs at the end of every transaction that may have changed something, and belongs to it. */
  readonly finish: () => void;
  /** Runs after that; must be quick. Its failure undoes only itself. */
  readonly chores: () => void;
  /** A transaction was taken back: forget what was remembered of it. */
  readonly undone: () => void;
  /** The last thing in a transaction that has changed something. */
  readonly sealed: () => void;
  /** After a commit that changed something, when it is on disk and nobody has heard of it yet. */
  readonly committed: () => void;
};

export class GroupCommit {
  readonly #options: GroupCommitOptions;
  readonly #changes: StatementSync;
  #damage: string | undefined;
  #lastWriteFailure: string | undefined;

  constructor(options: GroupCommitOptions) {
    this.#options = options;
    this.#changes = options.db.prepare("SELECT total_changes() AS changes");
  }

  /** What SQLite found wrong with the file; stays until the process ends. */
  get damage(): string | undefined {
    return this.#damage;
  }

  /** Why the last transaction that wrote failed; undefined when it did not. */
  get lastWriteFailure(): string | undefined {
    return this.#lastWriteFailure;
  }

  /** One answer for each, in their order: its value, or an EscapementError. */
  run<T>(works: readonly Work<T>[]): Done<T>[] {
    return this.#commit(works) ?? works.map((work) => this.#commit([work])![0]!);
  }

  /** Undefined: the transaction is lost as a whole, and there is more than one call to try alone. */
  #commit<T>(works: readonly Work<T>[]): Done<T>[] | undefined {
    const { db, sealed, committed } = this.#options;
    const writes = works.some((work) => work.writes);
    let hasChanged = false;
    const done: Done<T>[] = [];
    try {
      db.exec("BEGIN");
      const before = this.#changesSoFar;
      for (const work of works) done.push(this.#runOne(work));
      if (writes) {
        this.#options.finish();
        this.#doChores();
        hasChanged = this.#changesSoFar !== before;
        if (hasChanged) sealed();
      }
      db.exec("COMMIT");
    } catch (error) {
      this.#note(error, writes);
      if (db.isOpen && db.isTransaction) db.exec("ROLLBACK");
      this.#undone();
      return works.length > 1 ? undefined : [{ error: sqliteFailure(error, this.#options.path) }];
    }
    if (hasChanged) {
      this.#lastWriteFailure = undefined;
      committed();
    }
    return done;
  }

  #runOne<T>(work: Work<T>): Done<T> {
    try {
      return { value: work.run() };
    } catch (error) {
      // Whether a call may change anything is asked first, so there is nothing to take back.
      if (isEscapementError(error, "fenced") || isEscapementError(error, "store_full")) return { error };
      throw error;
    }
  }

  get #changesSoFar(): number {
    return this.#changes.get()!.changes as number;
  }

  #doChores(): void {
    const { db, chores, undone } = this.#options;
    db.exec("SAVEPOINT chores");
    try {
      chores();
    } catch (error) {
      this.#note(error, true);
      if (!db.isTransaction) throw error;
      db.exec("ROLLBACK TO chores");
      undone();
    }
    db.exec("RELEASE chores");
  }

  #undone(): void {
    try {
      this.#options.undone();
    } catch (error) {
      // The file cannot even be read: the next call says so as well.
      this.#note(error, true);
    }
  }

  #note(error: unknown, writes: boolean): void {
    const failure = sqliteFailure(error, this.#options.path);
    if (isDamage(error)) this.#damage ??= failure.message;
    else if (writes && (failure.code === "store_full" || failure.code === "store_unavailable")) {
      this.#lastWriteFailure = failure.message;
    }
  }
}
