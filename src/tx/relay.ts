import type { Clock } from "../runtime/clock.ts";
import { reach } from "../runtime/failpoint.ts";
import type { Log } from "../runtime/log.ts";
import type { Random } from "../runtime/random.ts";
import { Allowance } from "./allowance.ts";
import { Away, destinationOf, type Probe, probeRows, waitMaxMs } from "./away.ts";
import { placesAsked, runnable } from "./lanes.ts";
import type { Outbox, RowStub, ShardLeases } from "./outbox.port.ts";
import { fencesKeptMs, outcomesKeptMinMs } from "./outcomes.ts";
import type { RowSender } from "./row-sender.ts";
import { Settlement } from "./settlement.ts";
import type { TxCounts } from "./tx-counts.ts";

/**
 * Sends what the fast path did not: what is due in the shards that are ours, by its state and never by "everything
 * above the last id", because numbers are given at INSERT and seen at COMMIT.
 *
 * One relay reads a shard at a time, known by a lease; a relay that overstays its lease sends a batch twice under the
 * same ids, and loses nothing. Several shards are worked on at once.
 *
 * Where nobody answers, only a few rows are tried now and then (away.ts), and the others are looked for behind them:
 * without a lock kept or a row changed, some thousand rows at a time, for a tenth of the time at most. When one topic or
 * message is refused, its rows wait longer with every attempt, and everybody else goes on.
 */
export type RelayOptions = {
  readonly outbox: Outbox;
  readonly leases: ShardLeases;
  readonly sender: RowSender;
  /** Names this relay among the others. */
  readonly owner: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly counts: TxCounts;
  readonly settings: RelaySettings;
};

export type RelaySettings = {
  /** Rows read at a time from a shard. */
  readonly batch: number;
  /** Shards worked on at a time. */
  readonly parallel: number;
  /** How soon an empty outbox is looked at again: the first when something is expected, the second otherwise. */
  readonly idlePollMs: readonly [number, number];
  readonly leaseMs: number;
  /** Catching up is bounded: a broker that comes back after an hour is not run over. */
  readonly perSecondMax: number;
  /** How long marks of outcomes are kept, for `status`: everybody's, and 15 minutes at least. With 0 none is removed. */
  readonly keepOutcomesMs: number;
};

export const relayDefaults: RelaySettings = {
  batch: 200,
  parallel: 4,
  idlePollMs: [50, 1_000],
  leaseMs: 10_000,
  perSecondMax: 5_000,
  keepOutcomesMs: 15 * 60_000,
};

/** Of bodies fetched at a time: a batch of 4 MB bodies must not take 800 MB. */
const fetchBytesMax = 8 * 1024 * 1024;
/** Rows looked at in a shard while somebody is away, to find those of others. */
const lookRows = 2_000;
/** Looking in vain takes one part of the time, and waiting this many. */
const restShare = 9;
const sweepEveryMs = 10_000;
/** A held row that can be seen is of nobody's transaction; its sender knows that within a few statements, if he lives. */
const heldMaxMs = 60_000;
const sweepMax = 5_000;
/** How long after a hint the outbox is looked at often. */
const expectingMs = 2_000;

export class Relay {
  readonly #options: RelayOptions;
  #owned: readonly number[] = [];
  #leaseAtMs = Number.NEGATIVE_INFINITY;
  readonly #away = new Away();
  /** Up to where a shard holds nothing but rows of who is away. */
  readonly #passed = new Map<number, RowStub>();
  #lookAgainAtMs = 0;
  #trying: Promise<void> | undefined;
  #expectingUntilMs = 0;
  #sweptAtMs = Number.NEGATIVE_INFINITY;
  readonly #allowance: Allowance;
  readonly #settlement: Settlement;

  constructor(options: RelayOptions) {
    this.#options = options;
    this.#allowance = new Allowance(options.settings.perSecondMax);
    this.#settlement = new Settlement({ ...options, away: this.#away, onReturn: () => this.#lookFromTheStart() });
  }

  /** Something may be there soon. */
  expect(): void {
    this.#expectingUntilMs = this.#options.clock.monotonicMs() + expectingMs;
  }

  async runOnce(signal: AbortSignal): Promise<number> {
    const { outbox, clock, settings } = this.#options;
    const startedMs = clock.monotonicMs();
    await this.#keepShards(startedMs);
    await this.#sweep(startedMs);
    if (this.#owned.length === 0) return settings.idlePollMs[1];
    const next = await outbox.nextDue(this.#owned);
    const due = next.filter(({ inMs }) => inMs <= 0).map(({ shard }) => shard);
    if (due.length === 0 && this.#away.size === 0) return this.#idleMs(Math.min(...next.map(({ inMs }) => inMs)));
    const rows = this.#allowance.at(startedMs);
    if (rows === 0) return 20;
    const isLooking = this.#away.size > 0;
    const left = isLooking && this.#lookAgainAtMs > startedMs ? [] : [...due];
    const share = Math.min(settings.batch, Math.floor(rows / Math.min(left.length, settings.parallel)));
    const limit = this.#away.nobodyAnswers ? Math.min(probeRows, settings.batch) : Math.max(1, share);
    const beganMs = clock.monotonicMs();
    let found = 0;
    const failures: unknown[] = [];
    const worker = async (): Promise<void> => {
      for (let shard = left.shift(); shard !== undefined; shard = left.shift()) {
        if (signal.aborted || !this.#holdsLease() || this.#allowance.isSpent) return;
        // One shard's failure ends neither the others nor this run: what another worker is sending would be claimed,
        // and sent, once more by the next run.
        await this.#work(shard, limit).then(
          (rows) => {
            found += rows;
          },
          (error: unknown) => failures.push(error),
        );
      }
    };
    const workers = Array.from({ length: Math.min(settings.parallel, left.length) }, worker);
    this.#tryAway(beganMs);
    await Promise.all(workers);
    if (failures.length > 0) throw failures[0];
    if (found > 0) return 0;
    // Due, and yet not to be had: somebody has it locked, or is away.
    return this.#away.size === 0 ? settings.idlePollMs[0] : this.#restMs(beganMs);
  }

  /** Gives the shards back, so that others need not wait for the lease. */
  async stop(): Promise<void> {
    this.#owned = [];
    await this.#trying;
    await this.#options.leases.release(this.#options.owner);
  }

  #holdsLease(): boolean {
    return this.#options.clock.monotonicMs() - this.#leaseAtMs < this.#options.settings.leaseMs;
  }

  async #keepShards(nowMs: number): Promise<void> {
    const { leases, owner, settings } = this.#options;
    if (nowMs - this.#leaseAtMs < settings.leaseMs / 3) return;
    // Counted from before the question: the lease ends for us before it ends for the others.
    this.#owned = await leases.keep(owner, settings.leaseMs);
    this.#leaseAtMs = nowMs;
  }

  async #sweep(nowMs: number): Promise<void> {
    const { outbox, log, settings } = this.#options;
    if (nowMs - this.#sweptAtMs < sweepEveryMs || this.#owned.length === 0) return;
    const held = await outbox.removeHeld(this.#owned, heldMaxMs);
    if (held > 0)
      log.warn({ rows: held }, "rows were removed whose senders died before they knew of their transaction");
    const marksMs = Math.max(settings.keepOutcomesMs, outcomesKeptMinMs);
    const fencesMs = Math.max(marksMs, fencesKeptMs);
    const removed = settings.keepOutcomesMs === 0 ? 0 : await outbox.sweep({ marksMs, fencesMs }, sweepMax);
    // More of them: next time around, not in ten seconds.
    if (removed < sweepMax) this.#sweptAtMs = nowMs;
  }

  #idleMs(nextInMs: number): number {
    const [soon, late] = this.#options.settings.idlePollMs;
    const idle = this.#expectingUntilMs > this.#options.clock.monotonicMs() ? soon : late;
    return Math.max(1, Math.min(idle, nextInMs));
  }

  #restMs(beganMs: number): number {
    const { clock, settings } = this.#options;
    const nowMs = clock.monotonicMs();
    const [soon, late] = settings.idlePollMs;
    if (this.#lookAgainAtMs <= nowMs) {
      const restMs = Math.min(waitMaxMs, restShare * (nowMs - beganMs));
      this.#lookAgainAtMs = nowMs + Math.max(restMs, this.#passed.size > 0 ? soon : this.#idleMs(late));
    }
    const tryInMs = this.#trying === undefined ? this.#away.inMs(nowMs) : soon;
    return Math.max(1, Math.min(this.#lookAgainAtMs - nowMs, tryInMs, settings.leaseMs / 3));
  }

  #lookFromTheStart(): void {
    this.#passed.clear();
    this.#lookAgainAtMs = 0;
  }

  /** Answers how many rows it found. */
  async #work(shard: number, limit: number): Promise<number> {
    const { outbox, sender } = this.#options;
    const stubs = await this.#claim(shard, limit);
    if (stubs.length === 0) return 0;
    const { rows, blocked } = await this.#ordered(stubs);
    if (blocked.size > 0) {
      for (const [inMs, held] of Map.groupBy(blocked.keys(), (row) => blocked.get(row)!))
        await outbox.postpone(held, inMs);
    }
    for (const part of byBytes(stubs, rows)) {
      this.#allowance.spend(part.length);
      const fetched = await outbox.fetch(part);
      reach("relay-claimed");
      const outcomes = await sender(fetched);
      reach("relay-sent");
      const isSilent = await this.#settlement.settle(shard, outcomes);
      if (isSilent || !this.#holdsLease()) break;
    }
    return stubs.length;
  }

  /** What is due and not of somebody who is away. */
  async #claim(shard: number, limit: number): Promise<readonly RowStub[]> {
    const { outbox } = this.#options;
    if (this.#away.size === 0) return outbox.due(shard, limit);
    const looked = await outbox.due(shard, lookRows, this.#passed.get(shard));
    const others = looked.filter((stub) => !this.#away.has(destinationOf(stub)));
    if (others.length === 0 && looked.length === lookRows) this.#passed.set(shard, looked.at(-1)!);
    // At the end: from the start again, for what was committed meanwhile.
    if (others.length <= limit && looked.length < lookRows) this.#passed.delete(shard);
    return others.slice(0, limit);
  }

  #tryAway(nowMs: number): void {
    if (this.#trying !== undefined) return;
    const probes = this.#away.probes(nowMs);
    if (probes.length === 0) return;
    // Whoever does not answer takes his time; others are not to wait for that.
    this.#trying = Promise.all(probes.map(async (probe) => this.#try(probe)))
      .catch((err: unknown) => this.#options.log.warn({ err }, "the outbox could not be read; it is tried again"))
      .then(() => {
        this.#trying = undefined;
      });
  }

  async #try({ destination, shard, rows }: Probe): Promise<void> {
    if (!this.#owned.includes(shard) || !this.#holdsLease()) return this.#away.forget(destination);
    const fetched = await this.#options.outbox.fetch(rows);
    if (fetched.length === 0) return this.#away.forget(destination);
    await this.#settlement.settle(shard, await this.#options.sender(fetched));
  }

  async #ordered(stubs: readonly RowStub[]) {
    const lanes = placesAsked(stubs);
    if (lanes.size === 0) return runnable(stubs, []);
    const upTo = Math.max(...stubs.map(({ row }) => row));
    return runnable(stubs, await this.#options.outbox.placesOf(lanes, upTo));
  }
}

/** The rows in their order, in parts whose bodies fit into memory together. */
const byBytes = (stubs: readonly RowStub[], rows: readonly number[]): number[][] => {
  const bytesOf = new Map(stubs.map(({ row, bodyBytes }) => [row, bodyBytes]));
  const parts: number[][] = [];
  let bytes = Number.POSITIVE_INFINITY;
  for (const row of rows) {
    const own = bytesOf.get(row) ?? 0;
    if (bytes + own > fetchBytesMax) {
      parts.push([]);
      bytes = 0;
    }
    parts.at(-1)!.push(row);
    bytes += own;
  }
  return parts;
};
