import { idToBytes } from "../../message/id.ts";
import type { SqlValue } from "../../tx/database.port.ts";
import type { OutboxWriter } from "../../tx/outbox.port.ts";
import { barrierTable } from "./mysql-barrier.ts";
import { heldMs, kinds, outcomes } from "./outbox-columns.ts";
import { marks, nowMs } from "./sql-text.ts";

/**
 * What the outbox does inside of the callers' transactions. It knows nothing of their isolation, and takes no lock that
 * another transaction would have to wait for, except where order (`lockLane`) or a fence (`mark`) is the purpose.
 */
export const mysqlOutboxWriter: OutboxWriter = {
  async write(sql, txId, message, grace) {
    const { due, head, body, lane } = message;
    // Asked without a lock first: an INSERT that meets its own name locks the gap beside it, and with it everybody.
    if (message.mayExist && (await sql.execute(rowOfMessageStatement, [idToBytes(message.id)])).length > 0) return;
    const graceMs = grace === "held" ? heldMs : grace;
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

  async letGo(sql, id) {
    await sql.execute(letGoStatement, [idToBytes(id), heldMs]);
  },

  async drop(sql, txId, id) {
    await sql.execute("DELETE FROM escapement_outbox WHERE msg_id = ? AND tx_id = ? AND next_at >= ?", [
      idToBytes(id),
      idToBytes(txId),
      heldMs,
    ]);
  },

  async remove(sql, id, cancel) {
    // Asked without a lock first: in REPEATABLE READ a DELETE that finds nothing locks the gap where the row would be,
    // and in a table that is nearly empty that gap is everybody's. What the snapshot misses, the cancel's own row removes.
    const rows = await sql.execute(rowOfMessageStatement, [idToBytes(id)]);
    for (const { id: row } of rows) await sql.execute(removeBesideStatement, [idToBytes(cancel), Number(row)]);
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

  async markBeside(sql, txId, row) {
    const id = idToBytes(txId);
    const beside =
      row.table === "outbox"
        ? "escapement_outbox AS beside WHERE msg_id = ?"
        : `${barrierTable} AS beside WHERE id = ?`;
    await sql.execute(
      `INSERT INTO escapement_tx (tx_id, outcome, at) SELECT ?, ${outcomes.committed}, ${nowMs} FROM ${beside} ON DUPLICATE KEY UPDATE escapement_tx.outcome = escapement_tx.outcome`,
      [id, idToBytes(row.id)],
    );
    // Locking, since it must not be answered from a snapshot that is older than the fence; the row is ours already.
    const [mark] = await sql.execute("SELECT outcome FROM escapement_tx WHERE tx_id = ? FOR UPDATE", [id]);
    if (mark === undefined) return "gone";
    return Number(mark.outcome) === outcomes.fenced ? "fenced" : "marked";
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
export const rowOfMessageStatement = "SELECT id FROM escapement_outbox WHERE msg_id = ?";
export const removeBesideStatement =
  "DELETE target FROM escapement_outbox AS cancel STRAIGHT_JOIN escapement_outbox AS target FORCE INDEX (PRIMARY) WHERE cancel.msg_id = ? AND target.id = ?";
export const letGoStatement = `UPDATE escapement_outbox FORCE INDEX (msg) SET next_at = ${nowMs} WHERE msg_id = ? AND next_at >= ?`;
export const touchedRowsStatement = "SELECT id FROM escapement_outbox WHERE tx_id = ?";
/**
 * By the primary key, where a row is locked and nothing beside it. By `tx_id`, whose values rise, it would be the end of
 * the index, where everybody inserts; by `msg_id` it is the gap before. Forced, because of a small table the whole would
 * be read, and locked.
 */
export const touchStatement = (rows: number): string =>
  `UPDATE escapement_outbox FORCE INDEX (PRIMARY) SET next_at = ${nowMs} + ?, deliver_at = IF(delay_ms IS NULL, deliver_at, ${nowMs} + delay_ms) WHERE id IN (${marks(rows)})`;
