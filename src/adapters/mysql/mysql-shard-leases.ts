import type { SqlValue } from "../../tx/database.port.ts";
import type { ShardLeases } from "../../tx/outbox.port.ts";
import type { MysqlConnection, SqlResult } from "./mysql-connection.ts";
import { marks, nowMs } from "./sql-text.ts";

/**
 * Which relay reads which shard: each says that it is there, counts the others, and holds its share. By the database's
 * clock alone.
 */
export class MysqlShardLeases implements ShardLeases {
  readonly #connection: MysqlConnection;
  readonly #shardCount: number;

  constructor(connection: MysqlConnection, shardCount: number) {
    this.#connection = connection;
    this.#shardCount = shardCount;
  }

  async keep(owner: string, leaseMs: number): Promise<readonly number[]> {
    await this.#run(
      `INSERT INTO escapement_outbox_relay (owner, seen_until) VALUES (?, ${nowMs} + ?) ON DUPLICATE KEY UPDATE seen_until = ${nowMs} + ?`,
      [owner, leaseMs, leaseMs],
    );
    await this.#run(`DELETE FROM escapement_outbox_relay WHERE seen_until < ${nowMs} - 60000`);
    const { rows } = await this.#run(
      `SELECT COUNT(*) AS relays FROM escapement_outbox_relay WHERE seen_until >= ${nowMs}`,
    );
    const share = Math.ceil(this.#shardCount / Math.max(1, Number(rows[0]!.relays)));
    const mine = await this.#owned(owner);
    const surplus = mine.slice(share);
    if (surplus.length > 0) await this.#free(owner, surplus);
    const kept = mine.slice(0, share);
    if (kept.length > 0) {
      // Only while it is ours: who was away too long may find that it has become somebody else's.
      await this.#run(
        `UPDATE escapement_outbox_shard SET lease_until = ${nowMs} + ? WHERE owner = ? AND lease_until >= ${nowMs} AND shard IN (${marks(kept.length)})`,
        [leaseMs, owner, ...kept],
      );
    }
    if (kept.length < share) await this.#take(owner, leaseMs, share - kept.length);
    return this.#owned(owner);
  }

  async release(owner: string): Promise<void> {
    await this.#run("UPDATE escapement_outbox_shard SET owner = '', lease_until = 0 WHERE owner = ?", [owner]);
    await this.#run("DELETE FROM escapement_outbox_relay WHERE owner = ?", [owner]);
  }

  /** Two that take at once never wait for each other, and never get the same one. */
  async #take(owner: string, leaseMs: number, count: number): Promise<void> {
    await this.#connection.transaction(async (run) => {
      const { rows } = await run(
        `SELECT shard FROM escapement_outbox_shard WHERE lease_until < ${nowMs} ORDER BY shard LIMIT ? FOR UPDATE SKIP LOCKED`,
        [count],
      );
      if (rows.length === 0) return;
      const shards = rows.map(({ shard }) => Number(shard));
      await run(
        `UPDATE escapement_outbox_shard SET owner = ?, lease_until = ${nowMs} + ? WHERE shard IN (${marks(shards.length)})`,
        [owner, leaseMs, ...shards],
      );
    });
  }

  async #free(owner: string, shards: readonly number[]): Promise<void> {
    await this.#run(
      `UPDATE escapement_outbox_shard SET owner = '', lease_until = 0 WHERE owner = ? AND shard IN (${marks(shards.length)})`,
      [owner, ...shards],
    );
  }

  async #owned(owner: string): Promise<number[]> {
    const { rows } = await this.#run(
      `SELECT shard FROM escapement_outbox_shard WHERE owner = ? AND lease_until >= ${nowMs} ORDER BY shard`,
      [owner],
    );
    return rows.map(({ shard }) => Number(shard));
  }

  #run(sql: string, values: readonly SqlValue[] = []): Promise<SqlResult> {
    return this.#connection.run(sql, values);
  }
}
