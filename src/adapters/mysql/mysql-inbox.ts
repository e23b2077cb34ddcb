import type { InboxStore } from "../../tx/inbox-store.port.ts";
import { type Mysql2Pool, MysqlConnection } from "./mysql-connection.ts";
import { nowMs } from "./sql-text.ts";

/** Exported for the test that asks the database how it would run it. */
export const inboxSweepStatement = `DELETE FROM escapement_inbox WHERE at < ${nowMs} - ? ORDER BY at LIMIT ?`;

/** The inbox in MySQL and MariaDB: one row for each message that was worked on. */
export class MysqlInbox implements InboxStore {
  readonly #connection: MysqlConnection;

  constructor(pool: Mysql2Pool) {
    this.#connection = new MysqlConnection(pool);
  }

  setSavepoint: InboxStore["setSavepoint"] = async (sql) => {
    await sql.execute("SAVEPOINT escapement_inbox", []);
  };

  releaseSavepoint: InboxStore["releaseSavepoint"] = async (sql) => {
    await sql.execute("RELEASE SAVEPOINT escapement_inbox", []);
  };

  note: InboxStore["note"] = async (sql, group, messageId) => {
    await sql.execute(`INSERT INTO escapement_inbox (consumer_group, message_id, at) VALUES (?, ?, ${nowMs})`, [
      Buffer.from(group),
      Buffer.from(messageId),
    ]);
  };

  forget: InboxStore["forget"] = async (sql, group, messageId) => {
    await sql.execute("DELETE FROM escapement_inbox WHERE consumer_group = ? AND message_id = ?", [
      Buffer.from(group),
      Buffer.from(messageId),
    ]);
  };

  async sweep(olderThanMs: number, limit: number): Promise<number> {
    return (await this.#connection.run(inboxSweepStatement, [olderThanMs, limit])).affected;
  }

  async close(): Promise<void> {
    await this.#connection.close();
  }
}
