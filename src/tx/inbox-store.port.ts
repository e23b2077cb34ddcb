import type { SqlExecutor } from "./database.port.ts";

/** Which messages a consumer group has worked on. */
export interface InboxStore {
  /** Fails as `duplicate`. */
  note(sql: SqlExecutor, group: string, messageId: string): Promise<void>;
  sweep(olderThanMs: number, limit: number): Promise<number>;
}
