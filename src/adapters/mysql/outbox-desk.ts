import { type Mysql2Pool, MysqlConnection } from "./mysql-connection.ts";
import { marks, nowMs } from "./sql-text.ts";

/** What an operator asks of an outbox, and the one thing he changes: messages that were put aside are sent again. */
export type OutboxOverview = {
  readonly waiting: number;
  /** Of them, tried in vain at least once. */
  readonly tried: number;
  /** Of the oldest that waits. */
  readonly oldestMs: number;
  /** The reasons of those that were tried, most frequent first. */
  readonly troubles: readonly { readonly topic: string; readonly lastError: string; readonly messages: number }[];
  readonly dead: readonly { readonly topic: string; readonly reason: string; readonly messages: number }[];
};

const groupsMax = 20;
/** In one transaction; bodies are copied. */
const resendMax = 500;

export class OutboxDesk {
  readonly #connection: MysqlConnection;

  constructor(pool: Mysql2Pool) {
    this.#connection = new MysqlConnection(pool);
  }

  async overview(): Promise<OutboxOverview> {
    const run = async (sql: string) => (await this.#connection.run(sql)).rows;
    const [all] = await run(
      `SELECT COUNT(*) AS waiting, COUNT(last_error) AS tried, GREATEST(COALESCE(${nowMs} - CAST(MIN(created_at) AS SIGNED), 0), 0) AS oldest FROM escapement_outbox`,
    );
    const troubles = await run(
      `SELECT topic, last_error, COUNT(*) AS n FROM escapement_outbox WHERE last_error IS NOT NULL GROUP BY topic, last_error ORDER BY n DESC LIMIT ${groupsMax}`,
    );
    const dead = await run(
      `SELECT topic, reason, COUNT(*) AS n FROM escapement_outbox_dead GROUP BY topic, reason ORDER BY n DESC LIMIT ${groupsMax}`,
    );
    return {
      waiting: Number(all!.waiting),
      tried: Number(all!.tried),
      oldestMs: Number(all!.oldest),
      troubles: troubles.map(({ topic, last_error, n }) => ({
        topic: String(topic),
        lastError: String(last_error),
        messages: Number(n),
      })),
      dead: dead.map(({ topic, reason, n }) => ({ topic: String(topic), reason: String(reason), messages: Number(n) })),
    };
  }

  /** In the order in which they were put aside, under their ids, without the order they had; answers how many. */
  async resend(topic: string | undefined): Promise<number> {
    for (let all = 0; ; ) {
      const moved = await this.#connection.transaction(async (run) => {
        const { rows } = await run(
          `SELECT id FROM escapement_outbox_dead ${topic === undefined ? "" : "WHERE topic = ? "}ORDER BY id LIMIT ${resendMax} FOR UPDATE`,
          topic === undefined ? [] : [topic],
        );
        if (rows.length === 0) return 0;
        const ids = rows.map(({ id }) => Number(id));
        // One that waits again under the same name is the same message.
        await run(
          `INSERT INTO escapement_outbox (shard, next_at, tx_id, msg_id, kind, topic, deliver_at, created_at, body_bytes, head, body)
           SELECT id % (SELECT COUNT(*) FROM escapement_outbox_shard), ${nowMs}, tx_id, msg_id, kind, topic, deliver_at, created_at, LENGTH(body), head, body
           FROM escapement_outbox_dead WHERE id IN (${marks(ids.length)}) ORDER BY id
           ON DUPLICATE KEY UPDATE attempts = escapement_outbox.attempts`,
          ids,
        );
        await run(`DELETE FROM escapement_outbox_dead WHERE id IN (${marks(ids.length)})`, ids);
        return ids.length;
      });
      all += moved;
      if (moved < resendMax) return all;
    }
  }

  async close(): Promise<void> {
    await this.#connection.close();
  }
}
