import type { Clock } from "../runtime/clock.ts";
import { reach } from "../runtime/failpoint.ts";
import type { Log } from "../runtime/log.ts";
import type { Random } from "../runtime/random.ts";
import { type Away, type Destination, destinationOf, waitMaxMs } from "./away.ts";
import { removeCanceled } from "./canceled-rows.ts";
import type { Outbox, OutboxRow } from "./outbox.port.ts";
import type { RowOutcome } from "./row-sender.ts";
import type { TxCounts } from "./tx-counts.ts";

/**
 * What becomes of rows that the relay has tried: sent, they are removed; what can never be sent is put aside; what was
 * refused for now waits, longer each time; and where nobody answered, it is the destination that is away, not the row
 * that has failed.
 */
export type SettlementOptions = {
  readonly outbox: Outbox;
  readonly away: Away;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly counts: TxCounts;
  /** Somebody who was away answers. */
  readonly onReturn: () => void;
};

const rowWait = { baseMs: 500, maxMs: 60_000 };
const reasonCharsMax = 300;
/** What says that nobody is there, rather than something about a topic or message. */
const nobodyThere: ReadonlySet<string> = new Set([
  "broker_unavailable",
  "connection_lost",
  "send_timeout",
  "proxy_exhausted",
  "sink_closed",
]);

type Failed = Extract<RowOutcome, { ok: false }>;

export class Settlement {
  readonly #options: SettlementOptions;

  constructor(options: SettlementOptions) {
    this.#options = options;
  }

  /** Answers whether somebody did not answer. */
  async settle(shard: number, outcomes: readonly RowOutcome[]): Promise<boolean> {
    await this.#removeSent(outcomes.filter(({ ok }) => ok === true).map(({ row }) => row));
    const failed = outcomes.filter((outcome) => outcome.ok === false);
    for (const { class: failureClass, code } of failed) this.#options.counts.failed(failureClass, code);
    const silent = await this.#setAside(shard, outcomes);
    const waitsMs = await this.#recordRefusals(failed.filter(({ row }) => !silent.has(destinationOf(row))));
    // Followers of what failed need not be looked at before it is; after a burial they may go at once.
    const followers = outcomes.filter(({ ok, row }) => ok === "held" && waitsMs.has(row.lane!)).map(({ row }) => row);
    for (const [inMs, group] of Map.groupBy(followers, ({ lane }) => waitsMs.get(lane!)!)) {
      await this.#options.outbox.postpone(numbersOf(group), inMs);
    }
    return silent.size > 0;
  }

  async #removeSent(rows: readonly OutboxRow[]): Promise<void> {
    if (rows.length === 0) return;
    const { outbox, counts } = this.#options;
    await removeCanceled(outbox, rows);
    counts.sent("relay", rows.length);
    const removed = await outbox.remove(numbersOf(rows));
    if (removed < rows.length) counts.perhapsTwice(rows.length - removed);
    reach("relay-removed");
  }

  /** Answers who is silent; his rows wait, untried. */
  async #setAside(shard: number, outcomes: readonly RowOutcome[]): Promise<ReadonlySet<Destination>> {
    const { outbox, away, clock, log, onReturn } = this.#options;
    const silent = new Set<Destination>();
    // A delay server that answers says nothing about brokers.
    const sends = outcomes.filter(({ row }) => row.kind === "send");
    for (const [destination, group] of Map.groupBy(sends, ({ row }) => destinationOf(row))) {
      if (group.every(({ ok }) => ok === "held")) continue;
      const failed = group.filter((outcome) => outcome.ok === false);
      if (group.some(({ ok }) => ok === true) || failed.some(({ code }) => !nobodyThere.has(code))) {
        if (!away.answered(destination)) continue;
        log.info({ destination }, "it answers again; the outbox is sent");
        onReturn();
        continue;
      }
      silent.add(destination);
      const { code } = failed[0]!;
      const tried = failed.map(({ row }) => row);
      if (away.silent(destination, shard, numbersOf(tried), clock.monotonicMs())) {
        log.warn({ destination, code }, "nobody answers there; its messages stay in the outbox until somebody does");
      }
      // Also for the relay that comes after this one; and it is what an operator sees.
      await outbox.postpone(numbersOf(group.map(({ row }) => row)), waitMaxMs, code);
    }
    return silent;
  }

  /** Answers how long the lanes wait that are held up by this. */
  async #recordRefusals(failed: readonly Failed[]): Promise<ReadonlyMap<number, number>> {
    const { outbox, counts, log, random } = this.#options;
    const waitsMs = new Map<number, number>();
    for (const [reason, group] of Map.groupBy(failed, reasonOf)) {
      const rows = numbersOf(group.map(({ row }) => row));
      const told = { rows: rows.length, topic: group[0]!.row.topic, reason };
      if (group[0]!.class === "permanent") {
        await outbox.bury(rows, reason);
        counts.buried(rows.length);
        log.error(told, "messages that can never be sent were put aside");
        continue;
      }
      await outbox.failed(rows, reason, { ...rowWait, jitter: 0.5 + random.float() / 2 });
      log.warn(told, "messages could not be sent and wait longer");
      for (const { row } of group) if (row.lane !== undefined) waitsMs.set(row.lane, waitAfter(row));
    }
    return waitsMs;
  }
}

const numbersOf = (rows: readonly OutboxRow[]): number[] => rows.map(({ row }) => row);

const reasonOf = ({ code, detail }: Failed): string => `${code}: ${detail}`.slice(0, reasonCharsMax);

/** About what `failed` makes of it; a follower that looks too early is held once more. */
const waitAfter = ({ attempts }: OutboxRow): number =>
  Math.min(rowWait.maxMs, rowWait.baseMs * 2 ** Math.min(attempts, 20)) * 0.75;
