import { idFromBytes, idToBytes, type MessageId } from "../../message/id.ts";
import type { SqlRow, SqlValue } from "../../tx/database.port.ts";
import type {
  BackoffWait,
  DelayedPlace,
  LanePlace,
  Outbox,
  OutboxRow,
  OwnRow,
  RowStub,
  ShardLeases,
  TxTrace,
} from "../../tx/outbox.port.ts";
import { type Mysql2Pool, MysqlConnection } from "./mysql-connection.ts";
import { classifyMysqlFailure } from "./mysql-failure.ts";
import { MysqlShardLeases } from "./mysql-shard-leases.ts";
import { headOf, heldMs, kindOf, kinds, outcomeNames, outcomes } from "./outbox-columns.ts";
import { marks, nowMs, removeByKeyStatement } from "./sql-text.ts";

/**
 * The outbox in MySQL and MariaDB, outside of the callers' transactions (within: mysql-outbox-writer.ts). Nothing here
 * needs more than both of them have (no RETURNING, no window functions), and what users give is passed as bytes, so that
 * no sql_mode changes its meaning.
 *
 * What surprised us: `UPDATE` uses the new value of a column that it has set further to the left.
 */
const lastErrorMax = 400;
const deletedAtOnce = 250;
/** With some tens of thousands of numbers in an IN, MySQL gives up the index, and reads and locks the whole table. */
const numbersAtOnce = 5_000;
/** Places beyond what is asked for that one statement may find, so that lanes are rarely asked one by one. */
const placesSlack = 1_000;
const lanesAtOnce = 50;

const list = (values: readonly unknown[]): string => marks(values.length);
const optional = (value: unknown): number | undefined => (value === null ? undefined : Number(value));

export class MysqlOutbox implements Outbox {
  readonly shardCount: number;
  /** On the same connection. */
  readonly leases: ShardLeases;
  readonly #connection: MysqlConnection;

  constructor(pool: Mysql2Pool, shardCount: number) {
    this.shardCount = shardCount;
    this.#connection = new MysqlConnection(pool);
    this.leases = new MysqlShardLeases(this.#connection, shardCount);
  }

  async rowsOf(txIds: readonly MessageId[]): Promise<readonly OwnRow[]> {
    const rows = await this.#rows(ownRowsStatement(txIds.length), txIds.map(idToBytes));
    return rows.map(ownRow);
  }

  async delayed(ids: readonly MessageId[]): Promise<readonly DelayedPlace[]> {
    if (ids.length === 0) return [];
    const rows = await this.#rows(delayedStatement(ids.length), ids.map(idToBytes));
    return rows.map(({ id, msg_id, created_at }) => ({
      row: Number(id),
      id: idFromBytes(msg_id as Buffer),
      createdAtMs: Number(created_at),
    }));
  }

  async placesOf(lanes: ReadonlyMap<number, number>, upToRow: number): Promise<readonly LanePlace[]> {
    const numbers = [...lanes.keys()].sort((a, b) => a - b);
    const limit = placesSlack + [...lanes.values()].reduce((sum, count) => sum + count, 0);
    const places = (await this.#rows(placesStatement(lanes.size), [...numbers, upToRow, limit])).map(lanePlace);
    if (places.length < limit) return places;
    // A long lane has used up the limit: it and those behind it are asked one by one.
    const rest = numbers.filter((lane) => lane >= places.at(-1)!.lane);
    const found = places.filter(({ lane }) => lane < rest[0]!);
    for (let from = 0; from < rest.length; from += lanesAtOnce) {
      const some = rest.slice(from, from + lanesAtOnce);
      const values = some.flatMap((lane) => [lane, upToRow, lanes.get(lane)!]);
      found.push(...(await this.#rows(placesOfEachStatement(some.length), values)).map(lanePlace));
    }
    return found;
  }

  async nextDue(shards: readonly number[]) {
    if (shards.length === 0) return [];
    const rows = await this.#rows(nextDueStatement(shards.length), shards);
    return rows.map(({ shard, in_ms }) => ({ shard: Number(shard), inMs: Number(in_ms) }));
  }

  async due(shard: number, limit: number, after?: RowStub): Promise<readonly RowStub[]> {
    const rows =
      after === undefined
        ? await this.#rows(dueStatement, [shard, limit])
        : await this.#rows(dueAfterStatement, [shard, after.dueSinceMs, after.dueSinceMs, after.row, limit]);
    return rows.map(({ id, lane, body_bytes, next_at, kind, topic, deliver_at }) => ({
      row: Number(id),
      lane: optional(lane),
      bodyBytes: Number(body_bytes),
      dueSinceMs: Number(next_at),
      kind: kindOf(kind),
      topic: String(topic),
      dueAtMs: optional(deliver_at),
    }));
  }

  async fetch(ids: readonly number[]): Promise<readonly OutboxRow[]> {
    if (ids.length === 0) return [];
    const rows = await this.#rows(
      `SELECT id, msg_id, lane, kind, topic, attempts, deliver_at, created_at, head, body FROM escapement_outbox WHERE id IN (${list(ids)})`,
      ids,
    );
    return rows.map((row) => {
      const kind = kindOf(row.kind);
      // Of a newer kind we know nothing, so not what is wrong with its head either.
      const head = kind === "newer" ? {} : headOf(row.head);
      return {
        ...ownRow(row),
        kind: head === undefined ? "unreadable" : kind,
        topic: String(row.topic),
        attempts: Number(row.attempts),
        head: head ?? {},
        body: row.body as Buffer,
      };
    });
  }

  async remove(ids: readonly number[]): Promise<number> {
    let removed = 0;
    for (const some of inParts(ids)) removed += await this.#affected(removeStatement(some.length), some);
    return removed;
  }

  async hasten(ids: readonly number[], inMs: number): Promise<void> {
    for (const some of inParts(ids)) await this.#affected(hastenStatement(some.length), [inMs, ...some]);
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
        `INSERT INTO escapement_outbox_dead (tx_id, msg_id, kind, topic, deliver_at, created_at, buried_at, attempts, head, body, reason)
         SELECT tx_id, msg_id, kind, topic, deliver_at, created_at, ${nowMs}, attempts + 1, head, body, ? FROM escapement_outbox WHERE id IN (${list(ids)}) ORDER BY id`,
        [textBytes(reason), ...ids],
      );
      await run(removeStatement(ids.length), ids);
    });
  }

  async outcome(txId: MessageId): Promise<TxTrace> {
    const id = idToBytes(txId);
    const rows = await this.#rows(outcomeStatement, [id, id, id]);
    const of = (part: number): readonly SqlRow[] => rows.filter((row) => Number(row.part) === part);
    const [mark] = of(0);
    return {
      mark:
        mark === undefined ? undefined : { outcome: outcomeNames[Number(mark.count) - 1]!, atMs: Number(mark.at_ms) },
      waiting: of(1).map(({ msg_id, count, reason }) => ({
        id: idFromBytes(msg_id as Buffer),
        attempts: Number(count),
        ...(reason === null ? undefined : { lastError: String(reason) }),
      })),
      dead: of(2).map(({ msg_id, reason }) => ({ id: idFromBytes(msg_id as Buffer), reason: String(reason) })),
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

  async removeHeld(shards: readonly number[], olderThanMs: number): Promise<number> {
    const ids = (await this.#rows(heldStatement(shards.length), [...shards, heldMs, olderThanMs])).map(({ id }) =>
      Number(id),
    );
    if (ids.length === 0) return 0;
    return this.#affected(`${removeStatement(ids.length)} AND next_at >= ?`, [...ids, heldMs]);
  }

  async sweep({ marksMs, fencesMs }: Parameters<Outbox["sweep"]>[0], limit: number): Promise<number> {
    // Ids begin with their time. What an open transaction has locked is left alone: the relay must not wait for it.
    const rows = await this.#rows(sweepStatement, [marksMs, fencesMs, marksMs, limit]);
    let removed = 0;
    for (let from = 0; from < rows.length; from += deletedAtOnce) {
      const ids = rows.slice(from, from + deletedAtOnce).map(({ tx_id }) => tx_id as Buffer);
      removed += await this.#affected(removeByKeyStatement("escapement_tx", "tx_id", ids.length), ids);
    }
    return removed;
  }

  async close(): Promise<void> {
    await this.#connection.close();
  }

  async #rows(sql: string, values: readonly SqlValue[]): Promise<readonly SqlRow[]> {
    return (await this.#connection.run(sql, values)).rows;
  }

  async #affected(sql: string, values: readonly SqlValue[]): Promise<number> {
    return (await this.#connection.run(sql, values)).affected;
  }
}

function* inParts(ids: readonly number[]): Generator<readonly number[]> {
  for (let from = 0; from < ids.length; from += numbersAtOnce) yield ids.slice(from, from + numbersAtOnce);
}

/** Exported for the test that asks the database how it would run them. */
export const hastenStatement = (rows: number): string =>
  `UPDATE escapement_outbox FORCE INDEX (PRIMARY) SET next_at = LEAST(next_at, ${nowMs} + ?) WHERE id IN (${marks(rows)}) AND attempts = 0`;
export const removeStatement = (rows: number): string => `DELETE FROM escapement_outbox WHERE id IN (${marks(rows)})`;
/** One statement, so that all is seen at one moment: between two of them a row may go from one table to another. */
export const outcomeStatement = `SELECT 0 AS part, outcome AS count, at AS at_ms, NULL AS msg_id, NULL AS reason FROM escapement_tx WHERE tx_id = ?
 UNION ALL SELECT 1, attempts, NULL, msg_id, last_error FROM escapement_outbox WHERE tx_id = ?
 UNION ALL SELECT 2, attempts, NULL, msg_id, reason FROM escapement_outbox_dead WHERE tx_id = ?`;
export const sweepStatement = `SELECT tx_id FROM escapement_tx FORCE INDEX (PRIMARY) WHERE tx_id < UNHEX(LPAD(HEX(${nowMs} - ?), 12, '0')) AND at < ${nowMs} - IF(outcome = ${outcomes.fenced}, ?, ?) ORDER BY tx_id LIMIT ? FOR UPDATE SKIP LOCKED`;
/** Looked for without a lock; those of open transactions cannot be seen. */
export const heldStatement = (shards: number): string =>
  `SELECT id FROM escapement_outbox WHERE shard IN (${marks(shards)}) AND next_at >= ? AND created_at < ${nowMs} - ? LIMIT 1000`;
export const ownRowsStatement = (txs: number): string =>
  `SELECT id, msg_id, lane, deliver_at, created_at FROM escapement_outbox WHERE tx_id IN (${marks(txs)})`;
export const delayedStatement = (ids: number): string =>
  `SELECT id, msg_id, created_at FROM escapement_outbox WHERE msg_id IN (${marks(ids)}) AND kind = ${kinds.indexOf("send")} AND deliver_at IS NOT NULL`;
const dueFrom = (condition: string): string =>
  `SELECT id, lane, body_bytes, next_at, kind, topic, deliver_at FROM escapement_outbox WHERE shard = ? AND next_at <= ${nowMs}${condition} ORDER BY next_at, id LIMIT ? FOR UPDATE SKIP LOCKED`;
export const dueStatement = dueFrom("");
export const dueAfterStatement = dueFrom(" AND next_at >= ? AND (next_at > ? OR id > ?)");
const place = `lane, id, CAST(next_at AS SIGNED) - ${nowMs} AS in_ms, attempts > 0 OR last_error IS NOT NULL AS was_tried`;
export const placesStatement = (lanes: number): string =>
  `SELECT ${place} FROM escapement_outbox WHERE lane IN (${marks(lanes)}) AND id <= ? ORDER BY lane, id LIMIT ?`;
export const placesOfEachStatement = (lanes: number): string => Array(lanes).fill(placesOfOne).join(" UNION ALL ");
const placesOfOne = `(SELECT ${place} FROM escapement_outbox WHERE lane = ? AND id <= ? ORDER BY id LIMIT ?)`;
/**
 * One look into the index for each shard. Grouped in one SELECT it is the whole index that is read, as long as the
 * database's statistics are those of a small table: 86 ms instead of 1.5 ms with 100,000 rows, in the very minutes of
 * an outage in which the table grows.
 */
export const nextDueStatement = (shards: number): string => Array(shards).fill(nextDueOfOne).join(" UNION ALL ");
const nextDueOfOne = `(SELECT shard, CAST(next_at AS SIGNED) - ${nowMs} AS in_ms FROM escapement_outbox WHERE shard = ? ORDER BY next_at LIMIT 1)`;

const lanePlace = ({ lane, id, in_ms, was_tried }: SqlRow): LanePlace => ({
  lane: Number(lane),
  row: Number(id),
  inMs: Number(in_ms),
  wasTried: Number(was_tried) === 1,
});

const ownRow = ({ id, msg_id, lane, deliver_at, created_at }: SqlRow): OwnRow => ({
  row: Number(id),
  id: idFromBytes(msg_id as Buffer),
  lane: optional(lane),
  dueAtMs: optional(deliver_at),
  createdAtMs: Number(created_at),
});

/** Text from a broker, as bytes and cut where a character ends. */
const textBytes = (text: string): Buffer => Buffer.from(text.slice(0, lastErrorMax).toWellFormed(), "utf8");
