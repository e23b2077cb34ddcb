import { fromMysql2 } from "./adapters/mysql/from-mysql2.ts";
import type { Mysql2Pool } from "./adapters/mysql/mysql-connection.ts";
import { classifyMysqlFailure } from "./adapters/mysql/mysql-failure.ts";
import { MysqlInbox } from "./adapters/mysql/mysql-inbox.ts";
import { openMysqlPool } from "./adapters/mysql/open-pool.ts";
import { OutboxDesk } from "./adapters/mysql/outbox-desk.ts";
import { type MigrationReport, migrateOutbox } from "./adapters/mysql/outbox-schema.ts";
import { EscapementError } from "./message/errors.ts";
import { createInboxOn, type Inbox as RoomInbox } from "./tx/inbox.ts";
import { type Joinable, joinedOf } from "./tx-join.ts";
import { checkInboxOptions } from "./tx-options.ts";
import { shardsOf } from "./tx-parts.ts";

/** What needs the tables and no broker: making them, the inbox, and the operators' desk. */

/** Makes or upgrades the tables; may be run at any time, by any number. */
export const migrate = async (mysql: string | Mysql2Pool): Promise<MigrationReport> => {
  const own = typeof mysql === "string" ? openMysqlPool(mysql, { connections: 1 }) : undefined;
  try {
    const connection = await (own ?? (mysql as Mysql2Pool)).getConnection();
    try {
      return await migrateOutbox(fromMysql2(connection));
    } finally {
      connection.release();
    }
  } finally {
    await own?.end();
  }
};

export type InboxSettings = {
  readonly pool: Mysql2Pool;
  /** Longest delay and longest retry together, or more. */
  readonly keepMs: number;
};

export type Inbox = {
  /** Inside an open transaction: runs `work` unless this group has worked on this message already. */
  once(tx: Joinable, group: string, messageId: string, work: () => Promise<unknown>): Promise<"ran" | "duplicate">;
  /** Removes rows older than `keepMs`, at most `limit` at a time; answers how many. */
  sweep: RoomInbox["sweep"];
  close(): Promise<void>;
};

/** The inbox of a consumer, in its own database. */
export const createInbox = (options: InboxSettings): Inbox => {
  checkInboxOptions(options);
  const store = new MysqlInbox(options.pool);
  const inbox = createInboxOn({ store, classify: classifyMysqlFailure, keepMs: options.keepMs });
  return {
    async once(tx, group, messageId, work) {
      checkText(group, "group", "name what the work is for, such as the consumer group");
      checkText(messageId, "messageId", "give the message's ESC_ID; a message that was not sent by us has none");
      return inbox.once(joinedOf(tx), group, messageId, work);
    },
    sweep: inbox.sweep,
    close: () => store.close(),
  };
};

const checkText = (text: unknown, field: string, advice: string): void => {
  if (typeof text === "string") return;
  throw new EscapementError("invalid_field", `${field} is missing: ${advice}.`, { field });
};

/** For operators: what waits and what was put aside; and sending the latter again. */
export const withOutboxDesk = async <T>(mysql: string, work: (desk: OutboxDesk) => Promise<T>): Promise<T> => {
  const pool = openMysqlPool(mysql, { connections: 2 });
  const desk = new OutboxDesk(pool);
  try {
    await shardsOf(pool);
    return await work(desk);
  } finally {
    await desk.close();
    await pool.end();
  }
};
