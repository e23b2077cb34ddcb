import { idToBytes } from "../../message/id.ts";
import type { SqlValue } from "../../tx/database.port.ts";
import type { OutboxWriter } from "../../tx/outbox.port.ts";
import { removeStatement } from "./mysql-outbox.ts";
import { kinds, outcomes } from "./outbox-columns.ts";
import { marks, nowMs } from "./sql-text.ts";

/**
 * What the outbox does inside of the callers' transactions. It knows nothing of their isolation, and takes no lock that
 * another transaction would have to wait for, except where order (`lockLane`) or a fence (`mark`) is the purpose.
 */
export const mysqlOutboxWriter: OutboxWriter = {
  async write(sql, txId, message, graceMs) {
    const { due, head, body, lane } = message;
    const afterMs = due !== undefined && "afterMs" in due ? due.afterMs : null;
    const deliverAt = due === undefined ? "NULL" : "atMs" in due ? "?" : `${nowMs} + ?`;
    const values: SqlValue[] = [message.shard, graceMs, lane ?? null, idToBytes(txId), idToBytes(message.id)];
    values.push(kinds.indexOf(message.kind), message.topic);
    if (due !== undefined) values.push("atMs" in due ? due.atMs : due.afterMs);
    values.push(afterMs, body.length, Buffer.from(JSON.stringify(head)), body);
    await sql.execute(
      `INSERT INTO escapement_outbox (shard, next_at, lane, tx_id, msg_id, kind, topic, deliver_at, delay_ms, created_at, body_bytes, head, body)
       VALUES (?, ${nowMs} + ?, ?, ?, ?, ?, ?, ${deliverAt}, ?, ${nowMs}, ?, ?, ?)${message.mayExist ? " ON DUPLICATE KEY UPDATE id = id" : ""}`,
      values,
    );
  },

  async remove(sql, id) {
    // Asked without a lock first: in REPEATABLE READ a DELETE that finds nothing locks the gap where the row would be,
    // and in a table that is nearly empty that gap is everybody's. What the snapshot misses, the cancel's own row removes.
    const rows = await sql.execute(cancelTargetStatement, [idToBytes(id)]);
    for (const { id: row } of rows) await sql.execute(removeStatement(1), [Number(row)]);
  },

  async lockLane(sql, lane) {
    const bucket = lane % laneBuckets;
    await sql.execute(
      "INSERT INTO escapement_outbox_lane_lock (bucket) VALUES (?) ON DUPLICATE KEY UPDATE bucket = bucket",
      [bucket],
    );
  },

  async touch(sql, txId, graceMs) {
    const rows = await sql.execute(touchedRowsStatement, [idToBytes(txId)]);
    const ids = rows.map(({ id }) => Number(id));
    for (let from = 0; from < ids.length; from += touchMax) {
      const some = ids.slice(from, from + touchMax);
      await sql.execute(touchStatement(some.length), [graceMs, ...some]);
    }
  },

  async mark(sql, txId) {
    await sql.execute(`INSERT INTO escapement_tx (tx_id, outcome, at) VALUES (?, ${outcomes.committed}, ${nowMs})`, [
      idToBytes(txId),
    ]);
  },

  async markAgain(sql, txId) {
    const id = idToBytes(txId);
    await sql.execute(
      `INSERT INTO escapement_tx (tx_id, outcome, at) VALUES (?, ${outcomes.committed}, ${nowMs}) ON DUPLICATE KEY UPDATE tx_id = tx_id`,
      [id],
    );
    // Locking, since it must not be answered from a snapshot that is older than the fence; the row is ours already.
    const [mark] = await sql.execute("SELECT outcome FROM escapement_tx WHERE tx_id = ? FOR UPDATE", [id]);
    return Number(mark?.outcome) === outcomes.fenced ? "fenced" : "marked";
  },

  async setSavepoint(sql, savepoint) {
    await sql.execute(`SAVEPOINT ${savepoints[savepoint]}`, []);
  },

  async releaseSavepoint(sql, savepoint) {
    await sql.execute(`RELEASE SAVEPOINT ${savepoints[savepoint]}`, []);
  },
};

const savepoints = { whole: "escapement_tx", join: "escapement_join" } as const;
/** Strict order: transactions whose keys share one of these take turns until they commit. */
const laneBuckets = 4_096;
/** Libraries bound how many values a statement takes. */
const touchMax = 1_000;

/** Exported for the test that asks the database how it would run them. */
export const cancelTargetStatement = "SELECT id FROM escapement_outbox WHERE msg_id = ?";
export const touchedRowsStatement = "SELECT id FROM escapement_outbox WHERE tx_id = ?";
/**
 * By the primary key, where a row is locked and nothing beside it. By `tx_id`, whose values rise, it would be the end of
 * the index, where everybody inserts; by `msg_id` it is the gap before. Forced, because of a small table the whole would
 * be read, and locked.
 */
export const touchStatement = (rows: number): string =>
  `UPDATE escapement_outbox FORCE INDEX (PRIMARY) SET next_at = ${nowMs} + ?, deliver_at = IF(delay_ms IS NULL, deliver_at, ${nowMs} + delay_ms) WHERE id IN (${marks(rows)})`;
