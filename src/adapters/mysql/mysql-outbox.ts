import { idFromBytes, idToBytes, type MessageId } from "../../message/id.ts";
import type { SqlRow, SqlValue } from "../../tx/database.port.ts";
import type {
  BackoffWait,
  LanePlace,
  Outbox,
  OutboxHead,
  OutboxRow,
  OutboxWriter,
  OwnRow,
  RowStub,
  ShardLeases,
  TxTrace,
} from "../../tx/outbox.port.ts";
import { type Mysql2Pool, MysqlConnection } from "./mysql-connection.ts";
import { classifyMysqlFailure } from "./mysql-failure.ts";

/**
 * The outbox in MySQL and MariaDB: every statement of it. Nothing here needs more than both of them have (no RETURNING,
 * no window functions), and what users give is passed as bytes, so that no sql_mode changes its meaning.
 *
 * What surprised us: `UPDATE` uses the new value of a column that it has set further to the left; `UNIX_TIMESTAMP(NOW())`
 * counts an hour twice when summer time ends, so that times are made from UTC_TIMESTAMP.
 */
export const nowMs = "(TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', UTC_TIMESTAMP(3)) DIV 1000)";

const kinds = ["send", "cancel"] as const;
const outcomes = { committed: 1, fenced: 2, "ended-inside": 3 } as const;
const outcomeNames = ["committed", "fenced", "ended-inside"] as const;
const savepoints = { whole: "escapement_tx", join: "escapement_join" } as const;
/** Strict order: transactions whose keys share one of these take turns until they commit. */
const laneBuckets = 4_096;
const lastErrorMax = 400;
const deletedAtOnce = 250;

const list = (values: readonly unknown[]): string => values.map(() => "?").join(",");
const optional = (value: unknown): number | undefined => (value === null ? undefined : Number(value));

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
    await sql.execute("DELETE FROM escapement_outbox WHERE msg_id = ?", [idToBytes(id)]);
  },

  async lockLane(sql, lane) {
    const bucket = lane % laneBuckets;
    await sql.execute(
      "INSERT INTO escapement_outbox_lane_lock (bucket) VALUES (?) ON DUPLICATE KEY UPDATE bucket = bucket",
      [bucket],
    );
  },

  async touch(sql, txId, graceMs) {
    await sql.execute(
      `UPDATE escapement_outbox SET next_at = ${nowMs} + ?, deliver_at = IF(delay_ms IS NULL, deliver_at, ${nowMs} + delay_ms) WHERE tx_id = ?`,
      [graceMs, idToBytes(txId)],
    );
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

export class MysqlOutbox implements Outbox, ShardLeases {
  readonly shardCount: number;
  readonly #connection: MysqlConnection;

  constructor(pool: Mysql2Pool, shardCount: number) {
    this.shardCount = shardCount;
    this.#connection = new MysqlConnection(pool);
  }

  async rowsOf(txIds: readonly MessageId[]): Promise<readonly OwnRow[]> {
    const rows = await this.#rows(
      `SELECT id, msg_id, lane, deliver_at, created_at FROM escapement_outbox WHERE tx_id IN (${list(txIds)})`,
      txIds.map(idToBytes),
    );
    return rows.map(ownRow);
  }

  async placesOf(lanes: readonly number[], upToRow: number, limit: number): Promise<readonly LanePlace[]> {
    const rows = await this.#rows(
      `SELECT lane, id, CAST(next_at AS SIGNED) - ${nowMs} AS in_ms FROM escapement_outbox WHERE lane IN (${list(lanes)}) AND id <= ? ORDER BY lane, id LIMIT ?`,
      [...lanes, upToRow, limit],
    );
    return rows.map(({ lane, id, in_ms }) => ({ lane: Number(lane), row: Number(id), inMs: Number(in_ms) }));
  }

  async nextDue(shards: readonly number[]) {
    if (shards.length === 0) return [];
    const rows = await this.#rows(nextDueStatement(shards.length), shards);
    return rows.map(({ shard, in_ms }) => ({ shard: Number(shard), inMs: Number(in_ms) }));
  }

  async due(shard: number, limit: number): Promise<readonly RowStub[]> {
    const rows = await this.#rows(dueStatement, [shard, limit]);
    return rows.map(({ id, lane, body_bytes }) => ({
      row: Number(id),
      lane: optional(lane),
      bodyBytes: Number(body_bytes),
    }));
  }

  async fetch(ids: readonly number[]): Promise<readonly OutboxRow[]> {
    if (ids.length === 0) return [];
    const rows = await this.#rows(
      `SELECT id, msg_id, lane, kind, topic, attempts, deliver_at, created_at, head, body FROM escapement_outbox WHERE id IN (${list(ids)})`,
      ids,
    );
    return rows.map((row) => ({
      ...ownRow(row),
      kind: kinds[Number(row.kind)]!,
      topic: String(row.topic),
      attempts: Number(row.attempts),
      head: JSON.parse((row.head as Buffer).toString("utf8")) as OutboxHead,
      body: row.body as Buffer,
    }));
  }

  async remove(ids: readonly number[]): Promise<number> {
    if (ids.length === 0) return 0;
    return this.#affected(`DELETE FROM escapement_outbox WHERE id IN (${list(ids)})`, ids);
  }

  async failed(ids: readonly number[], reason: string, { baseMs, maxMs, jitter }: BackoffWait): Promise<void> {
    await this.#affected(
      `UPDATE escapement_outbox SET next_at = ${nowMs} + FLOOR(LEAST(?, ? * POW(2, LEAST(attempts, 20))) * ?), attempts = attempts + 1, last_error = ? WHERE id IN (${list(ids)})`,
      [maxMs, baseMs, jitter, textBytes(reason), ...ids],
    );
  }

  async postpone(ids: readonly number[], inMs: number, reason?: string): Promise<void> {
    await this.#affected(
      `UPDATE escapement_outbox SET next_at = GREATEST(next_at, ${nowMs} + ?), last_error = COALESCE(?, last_error) WHERE id IN (${list(ids)})`,
      [Math.ceil(inMs), reason === undefined ? null : textBytes(reason), ...ids],
    );
  }

  async bury(ids: readonly number[], reason: string): Promise<void> {
    await this.#connection.transaction(async (run) => {
      await run(
        `INSERT INTO escapement_outbox_dead (id, tx_id, msg_id, kind, topic, deliver_at, created_at, buried_at, attempts, head, body, reason)
         SELECT id, tx_id, msg_id, kind, topic, deliver_at, created_at, ${nowMs}, attempts + 1, head, body, ? FROM escapement_outbox WHERE id IN (${list(ids)})`,
        [textBytes(reason), ...ids],
      );
      await run(`DELETE FROM escapement_outbox WHERE id IN (${list(ids)})`, ids);
    });
  }

  async outcome(txId: MessageId): Promise<TxTrace> {
    const id = [idToBytes(txId)];
    // The mark first: whoever commits in between is seen as waiting, never as sent.
    const [mark] = await this.#rows("SELECT outcome, at FROM escapement_tx WHERE tx_id = ?", id);
    const waiting = await this.#rows("SELECT msg_id, attempts, last_error FROM escapement_outbox WHERE tx_id = ?", id);
    const dead = await this.#rows("SELECT msg_id, reason FROM escapement_outbox_dead WHERE tx_id = ?", id);
    return {
      mark:
        mark === undefined ? undefined : { outcome: outcomeNames[Number(mark.outcome) - 1]!, atMs: Number(mark.at) },
      waiting: waiting.map(({ msg_id, attempts, last_error }) => ({
        id: idFromBytes(msg_id as Buffer),
        attempts: Number(attempts),
        ...(last_error === null ? undefined : { lastError: String(last_error) }),
      })),
      dead: dead.map(({ msg_id, reason }) => ({ id: idFromBytes(msg_id as Buffer), reason: String(reason) })),
    };
  }

  async fence(txId: MessageId, began: Parameters<Outbox["fence"]>[1]): Promise<"settled" | "open" | "too-old"> {
    try {
      const written = await this.#affected(
        `INSERT INTO escapement_tx (tx_id, outcome, at) SELECT ?, ${outcomes.fenced}, ${nowMs} FROM DUAL WHERE ? > ${nowMs} - ?`,
        [idToBytes(txId), began.atMs, began.withinMs],
      );
      return written === 0 ? "too-old" : "settled";
    } catch (error) {
      const failure = classifyMysqlFailure(error);
      if (failure === "lock-wait-timeout") return "open";
      if (failure !== "duplicate") throw error;
      return "settled";
    }
  }

  async noteEndedInside(txId: MessageId): Promise<void> {
    const outcome = outcomes["ended-inside"];
    await this.#affected(
      `INSERT INTO escapement_tx (tx_id, outcome, at) VALUES (?, ${outcome}, ${nowMs}) ON DUPLICATE KEY UPDATE outcome = ${outcome}`,
      [idToBytes(txId)],
    );
  }

  async sweep({ marksMs, fencesMs }: Parameters<Outbox["sweep"]>[0], limit: number): Promise<number> {
    // Ids begin with their time. What an open transaction has locked is left alone: the relay must not wait for it.
    const rows = await this.#rows(
      `SELECT tx_id FROM escapement_tx FORCE INDEX (PRIMARY) WHERE tx_id < UNHEX(LPAD(HEX(${nowMs} - ?), 12, '0')) AND at < ${nowMs} - IF(outcome = ${outcomes.fenced}, ?, ?) ORDER BY tx_id LIMIT ? FOR UPDATE SKIP LOCKED`,
      [marksMs, fencesMs, marksMs, limit],
    );
    let removed = 0;
    for (let from = 0; from < rows.length; from += deletedAtOnce) {
      const ids = rows.slice(from, from + deletedAtOnce).map(({ tx_id }) => tx_id as Buffer);
      // With IN a small table would be read in full, and what others have locked in it be waited for.
      const gone = ids.map(() => "SELECT ? AS tx_id").join(" UNION ALL ");
      removed += await this.#affected(
        `DELETE escapement_tx FROM (${gone}) AS gone STRAIGHT_JOIN escapement_tx FORCE INDEX (PRIMARY) ON escapement_tx.tx_id = gone.tx_id`,
        ids,
      );
    }
    return removed;
  }

  // --- which relay reads which shard ------------------------------------------------------------------------------

  async keep(owner: string, leaseMs: number): Promise<readonly number[]> {
    await this.#affected(
      `INSERT INTO escapement_outbox_relay (owner, seen_until) VALUES (?, ${nowMs} + ?) ON DUPLICATE KEY UPDATE seen_until = VALUES(seen_until)`,
      [owner, leaseMs],
    );
    await this.#affected(`DELETE FROM escapement_outbox_relay WHERE seen_until < ${nowMs} - 60000`, []);
    const [relays] = await this.#rows(
      `SELECT COUNT(*) AS relays FROM escapement_outbox_relay WHERE seen_until >= ${nowMs}`,
      [],
    );
    const share = Math.ceil(this.shardCount / Math.max(1, Number(relays!.relays)));
    const mine = await this.#owned(owner);
    const surplus = mine.slice(share);
    if (surplus.length > 0) await this.#free(owner, surplus);
    const kept = mine.slice(0, share);
    if (kept.length > 0) {
      // Only while it is ours: who was away too long may find that it has become somebody else's.
      await this.#affected(
        `UPDATE escapement_outbox_shard SET lease_until = ${nowMs} + ? WHERE owner = ? AND lease_until >= ${nowMs} AND shard IN (${list(kept)})`,
        [leaseMs, owner, ...kept],
      );
    }
    if (kept.length < share) await this.#take(owner, leaseMs, share - kept.length);
    return this.#owned(owner);
  }

  async release(owner: string): Promise<void> {
    await this.#affected("UPDATE escapement_outbox_shard SET owner = '', lease_until = 0 WHERE owner = ?", [owner]);
    await this.#affected("DELETE FROM escapement_outbox_relay WHERE owner = ?", [owner]);
  }

  async close(): Promise<void> {
    await this.#connection.close();
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
        `UPDATE escapement_outbox_shard SET owner = ?, lease_until = ${nowMs} + ? WHERE shard IN (${list(shards)})`,
        [owner, leaseMs, ...shards],
      );
    });
  }

  async #free(owner: string, shards: readonly number[]): Promise<void> {
    await this.#affected(
      `UPDATE escapement_outbox_shard SET owner = '', lease_until = 0 WHERE owner = ? AND shard IN (${list(shards)})`,
      [owner, ...shards],
    );
  }

  async #owned(owner: string): Promise<number[]> {
    const rows = await this.#rows(
      `SELECT shard FROM escapement_outbox_shard WHERE owner = ? AND lease_until >= ${nowMs} ORDER BY shard`,
      [owner],
    );
    return rows.map(({ shard }) => Number(shard));
  }

  async #rows(sql: string, values: readonly SqlValue[]): Promise<readonly SqlRow[]> {
    return (await this.#again(sql, values)).rows;
  }

  async #affected(sql: string, values: readonly SqlValue[]): Promise<number> {
    return (await this.#again(sql, values)).affected;
  }

  /** A single statement that lost a deadlock has done nothing and is simply run again. */
  async #again(
    sql: string,
    values: readonly SqlValue[],
    triesLeft = 5,
  ): Promise<Awaited<ReturnType<MysqlConnection["run"]>>> {
    try {
      return await this.#connection.run(sql, values);
    } catch (error) {
      if (triesLeft === 0 || classifyMysqlFailure(error) !== "deadlock") throw error;
      return this.#again(sql, values, triesLeft - 1);
    }
  }
}

/** Exported for the test that asks the database how it would run them. */
export const dueStatement = `SELECT id, lane, body_bytes FROM escapement_outbox WHERE shard = ? AND next_at <= ${nowMs} ORDER BY next_at, id LIMIT ? FOR UPDATE SKIP LOCKED`;
/**
 * One look into the index for each shard. Grouped in one SELECT it is the whole index that is read, as long as the
 * database's statistics are those of a small table: 86 ms instead of 1.5 ms with 100,000 rows, in the very minutes of
 * an outage in which the table grows.
 */
export const nextDueStatement = (shards: number): string => Array(shards).fill(nextDueOfOne).join(" UNION ALL ");
const nextDueOfOne = `(SELECT shard, CAST(next_at AS SIGNED) - ${nowMs} AS in_ms FROM escapement_outbox WHERE shard = ? ORDER BY next_at LIMIT 1)`;

const ownRow = ({ id, msg_id, lane, deliver_at, created_at }: SqlRow): OwnRow => ({
  row: Number(id),
  id: idFromBytes(msg_id as Buffer),
  lane: optional(lane),
  dueAtMs: optional(deliver_at),
  createdAtMs: Number(created_at),
});

/** Text from a broker, as bytes and cut where a character ends. */
const textBytes = (text: string): Buffer => Buffer.from(text.slice(0, lastErrorMax).toWellFormed(), "utf8");
