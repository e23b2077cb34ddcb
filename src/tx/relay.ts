import type { Clock } from "../runtime/clock.ts";
import { reach } from "../runtime/failpoint.ts";
import type { Log } from "../runtime/log.ts";
import type { Random } from "../runtime/random.ts";
import { Away, type Destination, destinationOf, type Probe, probeRows, waitMaxMs } from "./away.ts";
import { removeCanceled } from "./canceled-rows.ts";
import { placesAsked, runnable } from "./lanes.ts";
import type { Outbox, OutboxRow, RowStub, ShardLeases } from "./outbox.port.ts";
import { fencesKeptMs, outcomesKeptMinMs } from "./outcomes.ts";
import type { RowOutcome, RowSender } from "./row-sender.ts";
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
const rowWait = { baseMs: 500, maxMs: 60_000 };
/** Rows looked at in a shard while somebody is away, to find those of others. */
const lookRows = 2_000;
/** Looking in vain takes one part of the time, and waiting this many. */
const restShare = 9;
/** What says that nobody is there, rather than something about a topic or message. */
const nobodyThere: ReadonlySet<string> = new Set([
  "broker_unavailable",
  "connection_lost",
  "send_timeout",
  "proxy_exhausted",
  "sink_closed",
]);
const sweepEveryMs = 10_000;
const sweepMax = 5_000;
/** How long after a hint the outbox is looked at often. */
const expectingMs = 2_000;
const reasonCharsMax = 300;

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
  /** Rows that may be sent by now, by the bounded rate. */
  #allowance = 0;
  #allowanceAtMs: number | undefined;

  constructor(options: RelayOptions) {
    this.#options = options;
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
    const rows = this.#allowedRows();
    if (rows === 0) return 20;
    const isLooking = this.#away.size > 0;
    const left = isLooking && this.#lookAgainAtMs > startedMs ? [] : [...due];
    const share = Math.min(settings.batch, Math.floor(rows / Math.min(left.length, settings.parallel)));
    const limit = this.#away.nobodyAnswers ? Math.min(probeRows, settings.batch) : Math.max(1, share);
    const beganMs = clock.monotonicMs();
    let found = 0;
    const worker = async (): Promise<void> => {
      for (let shard = left.shift(); shard !== undefined; shard = left.shift()) {
        if (signal.aborted || !this.#holdsLease() || this.#allowance < 1) return;
        found += await this.#work(shard, limit);
      }
    };
    const workers = Array.from({ length: Math.min(settings.parallel, left.length) }, worker);
    this.#tryAway(beganMs);
    await Promise.all(workers);
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
    const { keepOutcomesMs } = this.#options.settings;
    if (keepOutcomesMs === 0 || nowMs - this.#sweptAtMs < sweepEveryMs || this.#owned.length === 0) return;
    const marksMs = Math.max(keepOutcomesMs, outcomesKeptMinMs);
    const removed = await this.#options.outbox.sweep({ marksMs, fencesMs: Math.max(marksMs, fencesKeptMs) }, sweepMax);
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

  /** A bucket of a fifth of a second, filled at the rate. */
  #allowedRows(): number {
    const { clock, settings } = this.#options;
    const nowMs = clock.monotonicMs();
    const max = Math.max(1, settings.perSecondMax / 5);
    const sinceMs = this.#allowanceAtMs === undefined ? 200 : nowMs - this.#allowanceAtMs;
    this.#allowanceAtMs = nowMs;
    this.#allowance = Math.min(max, this.#allowance + (sinceMs * settings.perSecondMax) / 1_000);
    return Math.floor(this.#allowance);
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
      this.#allowance -= part.length;
      const fetched = await outbox.fetch(part);
      reach("relay-claimed");
      const outcomes = await sender(fetched);
      reach("relay-sent");
      const isSilent = await this.#record(shard, outcomes);
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
    await this.#record(shard, await this.#options.sender(fetched));
  }

  async #ordered(stubs: readonly RowStub[]) {
    const lanes = placesAsked(stubs);
    if (lanes.size === 0) return runnable(stubs, []);
    const upTo = Math.max(...stubs.map(({ row }) => row));
    return runnable(stubs, await this.#options.outbox.placesOf(lanes, upTo));
  }

  /** Answers whether somebody did not answer. */
  async #record(shard: number, outcomes: readonly RowOutcome[]): Promise<boolean> {
    const { outbox, counts, log, random } = this.#options;
    const done = outcomes.filter(({ ok }) => ok === true).map(({ row }) => row);
    const sent = done.map(({ row }) => row);
    if (sent.length > 0) {
      await removeCanceled(outbox, done);
      counts.sent("relay", sent.length);
      const removed = await outbox.remove(sent);
      if (removed < sent.length) counts.perhapsTwice(sent.length - removed);
      reach("relay-removed");
    }
    const silent = await this.#setAside(shard, outcomes);
    const answered = outcomes.filter(({ row }) => !silent.has(destinationOf(row)));
    const failed = answered.filter((outcome) => outcome.ok === false);
    const held = new Map<number, number>();
    for (const [reason, group] of Map.groupBy(failed, reasonOf)) {
      const rows = group.map(({ row }) => row.row);
      if (group[0]!.class === "permanent") {
        await outbox.bury(rows, reason);
        counts.buried(rows.length);
        log.error(
          { rows: rows.length, topic: group[0]!.row.topic, reason },
          "messages that can never be sent were put aside",
        );
      } else {
        await outbox.failed(rows, reason, { ...rowWait, jitter: 0.5 + random.float() / 2 });
        log.warn(
          { rows: rows.length, topic: group[0]!.row.topic, reason },
          "messages could not be sent and wait longer",
        );
        for (const { row } of group) if (row.lane !== undefined) held.set(row.lane, waitAfter(row));
      }
    }
    // Followers of what failed need not be looked at before it is; after a burial they may go at once.
    const followers = outcomes.filter(({ ok, row }) => ok === "held" && held.has(row.lane!)).map(({ row }) => row);
    for (const [inMs, group] of Map.groupBy(followers, ({ lane }) => held.get(lane!)!)) {
      await outbox.postpone(
        group.map(({ row }) => row),
        inMs,
      );
    }
    return silent.size > 0;
  }

  async #setAside(shard: number, outcomes: readonly RowOutcome[]): Promise<ReadonlySet<Destination>> {
    const { outbox, clock, counts, log } = this.#options;
    const silent = new Set<Destination>();
    for (const outcome of outcomes) if (outcome.ok === false) counts.failed(outcome.class, outcome.code);
    // A delay server that answers says nothing about brokers.
    const sends = outcomes.filter(({ row }) => row.kind === "send");
    for (const [destination, group] of Map.groupBy(sends, ({ row }) => destinationOf(row))) {
      const failed = group.filter((outcome) => outcome.ok === false);
      const isSilent =
        failed.length > 0 && group.every(({ ok }) => ok !== true) && failed.every(({ code }) => nobodyThere.has(code));
      if (!isSilent) {
        if (group.every(({ ok }) => ok === "held") || !this.#away.answered(destination)) continue;
        log.info({ destination }, "it answers again; the outbox is sent");
        this.#passed.clear();
        this.#lookAgainAtMs = 0;
        continue;
      }
      silent.add(destination);
      const { code } = failed[0]!;
      const rows = group.map(({ row }) => row.row);
      const triedRows = failed.map(({ row }) => row.row);
      if (this.#away.silent(destination, shard, triedRows, clock.monotonicMs())) {
        log.warn({ destination, code }, "nobody answers there; its messages stay in the outbox until somebody does");
      }
      // Also for the relay that comes after this one; and it is what an operator sees.
      await outbox.postpone(rows, waitMaxMs, code);
    }
    return silent;
  }
}

const reasonOf = ({ code, detail }: { readonly code: string; readonly detail: string }): string =>
  `${code}: ${detail}`.slice(0, reasonCharsMax);

/** About what `failed` makes of it; a follower that looks too early is held once more. */
const waitAfter = ({ attempts }: OutboxRow): number =>
  Math.min(rowWait.maxMs, rowWait.baseMs * 2 ** Math.min(attempts, 20)) * 0.75;

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
