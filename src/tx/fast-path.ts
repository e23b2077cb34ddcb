import type { MessageId } from "../message/id.ts";
import type { Clock } from "../runtime/clock.ts";
import { reach } from "../runtime/failpoint.ts";
import type { Log } from "../runtime/log.ts";
import { removeCanceled } from "./canceled-rows.ts";
import { placesAsked, runnable } from "./lanes.ts";
import type { Outbox, OutboxMessage, OutboxRow, OwnRow } from "./outbox.port.ts";
import type { RowOutcome, RowSender } from "./row-sender.ts";
import type { TxCounts } from "./tx-counts.ts";

/**
 * Sends right after COMMIT, from memory. What it does not do, the relay does a little later; so it may give up at any
 * moment, and it may be killed at any moment.
 *
 * It first asks which rows of the committed transactions are there: rows that a savepoint rolled back are not. The
 * question, the send and the removal each serve all transactions that came meanwhile, so that a busy process asks once
 * for hundreds. Removals do not hold up the next send.
 */
export type FastPathOptions = {
  readonly outbox: Pick<Outbox, "rowsOf" | "placesOf" | "delayed" | "remove" | "hasten">;
  readonly sender: RowSender;
  readonly clock: Clock;
  readonly log: Log;
  readonly counts: TxCounts;
  /** The relay takes a row after this; what waits here for half of it is left to the relay. */
  readonly graceMs: number;
  /** What was left for a reason that will be gone soon. */
  readonly relayExpects: () => void;
};

/** Waiting transactions beyond this are left to the relay: some 100 MB of small messages, and a broker that is away. */
const waitingMax = 10_000;
/** Bodies in memory. */
const waitingBytesMax = 64 * 1024 * 1024;
const roundTxsMax = 500;
/** Rows of a lane that are sent and not removed yet; with more than this before ours it is left to the relay. */
const goneOfLaneMax = 100;
const graceShare = 0.5;
/** What stands before in a lane is mostly on its way somewhere else, and gone some milliseconds later. */
const laneLookMs = 50;
/** Of one topic and reason. */
const sayEveryMs = 60_000;
const saidMax = 1_000;

type Offer = {
  readonly txId: MessageId;
  readonly messages: readonly OutboxMessage[];
  readonly bytes: number;
  readonly atMs: number;
};

export class FastPath {
  readonly #options: FastPathOptions;
  #waiting: Offer[] = [];
  #waitingBytes = 0;
  #working: Promise<void> | undefined;
  #removing: Promise<void> = Promise.resolve();
  /** Sent, and their removal under way: they stand before nobody. */
  readonly #gone = new Set<number>();
  #toRemove: number[] = [];
  readonly #saidAtMs = new Map<string, number>();
  #closed = false;

  constructor(options: FastPathOptions) {
    this.#options = options;
  }

  /** False: the relay has to do it. */
  offer(txId: MessageId, messages: readonly OutboxMessage[]): boolean {
    const bytes = messages.reduce((sum, { body }) => sum + body.length, 0);
    if (this.#closed || this.#waiting.length >= waitingMax || this.#waitingBytes + bytes > waitingBytesMax) {
      this.#options.counts.leftToRelay(messages.length);
      return false;
    }
    this.#waiting.push({ txId, messages, bytes, atMs: this.#options.clock.monotonicMs() });
    this.#waitingBytes += bytes;
    this.#working ??= this.#work().finally(() => {
      this.#working = undefined;
    });
    return true;
  }

  /** Sends what was offered. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#working;
    await this.#removing;
  }

  async #work(): Promise<void> {
    const { log, counts, relayExpects } = this.#options;
    while (this.#waiting.length > 0) {
      const round = this.#waiting.splice(0, roundTxsMax);
      for (const { bytes } of round) this.#waitingBytes -= bytes;
      try {
        await this.#round(this.#fresh(round));
      } catch (error) {
        counts.leftToRelay(round.reduce((sum, { messages }) => sum + messages.length, 0));
        log.warn({ err: error, transactions: round.length }, "the fast path failed, the relay will send");
        relayExpects();
      }
    }
  }

  #fresh(round: readonly Offer[]): readonly Offer[] {
    const { clock, graceMs, counts } = this.#options;
    const oldest = clock.monotonicMs() - graceMs * graceShare;
    const fresh = round.filter(({ atMs }) => atMs >= oldest);
    const left = round.filter(({ atMs }) => atMs < oldest);
    if (left.length > 0) counts.leftToRelay(left.reduce((sum, { messages }) => sum + messages.length, 0));
    return fresh;
  }

  async #round(round: readonly Offer[]): Promise<void> {
    if (round.length === 0) return;
    const { outbox, sender, counts, relayExpects } = this.#options;
    const found = await outbox.rowsOf(round.map(({ txId }) => txId));
    const allowed = await this.#allowed(found).catch(async (error: unknown) => {
      await this.#hasten(found);
      throw error;
    });
    const written = round.flatMap(({ messages }) => messages);
    const byId = Map.groupBy(written, ({ id }) => id);
    const rows = found.flatMap((own) => {
      // Written twice under one name: which of them the row is, only the row knows.
      const [message, ...others] = byId.get(own.id) ?? [];
      return message === undefined || others.length > 0 || !allowed.has(own.row) ? [] : [asRow(own, message)];
    });
    const left = this.#leave(found, rows, written.length);
    const outcomes = await sender(rows);
    reach("tx-sent");
    await left;
    const sent = outcomes.filter(({ ok }) => ok === true);
    counts.sent("fast", sent.length);
    if (sent.length < outcomes.length) {
      counts.leftToRelay(outcomes.length - sent.length);
      relayExpects();
      this.#sayWhy(outcomes);
    }
    await this.#record(sent.map(({ row }) => row));
  }

  /** What waits for its lane, and what is not there. */
  async #leave(found: readonly OwnRow[], sending: readonly OutboxRow[], written: number): Promise<void> {
    const { counts, relayExpects } = this.#options;
    const ours = new Set(sending.map(({ row }) => row));
    const left = found.filter(({ row }) => !ours.has(row));
    // Taken back by a savepoint or a cancel, or under a name that waited already; or there, and not to be seen by us, as
    // where somebody sends SELECTs to a replica. Counted as if it were the last.
    const missing = Math.max(0, written - found.length);
    if (left.length + missing === 0) return;
    counts.leftToRelay(left.length + missing);
    await this.#hasten(left);
    relayExpects();
  }

  /** Rows that we have not sent and shall not: nobody has to leave them to us any longer. */
  async #hasten(rows: readonly OwnRow[]): Promise<void> {
    if (rows.length === 0) return;
    try {
      await this.#options.outbox.hasten(
        rows.map(({ row }) => row),
        laneLookMs,
      );
    } catch (error) {
      this.#options.log.warn({ err: error, rows: rows.length }, "rows left to the relay wait for their grace");
    }
  }

  #sayWhy(outcomes: readonly RowOutcome[]): void {
    const { counts, log, clock } = this.#options;
    for (const outcome of outcomes) {
      if (outcome.ok !== false) continue;
      const { class: failureClass, code, detail, row } = outcome;
      counts.failed(failureClass, code);
      const about = `${code} ${row.topic}`;
      const nowMs = clock.monotonicMs();
      if (nowMs - (this.#saidAtMs.get(about) ?? Number.NEGATIVE_INFINITY) < sayEveryMs) continue;
      if (this.#saidAtMs.size >= saidMax) this.#saidAtMs.clear();
      this.#saidAtMs.set(about, nowMs);
      log.warn({ topic: row.topic, code, detail }, "not sent right after COMMIT; the relay will try");
    }
  }

  async #record(sent: readonly OutboxRow[]): Promise<void> {
    const { outbox, log } = this.#options;
    let isDone = true;
    try {
      await removeCanceled(outbox, sent);
    } catch (error) {
      // Carried out once more, by the relay, which then looks for their messages.
      isDone = false;
      log.warn({ err: error }, "messages that were canceled could not be looked for; their cancels are repeated");
    }
    this.#remove(sent.filter(({ kind }) => isDone || kind !== "cancel").map(({ row }) => row));
  }

  async #allowed(found: readonly OwnRow[]): Promise<ReadonlySet<number>> {
    const lanes = placesAsked(found, Math.min(goneOfLaneMax, this.#gone.size));
    if (lanes.size === 0) return new Set(found.map(({ row }) => row));
    const upTo = Math.max(...found.map(({ row }) => row));
    const places = await this.#options.outbox.placesOf(lanes, upTo);
    return new Set(runnable(found, places, this.#gone).rows);
  }

  #remove(rows: readonly number[]): void {
    if (rows.length === 0) return;
    for (const row of rows) this.#gone.add(row);
    const isIdle = this.#toRemove.length === 0;
    this.#toRemove.push(...rows);
    if (isIdle) this.#removing = this.#removing.then(() => this.#removeNow());
  }

  async #removeNow(): Promise<void> {
    const { outbox, counts, log } = this.#options;
    const rows = this.#toRemove;
    this.#toRemove = [];
    try {
      const removed = await outbox.remove(rows);
      // Who else removed them has sent them, too.
      if (removed < rows.length) counts.perhapsTwice(rows.length - removed);
      reach("tx-removed");
    } catch (error) {
      log.warn({ err: error, rows: rows.length }, "sent rows could not be removed, the relay will send them once more");
    } finally {
      for (const row of rows) this.#gone.delete(row);
    }
  }
}

const asRow = (own: OwnRow, { kind, topic, head, body }: OutboxMessage): OutboxRow => ({
  ...own,
  kind,
  topic,
  attempts: 0,
  head,
  body,
});
