import type { DelayStore, NearPage } from "../delay/delay-store.port.ts";
import { bayFromMs, bayOf, bayUntilMs, parkedMaxMs, placeInBay } from "../message/bay.ts";
import { idBytes, idIntoBytes } from "../message/id.ts";
import { type EpochMs, epochMs, epochMsMax } from "../message/time.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Log } from "../runtime/log.ts";
import type { BayBook } from "./bay-book.ts";
import type { DependencyBoard } from "./board.ts";
import type { Release } from "./shared-breaker.ts";

/**
 * Lets parked messages out of their bays as fast as their dependency may be called, in every process for the shards
 * that it owns: its share of the rate is its share of the shards.
 *
 * Nobody tells it what is parked. It looks: from each bay in which something lies to the next, in one call to the store
 * for each, and one call where nothing is parked at all. So it finds what another process parked, what was parked after
 * the dependency was well again, and what lay there before a restart.
 *
 * To release is to reschedule to now. From then on it is an ordinary due message; whether it is released twice, or its
 * releaser dies on the way, changes nothing.
 */
export type ReleaserOptions = {
  readonly store: DelayStore;
  readonly clock: Clock & { readonly trusted: boolean };
  readonly board: DependencyBoard;
  readonly bays: BayBook;
  /** The shards that this process owns. */
  readonly owned: () => readonly number[];
  /** Takes a message that is due into the near window. */
  readonly offer: (id: Buffer, offset: number, lane: number, shard: number, dueMs: number) => boolean;
  readonly log: Log;
};

const tickMs = 250;
/** Each shard is looked over this often: what was parked after its dependency was well again waits no longer. */
const lookEveryMs = 5_000;
/** Store calls to look, and pairs of them to release, each tick; 10,000 keys are looked over in some three minutes. */
const looksMax = 400;
const releasesMax = 400;
const callsAtOnce = 8;
/**
 * So long a message stays parked at least. A handler may park for a dependency that is well; without this it would have
 * the message back at once, and again, and again.
 */
const stayMinMs = 5_000;
/** As one `reschedule` may take. */
const releasedAtOnceMax = 200;
/** How often is looked for messages that were parked for longer than anything may be. */
const overdueEveryMs = 60_000;
/** A bay whose owner cannot be found out is emptied at this pace. */
const strayPerSec = 10;

type Look = { nextAtMs: number; bay: number; readonly seen: Set<number> };
type Bay = {
  readonly shards: Set<number>;
  /** Messages that may come out; fractions are saved up. */
  credit: number;
  filledAtMs: number;
  /** Of the probes of this round. */
  probesLeft: number;
  round: number;
  overdueAtMs: number;
};

export class Releaser {
  readonly #options: ReleaserOptions;
  readonly #looks = new Map<number, Look>();
  /** Bays in which something lies, the one that waited longest first. */
  readonly #bays = new Map<number, Bay>();
  #turn = 0;
  #spread = 0;

  constructor(options: ReleaserOptions) {
    this.#options = options;
  }

  /** Bays in which something lies in our shards. */
  get baysInUse(): number {
    return this.#bays.size;
  }

  async runOnce(signal: AbortSignal): Promise<number> {
    if (!this.#options.clock.trusted) return tickMs;
    this.#followShards();
    await this.#look(signal);
    await this.#release(signal);
    if (this.#bays.size > 0) return tickMs;
    const nowMs = this.#options.clock.monotonicMs();
    let waitMs = lookEveryMs;
    for (const { nextAtMs } of this.#looks.values()) waitMs = Math.min(waitMs, nextAtMs - nowMs);
    return Math.max(tickMs, waitMs);
  }

  #followShards(): void {
    const owned = new Set(this.#options.owned());
    const nowMs = this.#options.clock.monotonicMs();
    for (const shard of this.#looks.keys()) {
      if (owned.has(shard)) continue;
      this.#looks.delete(shard);
      for (const bay of [...this.#bays.keys()]) this.#leave(bay, shard);
    }
    for (const shard of owned) {
      // Spread, so that the looks of all shards do not fall into one tick.
      const nextAtMs = nowMs + ((shard * 37) % 20) * (lookEveryMs / 20);
      if (!this.#looks.has(shard)) this.#looks.set(shard, { nextAtMs, bay: 0, seen: new Set() });
    }
  }

  // --- looking --------------------------------------------------------------------------------------------------

  async #look(signal: AbortSignal): Promise<void> {
    const nowMs = this.#options.clock.monotonicMs();
    const due = [...this.#looks].filter(([, look]) => look.nextAtMs <= nowMs);
    let looks = looksMax;
    await shared(due, async ([shard, look]) => {
      while (looks-- > 0 && !signal.aborted && this.#looks.get(shard) === look) {
        const page = await this.#options.store.near(shard, bayFromMs(look.bay), epochMsMax, undefined, 1);
        const bay = page.ids.length === 0 ? undefined : bayOf(epochMs(page.dueMs[0]!));
        if (bay === undefined) return this.#looked(shard, look);
        look.seen.add(bay);
        look.bay = bay + 1;
        await this.#found(bay, shard);
      }
    });
    // Those that had no turn are first in the next tick.
    for (const [shard, look] of due) {
      if (look.nextAtMs > nowMs || this.#looks.get(shard) !== look) continue;
      this.#looks.delete(shard);
      this.#looks.set(shard, look);
    }
  }

  #looked(shard: number, look: Look): void {
    for (const bay of [...this.#bays.keys()]) if (!look.seen.has(bay)) this.#leave(bay, shard);
    look.seen.clear();
    look.bay = 0;
    look.nextAtMs = this.#options.clock.monotonicMs() + lookEveryMs;
  }

  async #found(bay: number, shard: number): Promise<void> {
    let known = this.#bays.get(bay);
    if (known === undefined) {
      const nowMs = this.#options.clock.monotonicMs();
      known = { shards: new Set(), credit: 0, filledAtMs: nowMs, probesLeft: 0, round: 0, overdueAtMs: nowMs };
      this.#bays.set(bay, known);
    }
    known.shards.add(shard);
    const key = await this.#options.bays.keyOf(bay);
    if (key !== undefined) this.#options.board.sawParked(key);
  }

  #leave(bay: number, shard: number): void {
    const known = this.#bays.get(bay);
    if (known?.shards.delete(shard) && known.shards.size === 0) this.#bays.delete(bay);
  }

  // --- releasing ------------------------------------------------------------------------------------------------

  async #release(signal: AbortSignal): Promise<void> {
    const { clock, board, bays } = this.#options;
    let pairs = releasesMax;
    await shared([...this.#bays], async ([number, bay]) => {
      if (pairs <= 0 || signal.aborted) return;
      const nowMs = clock.nowMs();
      if (clock.monotonicMs() >= bay.overdueAtMs) {
        bay.overdueAtMs = clock.monotonicMs() + overdueEveryMs;
        for (const shard of [...bay.shards]) {
          await this.#releaseFrom(shard, number, epochMs(nowMs - parkedMaxMs), releasedAtOnceMax);
        }
      }
      const key = await bays.keyOf(number);
      const release = key === undefined ? { perSec: strayPerSec } : board.releaseOf(key);
      // Just found: the board says more after its next tick.
      if (release === undefined) return;
      this.#fill(bay, release);
      const shards = [...bay.shards];
      const first = this.#turn++ % shards.length;
      for (let i = 0; i < shards.length && bay.credit >= 1 && pairs > 0 && !signal.aborted; i++) {
        pairs--;
        const want = Math.min(releasedAtOnceMax, Math.ceil(Math.floor(bay.credit) / (shards.length - i)));
        const shard = shards[(first + i) % shards.length]!;
        bay.credit -= await this.#releaseFrom(shard, number, epochMs(nowMs - stayMinMs), want);
      }
      // Whoever had a turn goes to the end.
      if (this.#bays.delete(number) && bay.shards.size > 0) this.#bays.set(number, bay);
    });
  }

  /** Our share of the rate since the last time; what found no message is kept for a second, and not for longer. */
  #fill(bay: Bay, release: Release): void {
    const { store, clock, owned } = this.#options;
    const share = owned().length / store.shardCount;
    const nowMs = clock.monotonicMs();
    const passedMs = nowMs - bay.filledAtMs;
    bay.filledAtMs = nowMs;
    if ("probes" in release) {
      const probes = release.probes * share;
      if (release.round !== bay.round) bay.probesLeft = probes + (bay.probesLeft % 1);
      bay.round = release.round;
      // One after the other.
      const now = Math.min(bay.probesLeft, (probes * passedMs) / release.withinMs);
      bay.probesLeft -= now;
      bay.credit += now;
      return;
    }
    const perSec = release.perSec * share;
    // A part of a probe is kept from round to round, or a small share of few probes would never be one.
    bay.credit =
      perSec === 0 ? bay.credit % 1 : Math.min(Math.max(1, perSec), bay.credit + (perSec * passedMs) / 1_000);
  }

  #spreadMs(): number {
    this.#spread = (this.#spread + goldenPart) % 1;
    return Math.floor(this.#spread * tickMs);
  }

  /** Those parked before then, the oldest first. Answers how many. */
  async #releaseFrom(shard: number, bay: number, parkedBeforeMs: EpochMs, limit: number): Promise<number> {
    const { store, clock } = this.#options;
    const untilMs = Math.min(placeInBay(bay, parkedBeforeMs), bayUntilMs(bay));
    const page: NearPage = await store.near(shard, bayFromMs(bay), epochMs(untilMs), undefined, limit);
    if (page.ids.length === 0) return 0;
    const ids = page.ids.toArray();
    const nowMs = clock.nowMs();
    // Spread until the next tick: what is let out together would be called together.
    const changes = await store.reschedule(
      shard,
      ids.map((id) => ({ id, deliverAtMs: epochMs(nowMs + this.#spreadMs()) })),
      nowMs,
    );
    changes.forEach(({ waiting }, i) => {
      if (waiting === undefined) return;
      idIntoBytes(ids[i]!, scratch);
      this.#options.offer(scratch, 0, waiting.lane, shard, waiting.dueMs);
    });
    return ids.length;
  }
}

/** The golden section: however many there are, each falls into the largest gap that the ones before have left. */
const goldenPart = 0.618_034;

/** Copied by the near window before `offer` returns. */
const scratch = Buffer.alloc(idBytes);

/** A few at once, each taking the next of the same list; the first failure ends it. */
const shared = async <T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> => {
  const left = items.values();
  const workOff = async (): Promise<void> => {
    for (const item of left) await work(item);
  };
  await Promise.all(Array.from({ length: Math.min(callsAtOnce, items.length) }, workOff));
};
