import type { MessageId } from "../../message/id.ts";
import type { Clock } from "../../runtime/clock.ts";
import type { Random } from "../../runtime/random.ts";
import type { SqlExecutor } from "../database.port.ts";
import type { OutboxMessage } from "../outbox.port.ts";
import { outgoing, type TxMessage, type TxMessageRef } from "../outgoing.ts";
import { type ProofParts, writeJoined } from "../proof-of-transaction.ts";
import type { SentInTx, TxMode, TxSession } from "../tx-mode.port.ts";
import type { HalfScope, HalfTransactions } from "./half-transactions.ts";

/**
 * Half messages as a way in which the messages of a transaction travel, for the topics that are named; everything else,
 * and every cancel, goes by the mode that it stands before. One transaction may do both.
 */
export type HalfTxModeOptions = ProofParts & {
  readonly half: HalfTransactions<SqlExecutor>;
  readonly otherwise: TxMode;
  /** Of type TRANSACTION: messages to them go as halves. */
  readonly topics: ReadonlySet<string>;
  /** Of any other type: delayed messages to them go as halves to the ingest topic. */
  readonly delayedTopics: ReadonlySet<string>;
  /** Whether a mark says later that the transaction was committed. */
  readonly marks: boolean;
  readonly clock: Clock;
  readonly random: Random;
};

export const createHalfTxMode = (options: HalfTxModeOptions): TxMode & { settled(): Promise<void> } => {
  const ending = new Set<Promise<void>>();
  return {
    begin: (txId, owned) => new HalfSession(options, txId, owned, ending),
    /** Resolves when the halves of committed transactions have been told so. */
    settled: async () => void (await Promise.all(ending)),
  };
};

class HalfSession implements TxSession {
  readonly #options: HalfTxModeOptions;
  readonly #txId: MessageId;
  readonly #scope: HalfScope<SqlExecutor> | undefined;
  readonly #otherwise: TxSession;
  readonly #ending: Set<Promise<void>>;
  #halves = 0;

  constructor(options: HalfTxModeOptions, txId: MessageId, owned: boolean, ending: Set<Promise<void>>) {
    this.#options = options;
    this.#txId = txId;
    this.#scope = owned ? options.half.begin(txId) : undefined;
    this.#otherwise = options.otherwise.begin(txId, owned);
    this.#ending = ending;
  }

  async send(sql: SqlExecutor, message: TxMessage): Promise<SentInTx> {
    const { clock, random, half } = this.#options;
    const isDelayed = message.deliverAt !== undefined || message.delay !== undefined;
    if (!this.#goesHalf(message.topic, isDelayed)) return this.#otherwise.send(sql, message);
    const made: OutboxMessage = outgoing(message, { nowMs: clock.nowMs(), random, shardCount: 1 });
    if (this.#scope !== undefined) await this.#scope.add(sql, made);
    else {
      await half.sendJoined(sql, this.#txId, made, (id, held) =>
        writeJoined(this.#options, sql, this.#txId, { table: "halves", id }, held),
      );
    }
    this.#halves++;
    const { key } = made.head;
    return { id: made.id, ...(key === undefined ? undefined : { key }) };
  }

  cancel(sql: SqlExecutor, ref: TxMessageRef): Promise<void> {
    return this.#otherwise.cancel(sql, ref);
  }

  async beforeCommit(sql: SqlExecutor): Promise<void> {
    await this.#otherwise.beforeCommit(sql);
    // Last, so that little time lies between the halves and the COMMIT.
    if (this.#halves > 0) await this.#scope!.beforeCommit(sql);
  }

  committed(): void {
    this.#otherwise.committed();
    this.#end("committed");
  }

  unknown(): void {
    this.#otherwise.unknown();
    this.#end("unknown");
  }

  rolledBack(): void {
    this.#otherwise.rolledBack();
    this.#end("rolled-back");
  }

  #end(how: "committed" | "rolled-back" | "unknown"): void {
    if (this.#halves === 0 || this.#scope === undefined) return;
    const ending = this.#scope
      .ended(how)
      .catch(() => {}) // A check, or the backstop, does what this did not.
      .finally(() => this.#ending.delete(ending));
    this.#ending.add(ending);
  }

  #goesHalf(topic: string, isDelayed: boolean): boolean {
    const { topics, delayedTopics } = this.#options;
    // A delayed message to a transactional topic is refused there, with the reason: no delay server could send it.
    return topics.has(topic) || (isDelayed && delayedTopics.has(topic));
  }
}
