import { type MessageId, timeOrderedId } from "../../message/id.ts";
import type { Clock } from "../../runtime/clock.ts";
import { reach } from "../../runtime/failpoint.ts";
import type { Log } from "../../runtime/log.ts";
import type { Random } from "../../runtime/random.ts";
import { sleep, type Timers } from "../../runtime/timers.ts";
import { TxError } from "../tx-error.ts";
import type { BarrierStore } from "./barrier.port.ts";
import { answerOf } from "./check-answer.ts";
import type { AnswerCheck, HalfBroker, HalfMessage, OpenHalf } from "./half-broker.port.ts";
import { halfOf, identityOf, type Outgoing } from "./half-message.ts";
import type { HalfTiming } from "./half-timing.ts";
import { packHalf } from "./kept-half.ts";

/**
 * Sends in half mode, and answers the broker's checks. In this order, so that at each step a crash leaves something that
 * decides: the barrier row in the business transaction; the half; COMMIT; the commit of the half. Only the second and
 * third can disagree, and then the row that is there, or is not, answers the check.
 *
 * A half that could not be sent because the broker was away does not stop the business: its row is committed, and the
 * backstop sends it. A half that the broker will never take does.
 */
export type HalfTransactionsOptions<Tx> = {
  readonly broker: HalfBroker;
  readonly barrier: BarrierStore<Tx>;
  readonly timing: HalfTiming;
  readonly databaseId: string;
  readonly topics: ReadonlySet<string>;
  /** Where delayed messages go; they are refused without. */
  readonly ingestTopic: string | undefined;
  /** Bodies up to this are kept in the barrier row until they are seen; larger ones need `rebuilds`. */
  readonly keepBodyBytesMax: number;
  /** Whether there is a function that makes a body anew when the backstop needs it. */
  readonly rebuilds: boolean;
  readonly clock: Clock;
  readonly random: Random;
  readonly timers: Timers;
  readonly log: Log;
};

type Enlisted = {
  readonly id: MessageId;
  readonly message: HalfMessage;
  readonly kept: Buffer;
  readonly enlistedAtMs: number;
  half?: OpenHalf;
};

/** Proves that what `write` writes is inside of an open transaction; where it was not, it is taken back. */
export type ProveInside = (
  id: MessageId,
  held: { readonly write: () => Promise<void>; readonly takeBack: () => Promise<void> },
) => Promise<void>;

/** What one transaction sends. */
export type HalfScope<Tx> = {
  readonly txId: string;
  add(tx: Tx, message: Outgoing): Promise<void>;
  /** Sends the halves; nothing but COMMIT may come after it. */
  beforeCommit(tx: Tx): Promise<void>;
  /** `unknown` when COMMIT was sent and not answered: then only the barrier knows. */
  ended(how: "committed" | "rolled-back" | "unknown"): Promise<void>;
};

/** Halves of one transaction that are sent at a time. */
const sendsAtOnceMax = 16;
/** When a transaction that others commit is looked at, after its half was sent. */
const looksMs = [20, 60, 200, 500, 1_000, 2_000];

export class HalfTransactions<Tx> {
  readonly #options: HalfTransactionsOptions<Tx>;
  /** Ids whose transaction is open in this process: no need to ask the database. */
  readonly #open = new Set<MessageId>();
  readonly #following = new Set<Promise<void>>();
  readonly #closing = new AbortController();

  constructor(options: HalfTransactionsOptions<Tx>) {
    this.#options = options;
  }

  /** For a transaction whose COMMIT is ours. */
  begin(txId: string): HalfScope<Tx> {
    const entries: Enlisted[] = [];
    let isOver = false;
    const end: HalfScope<Tx>["ended"] = async (how) => {
      isOver = true;
      try {
        if (how !== "unknown") await Promise.all(entries.map((entry) => this.#end(entry, how)));
      } finally {
        for (const { id } of entries) this.#open.delete(id);
      }
    };
    return {
      txId,
      add: async (tx, message) => {
        if (isOver)
          throw new TxError("not_a_transaction", "The transaction is over; send inside its callback and await it.", {
            txId,
          });
        const entry = this.#entryOf(txId, message);
        await this.#enlist(tx, txId, entry, this.#options.timing.turnMs);
        entries.push(entry);
      },
      beforeCommit: async (tx) => {
        isOver = true;
        if (entries.length === 0) return;
        // A rollback to a savepoint may have taken rows back, and with them their messages.
        const surviving = await this.#options.barrier.surviving(tx, txId);
        const left = entries.filter(({ id }) => surviving.has(id));
        for (const { id } of left) this.#open.add(id);
        try {
          for (let from = 0; from < left.length; from += sendsAtOnceMax) {
            await allOf(left.slice(from, from + sendsAtOnceMax).map((entry) => this.#send(entry)));
          }
        } catch (error) {
          await end("rolled-back");
          throw error;
        }
        reach("halves-sent");
      },
      ended: end,
    };
  }

  /**
   * For a transaction that others commit: the row and, once `prove` has found that it is inside, the half. Whether it was
   * committed is seen by looking, for a few seconds; after that the broker asks.
   */
  async sendJoined(tx: Tx, txId: string, message: Outgoing, prove: ProveInside): Promise<void> {
    const { barrier, timing } = this.#options;
    const entry = this.#entryOf(txId, message);
    await prove(entry.id, {
      write: () => this.#enlist(tx, txId, entry, "held"),
      takeBack: () => barrier.withdraw(tx, entry.id),
    });
    await barrier.letGo(tx, entry.id, timing.turnMs);
    try {
      await this.#send(entry);
    } catch (error) {
      // Whoever goes on all the same must not leave a message behind that can never be sent.
      await this.#options.barrier.withdraw(tx, entry.id);
      throw error;
    }
    const following = this.#follow(entry).finally(() => this.#following.delete(following));
    this.#following.add(following);
  }

  /** For the producer: what to tell the broker. Any instance on the same database can answer. */
  readonly answer: AnswerCheck = async ({ topic, messageId, properties }) => {
    const { barrier, databaseId, timing, log } = this.#options;
    const identity = identityOf(properties);
    if (identity === undefined || identity.databaseId !== databaseId) {
      const because = identity === undefined ? "it is not one of ours" : "it belongs to another database";
      log.warn(
        { topic, messageId, because },
        "a transaction check that this process cannot answer: a topic of its own for each database, please",
      );
      return undefined;
    }
    if (this.#open.has(identity.id)) return undefined;
    const verdict = await barrier.judge(identity, timing.turnMs);
    reach("check-judged");
    if (verdict.state === "unknown") {
      log.info(
        { topic, id: identity.id, because: verdict.because, detail: verdict.detail },
        "not known yet how this transaction ended",
      );
    }
    return answerOf(verdict);
  };

  async close(): Promise<void> {
    this.#closing.abort();
    await Promise.all(this.#following);
  }

  #entryOf(txId: string, asked: Outgoing): Enlisted {
    const { databaseId, topics, ingestTopic, keepBodyBytesMax, rebuilds, clock, random } = this.#options;
    const id = timeOrderedId(clock.nowMs(), random.bytes(new Uint8Array(10)), 0);
    const message = halfOf(asked, { id, txId, databaseId }, { topics, ingestTopic });
    const keepBody = message.body.length <= keepBodyBytesMax;
    if (!keepBody && !rebuilds) {
      throw new TxError(
        "half_body_not_kept",
        `the body takes ${message.body.length} bytes and ${keepBodyBytesMax} are kept for the backstop; give rebuild(), or keep larger ones`,
      );
    }
    return { id, message, kept: packHalf(message, keepBody), enlistedAtMs: clock.monotonicMs() };
  }

  async #enlist(tx: Tx, txId: string, { id, message, kept }: Enlisted, turnMs: number | "held"): Promise<void> {
    const outcome = await this.#options.barrier.enlist(tx, { id, txId, topic: message.topic, kept }, turnMs);
    if (outcome === "fenced") {
      throw new TxError(
        "half_fenced",
        `the broker was told that half ${id} is rolled back; this transaction must not commit`,
      );
    }
    reach("tx-row-written");
  }

  async #send(entry: Enlisted): Promise<void> {
    const { broker, log } = this.#options;
    const result = await broker.send(entry.message);
    if (result.ok) {
      entry.half = result.half;
      return;
    }
    const { failure } = result;
    if (failure.class === "permanent") {
      throw new TxError("half_refused", `the broker refuses this message (${failure.code}): ${failure.detail}`);
    }
    // It may exist: then the broker asks about it, and it is found by its own id. If not, the backstop sends it.
    log.warn(
      { id: entry.id, topic: entry.message.topic, code: failure.code, detail: failure.detail },
      "half message not sent, or not known to be",
    );
  }

  async #end(entry: Enlisted, how: "committed" | "rolled-back"): Promise<void> {
    const { broker, clock, timing, barrier, log } = this.#options;
    const { half, id } = entry;
    if (half === undefined) return;
    if (how === "rolled-back") {
      await broker.end(half, "rollback");
      return;
    }
    const inTime = clock.monotonicMs() - entry.enlistedAtMs < timing.commitWithinMs;
    if (!inTime && !(await this.#tookTurn(id, barrier, timing.turnMs))) return;
    reach("half-committing");
    const result = await broker.end(half, "commit");
    if (!result.ok)
      log.info(
        { id, detail: result.detail },
        "the commit of a half message was not taken; a check or the backstop follows",
      );
  }

  /** Trouble with the database leaves it to the check. */
  async #tookTurn(id: MessageId, barrier: BarrierStore<Tx>, turnMs: number): Promise<boolean> {
    try {
      return await barrier.takeTurn(id, turnMs);
    } catch {
      return false;
    }
  }

  async #follow(entry: Enlisted): Promise<void> {
    const { barrier, timers, timing, clock } = this.#options;
    for (const waitMs of looksMs) {
      await sleep(timers, waitMs, this.#closing.signal);
      if (this.#closing.signal.aborted || clock.monotonicMs() - entry.enlistedAtMs > timing.commitWithinMs) return;
      const committed = await barrier.isCommitted(entry.id).catch(() => undefined);
      if (committed === undefined) return;
      if (committed) return this.#end(entry, "committed");
    }
  }
}

/** Waits for all before it throws: what is sent must be known when it is taken back. */
const allOf = async (work: readonly Promise<void>[]): Promise<void> => {
  const failed = (await Promise.allSettled(work)).find(({ status }) => status === "rejected");
  if (failed !== undefined) throw (failed as PromiseRejectedResult).reason;
};
