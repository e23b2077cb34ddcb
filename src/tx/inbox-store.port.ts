import type { SqlExecutor } from "./database.port.ts";

/** Which messages a consumer group has worked on. */
export interface InboxStore {
  /** Of a name that nobody else uses: the transaction may have savepoints of its own. */
  setSavepoint(sql: SqlExecutor): Promise<void>;
  /** Fails as `savepoint-gone` when there is no transaction. */
  releaseSavepoint(sql: SqlExecutor): Promise<void>;
  /** Fails as `duplicate`. */
  note(sql: SqlExecutor, group: string, messageId: string): Promise<void>;
  forget(sql: SqlExecutor, group: string, messageId: string): Promise<void>;
  sweep(olderThanMs: number, limit: number): Promise<number>;
}
