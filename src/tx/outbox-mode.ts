import type { MessageId } from "../message/id.ts";
import type { Clock } from "../runtime/clock.ts";
import { reach } from "../runtime/failpoint.ts";
import type { Random } from "../runtime/random.ts";
import type { ClassifyFailure, SqlExecutor } from "./database.port.ts";
import type { FastPath } from "./fast-path.ts";
import type { OutboxMessage, OutboxWriter } from "./outbox.port.ts";
import { outgoing, outgoingCancel, type TxMessage, type TxMessageRef } from "./outgoing.ts";
import { markCommitted, writeJoined } from "./proof-of-transaction.ts";
import { TxError } from "./tx-error.ts";
import type { SentInTx, TxMode, TxSession } from "./tx-mode.port.ts";

/**
 * Messages as rows of the outbox. A row is written at once, in the caller's transaction: what is rolled back, whole or
 * to a savepoint, takes its rows along.
 *
 * The mark is written also when there are no messages, or none any more: whoever asks for the outcome means the business
 * rows. In a joined transaction nobody will tell us of the commit, so it is written with the messages.
 */
export type OutboxModeOptions = {
  readonly writer: OutboxWriter;
  readonly shardCount: number;
  readonly order: "key" | "strict";
  readonly graceMs: number;
  /** Absent: every message waits for the relay, which then need not wait either. */
  readonly fastPath: FastPath | undefined;
  readonly relayExpects: () => void;
  readonly canCancel: boolean;
  /** Whether a mark says later that the transaction was committed. */
  readonly marks: boolean;
  readonly classify: ClassifyFailure;
  readonly clock: Clock;
  readonly random: Random;
};

/** A transaction that has lasted longer than this share of the grace gets a new one right before COMMIT. */
const graceShare = 0.25;

export const createOutboxMode = (options: OutboxModeOptions): TxMode => ({
  begin: (txId, owned) => new OutboxSession(options, txId, owned),
});

class OutboxSession implements TxSession {
  readonly #options: OutboxModeOptions;
  readonly #txId: MessageId;
  readonly #owned: boolean;
  readonly #written: OutboxMessage[] = [];
  #firstWriteMs: number | undefined;

  constructor(options: OutboxModeOptions, txId: MessageId, owned: boolean) {
    this.#options = options;
    this.#txId = txId;
    this.#owned = owned;
  }

  async send(sql: SqlExecutor, message: TxMessage): Promise<SentInTx> {
    const row = outgoing(message, this.#context());
    await this.#write(sql, row);
    const { key } = row.head;
    return { id: row.id, ...(key === undefined ? undefined : { key }) };
  }

  async cancel(sql: SqlExecutor, ref: TxMessageRef): Promise<void> {
    if (!this.#options.canCancel) {
      throw new TxError(
        "delay_server_missing",
        "Give createTxProducer the option escapement: { url }, the delay server's address.",
      );
    }
    const { target, row } = outgoingCancel(ref, this.#context());
    // Also when there is a row to remove: a copy of it may be on its way at this moment.
    await this.#write(sql, row);
    await this.#options.writer.remove(sql, target, row.id);
  }

  async beforeCommit(sql: SqlExecutor): Promise<void> {
    const { writer, clock, graceMs } = this.#options;
    const hasRelative = this.#written.some(({ due }) => due !== undefined && "afterMs" in due);
    // Without a fast path there is no grace, and nothing to keep the relay off.
    const sinceMs = this.#firstWriteMs === undefined ? 0 : clock.monotonicMs() - this.#firstWriteMs;
    const isSlow = graceMs > 0 && sinceMs > graceMs * graceShare;
    if (hasRelative || isSlow) await writer.touch(sql, this.#txId, this.#graceMs());
    if (this.#options.marks) await markCommitted(this.#options, sql, this.#txId);
  }

  committed(): void {
    if (this.#written.length === 0) return;
    if (this.#options.fastPath?.offer(this.#txId, this.#written) !== true) this.#options.relayExpects();
  }

  unknown(): void {
    this.#options.relayExpects();
  }

  rolledBack(): void {}

  async #write(sql: SqlExecutor, row: OutboxMessage): Promise<void> {
    const { writer, order, clock } = this.#options;
    if (order === "strict" && row.lane !== undefined) await writer.lockLane(sql, row.lane);
    this.#firstWriteMs ??= clock.monotonicMs();
    if (this.#owned) await writer.write(sql, this.#txId, row, this.#graceMs());
    else await this.#writeJoined(sql, row);
    this.#written.push(row);
    reach("tx-row-written");
    if (!this.#owned) this.#options.relayExpects();
  }

  async #writeJoined(sql: SqlExecutor, row: OutboxMessage): Promise<void> {
    const { writer } = this.#options;
    await writeJoined(
      this.#options,
      sql,
      this.#txId,
      { table: "outbox", id: row.id },
      {
        write: () => writer.write(sql, this.#txId, row, "held"),
        takeBack: () => writer.drop(sql, this.#txId, row.id),
      },
    );
    await writer.letGo(sql, row.id);
  }

  #graceMs(): number {
    return this.#options.fastPath === undefined ? 0 : this.#options.graceMs;
  }

  #context() {
    const { clock, random, shardCount } = this.#options;
    return { nowMs: clock.nowMs(), random, shardCount };
  }
}
