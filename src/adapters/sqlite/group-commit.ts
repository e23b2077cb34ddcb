import type { DatabaseSync } from "node:sqlite";
import { EscapementError } from "../../message/errors.ts";
import type { Timers } from "../../runtime/timers.ts";
import { isDamage, sqliteFailure } from "./sqlite-errors.ts";

/**
 * One transaction, and so one fsync, for all calls that arrive in the same turn of the event loop. Each call runs in a
 * savepoint of its own, so that one that fails takes back only itself; nobody is answered before the commit is on
 * disk, readers neither, since they may have seen what is not there yet.
 *
 * It does not wait for company: what arrives while a commit is at work runs in the next turn. What surprised us: some
 * failures (a full disk among them) make SQLite roll the whole transaction back by itself. Then every call is run
 * again, alone.
 */
export type Work<T> = {
  /** False promises that `run` changes nothing. */
  readonly writes: boolean;
  /** May run more than once: each time from the same state of the file. */
  readonly run: () => T;
  /** Called once, after the commit, before the answer. */
  readonly committed?: (value: T) => void;
};

export type GroupCommitOptions = {
  readonly db: DatabaseSync;
  /** Where the file is, for errors. */
  readonly path: string;
  readonly timers: Timers;
  /** Runs at the end of every transaction that changed something; must be quick. Its failure undoes only itself. */
  readonly beforeCommit: () => void;
  /** A call or a whole transaction was taken back: forget what was remembered of it. */
  readonly undone: () => void;
  /** Runs after every commit that changed something, outside of transactions. */
  readonly afterCommit: () => void;
};

type Queued = {
  readonly work: Work<unknown>;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
};

type Done = { readonly queued: Queued; readonly value?: unknown; readonly error?: unknown };

export class GroupCommit {
  readonly #options: GroupCommitOptions;
  #queue: Queued[] = [];
  #isClosed = false;
  #damage: string | undefined;
  #lastWriteFailure: string | undefined;

  constructor(options: GroupCommitOptions) {
    this.#options = options;
  }

  /** What SQLite found wrong with the file; stays until the process ends. */
  get damage(): string | undefined {
    return this.#damage;
  }

  /** Why the last transaction that wrote failed; undefined when it did not. */
  get lastWriteFailure(): string | undefined {
    return this.#lastWriteFailure;
  }

  /** Rejects with an EscapementError of sqlite-errors.ts, or with what `run` threw of its own. */
  do<T>(work: Work<T>): Promise<T> {
    if (this.#isClosed) return Promise.reject(new EscapementError("store_unavailable", "the store is closed"));
    return new Promise<T>((resolve, reject) => {
      // What a call gives is handed back to that call alone, so the queue need not know its type.
      this.#queue.push({ work: work as Work<unknown>, resolve: resolve as (value: unknown) => void, reject });
      if (this.#queue.length === 1) this.#options.timers.after(0, () => this.#flush());
    });
  }

  /** Runs what has arrived and takes nothing more. */
  close(): void {
    this.#isClosed = true;
    this.#flush();
  }

  #flush(): void {
    const batch = this.#queue;
    if (batch.length === 0) return;
    this.#queue = [];
    const done = this.#commit(batch);
    if (done !== undefined) this.#answer(done);
    else for (const queued of batch) this.#answer(this.#commit([queued]) ?? []);
  }

  /** Undefined: the transaction is lost as a whole, and there is more than one call to try alone. */
  #commit(batch: readonly Queued[]): Done[] | undefined {
    const { db, beforeCommit, undone } = this.#options;
    const writes = batch.some(({ work }) => work.writes);
    const done: Done[] = [];
    try {
      db.exec("BEGIN");
      for (const queued of batch) {
        const one = this.#runOne(queued, batch.length > 1);
        if (!db.isTransaction) throw one.error;
        done.push(one);
      }
      // The only call failed without a savepoint: all there is to take back is the transaction.
      if (batch.length === 1 && "error" in done[0]!) throw done[0].error;
      if (writes) this.#inSavepoint(beforeCommit);
      db.exec("COMMIT");
    } catch (error) {
      this.#note(error, writes);
      if (db.isOpen && db.isTransaction) db.exec("ROLLBACK");
      undone();
      return batch.length > 1 ? undefined : [{ queued: batch[0]!, error }];
    }
    if (writes && !done.some(({ error }) => error !== undefined)) this.#lastWriteFailure = undefined;
    return done;
  }

  #runOne(queued: Queued, isOneOfSeveral: boolean): Done {
    const { db, undone } = this.#options;
    try {
      if (isOneOfSeveral) db.exec("SAVEPOINT one");
      const value = queued.work.run();
      if (isOneOfSeveral) db.exec("RELEASE one");
      return { queued, value };
    } catch (error) {
      this.#note(error, queued.work.writes);
      if (isOneOfSeveral && db.isTransaction) db.exec("ROLLBACK TO one; RELEASE one");
      undone();
      return { queued, error };
    }
  }

  #inSavepoint(act: () => void): void {
    const { db } = this.#options;
    db.exec("SAVEPOINT chores");
    try {
      act();
    } catch (error) {
      this.#note(error, true);
      if (!db.isTransaction) throw error;
      db.exec("ROLLBACK TO chores");
    }
    db.exec("RELEASE chores");
  }

  #note(error: unknown, writes: boolean): void {
    const failure = sqliteFailure(error, this.#options.path);
    if (isDamage(error)) this.#damage ??= failure.message;
    else if (writes && (failure.code === "store_full" || failure.code === "store_unavailable")) {
      this.#lastWriteFailure = failure.message;
    }
  }

  #answer(done: readonly Done[]): void {
    for (const { queued, value, ...failed } of done) {
      if ("error" in failed) queued.reject(sqliteFailure(failed.error, this.#options.path));
      else {
        queued.work.committed?.(value);
        queued.resolve(value);
      }
    }
    if (done.some(({ queued }) => queued.work.writes)) this.#options.afterCommit();
  }
}
