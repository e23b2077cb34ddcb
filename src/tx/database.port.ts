/**
 * The caller's database, as little of it as a transactional send needs: to run a statement inside the caller's own
 * transaction, and to have a transaction run. Whose library runs it (mysql2, Drizzle, Prisma, Knex, TypeORM, Kysely) is
 * the adapter's business.
 */
export type SqlValue = string | number | null | Buffer;
export type SqlRow = Readonly<Record<string, unknown>>;

export interface SqlExecutor {
  /** Answers the rows of a SELECT, and nothing for other statements. Values stand for `?`. */
  execute(sql: string, values: readonly SqlValue[]): Promise<readonly SqlRow[]>;
}

/** A transaction that somebody else began and will end. */
export interface JoinedTransaction extends SqlExecutor {
  /** The same for all who join one transaction, however often it is wrapped: they take turns. */
  readonly connection: object;
  /** What the library itself can say: undefined when it sees no fault, otherwise why this is not an open transaction. */
  fault(): string | undefined;
}

export interface TransactionalDatabase<Tx> {
  /**
   * Begins, works, commits. Resolves after COMMIT was answered. Rejects with what `work` threw after a rollback; when
   * `work` had succeeded, with why COMMIT failed.
   */
  transaction<T>(work: (tx: Tx, sql: SqlExecutor) => Promise<T>): Promise<T>;
}

/** What the database's refusal means for the transaction. */
export type DatabaseFailure =
  /** Everything was rolled back; trying again helps. */
  | "deadlock"
  /** The statement was; whether the transaction goes on is the caller's choice. */
  | "lock-wait-timeout"
  /** A row with this key is there. */
  | "duplicate"
  /** No such savepoint: the transaction that had it is over. */
  | "savepoint-gone"
  | "table-missing"
  /** The database said no in some other way: it is there, and has not done it. */
  | "refused"
  /** No answer: done or not. */
  | "no-answer";

/** Reads the failure through whatever a library has wrapped around it. */
export type ClassifyFailure = (error: unknown) => DatabaseFailure;
