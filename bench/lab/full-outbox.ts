import type { Pool } from "mysql2/promise";
import type { MysqlOutbox } from "../../src/adapters/mysql/mysql-outbox.ts";
import { nowMs } from "../../src/adapters/mysql/sql-text.ts";

/**
 * Rows straight into the outbox, as transactions of an hour would have left them: ids in the order of time, all shards in
 * turn, no lanes; MariaDB's own table of numbers makes them. And a batch out of it, as the relay takes it.
 */
export type OutboxFill = {
  readonly topic: string;
  readonly from: number;
  readonly count: number;
  readonly body: Buffer;
  /** All into this one, not in turn. */
  readonly shard?: number;
  /** They became due this long ago, one a millisecond. */
  readonly dueForMs?: number;
};

const atOnce = 50_000;

export const fillOutbox = async (pool: Pool, fill: OutboxFill): Promise<void> => {
  const { topic, from, count, body, shard, dueForMs = count } = fill;
  const head = Buffer.from("{}");
  for (let done = 0; done < count; done += atOnce) {
    const first = from + done;
    const last = first + Math.min(atOnce, count - done) - 1;
    await pool.query(
      `INSERT INTO escapement_outbox (shard, next_at, lane, tx_id, msg_id, kind, topic, deliver_at, delay_ms, created_at, body_bytes, head, body)
       SELECT ${shard === undefined ? "seq MOD 16" : Math.trunc(shard)}, ${nowMs} - ? + (seq - ?), NULL, ${id}, ${id}, 0, ?, NULL, NULL, ${nowMs}, ?, ?, ?
       FROM seq_${Math.trunc(first)}_to_${Math.trunc(last)}`,
      [dueForMs, from, topic, body.length, head, body],
    );
  }
};

/** Sixteen bytes in the order of the rows, as time-ordered ids are. */
const id = "UNHEX(CONCAT('0199000000007000', LPAD(HEX(seq), 16, '0')))";

/** As a relay reads by default. */
export const claimRows = 200;

/** What the relay does for a batch of one shard: find and lock what is due, and read it with bodies. */
export const claim = async (outbox: MysqlOutbox, shard: number): Promise<number[]> => {
  const stubs = await outbox.due(shard, claimRows);
  return (await outbox.fetch(stubs.map(({ row }) => row))).map(({ row }) => row);
};
