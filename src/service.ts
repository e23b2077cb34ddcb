import type { Overview } from "./admin/overview.port.ts";
import type { DelayStore } from "./delay/delay-store.port.ts";
import { Loader } from "./delay/loader.ts";
import { NearSet } from "./delay/near-set.ts";
import type { ShardWorker } from "./delay/ownership.port.ts";
import { ShardKeeper } from "./delay/shard-keeper.ts";
import { Dispatcher } from "./dispatch/dispatcher.ts";
import type { Sink } from "./dispatch/sink.port.ts";
import type { DocumentStore } from "./documents/document-store.port.ts";
import { GroupCommit } from "./ingest/group-commit.ts";
import { StoreIntake } from "./ingest/intake.ts";
import type { TopicDirectory, TopicMemory } from "./ingest/topic-directory.port.ts";
import { TopicGate } from "./ingest/topic-gate.ts";
import { TopicReceiver } from "./ingest/topic-receiver.ts";
import type { TopicSource } from "./ingest/topic-source.port.ts";
import { EscapementError } from "./message/errors.ts";
import type { DurationMs } from "./message/time.ts";
import { formatInstant } from "./message/time.ts";
import { RetryRooms } from "./retry-rooms.ts";
import { CheckedClock, clockToleranceMs, type MachineClock } from "./runtime/clock.ts";
import { Health } from "./runtime/health.ts";
import type { Log } from "./runtime/log.ts";
import { Loop } from "./runtime/loop.ts";
import type { Metrics } from "./runtime/metrics.ts";
import type { Random } from "./runtime/random.ts";
import { sleep, type Timers } from "./runtime/timers.ts";
import type { HealthReply, StatsReply } from "./wire/http.ts";

/**
 * The composition root: the one file that knows every room. It is given adapters and joins them; it asks nobody for
 * the time, so that the simulator runs this very file on a simulated clock with simulated adapters.
 */
export type ServiceParts = {
  readonly store: DelayStore;
  readonly documents: DocumentStore;
  readonly sink: Sink;
  readonly directory: TopicDirectory;
  readonly memory: TopicMemory;
  /** One per receive call that is kept open; none when there is no ingest topic. */
  readonly sources: readonly TopicSource[];
  readonly machine: MachineClock;
  readonly timers: Timers;
  readonly random: Random;
  readonly log: Log;
  readonly metrics: ServiceMetrics;
  readonly node: string;
  readonly leaseMs: DurationMs;
  readonly ownTopics: ReadonlySet<string>;
  /** Messages that the near window holds at most; what finds no room is sent when it is overdue. Default 1,000,000. */
  readonly nearEntriesMax?: number;
  /** Closes what only the adapters know of. */
  readonly close?: () => Promise<void>;
};

export type ServiceMetrics = Pick<
  Metrics,
  "accepted" | "refused" | "removed" | "sending" | "ended" | "failed" | "rotate" | "recentLateness" | "gauge" | "render"
>;

/** Until credentials exist, everything belongs to one tenant. */
export const defaultTenant = "default";

const checkEveryMs = 1_000;
/** As often as it reads in good days; a store that is back finds everything loaded half a second later. */
const loaderBackoffMaxMs = 500;
/** How long a stop waits for what is being sent; then other processes take over by lease. */
const drainMaxMs = 8_000;

export class Service implements Overview {
  readonly intake: StoreIntake;
  /** What the retry engine offers to the API: policies, dependencies, the dead. */
  readonly retry: RetryRooms;
  readonly #parts: ServiceParts;
  readonly #clock: CheckedClock;
  readonly #health: Health;
  readonly #metrics: ServiceMetrics;
  readonly #keeper: ShardKeeper;
  readonly #dispatcher: Dispatcher;
  readonly #loader: Loader;
  readonly #topics: TopicGate;
  readonly #loops: {
    checks: Loop;
    keeper: Loop;
    loader: Loop;
    ticker: Loop;
    receivers: Loop[];
  };
  #stopping = false;

  constructor(parts: ServiceParts) {
    this.#parts = parts;
    this.#metrics = parts.metrics;
    const { store, sink, directory, memory, sources, machine, timers, random, log, node, leaseMs, ownTopics } = parts;
    const clock = new CheckedClock(machine);
    this.#clock = clock;
    this.#health = new Health(log);
    const loop = (name: string, runOnce: (signal: AbortSignal) => Promise<number>, errorBackoffMaxMs = 5_000) =>
      new Loop({ name, timers, log, runOnce, errorBackoffMs: { first: 100, max: errorBackoffMaxMs } });
    const near = new NearSet({
      startMs: clock.nowMs(),
      ...(parts.nearEntriesMax === undefined ? undefined : { entriesMax: parts.nearEntriesMax }),
      hashSeed: Math.floor(random.float() * 2 ** 31),
    });

    // The keeper tells the loader and the dispatcher, which in turn ask the keeper: joined by these two lambdas.
    const worker: ShardWorker = {
      gained: (shard, epoch) => {
        this.#dispatcher.gained(shard, epoch);
        this.#loader.add(shard);
        this.#loops.loader.wake();
      },
      lost: (shard) => {
        this.#loader.remove(shard);
        this.#dispatcher.lost(shard);
      },
      drain: (shard) => {
        this.#loader.remove(shard);
        return this.#dispatcher.drain(shard);
      },
    };
    this.#keeper = new ShardKeeper({
      store,
      worker,
      clock,
      log,
      node,
      leaseMs,
      fit: () => clock.trusted && !this.#stopping,
    });
    this.retry = new RetryRooms({
      store,
      documents: parts.documents,
      clock,
      random,
      log,
      node,
      ownTopics,
      metrics: this.#metrics,
      window: {
        owns: (shard) => this.#dispatcher.owns(shard),
        offer: (id, offset, lane, shard, dueMs) => this.#dispatcher.offer(id, offset, lane, shard, dueMs),
      },
      owned: () => this.#keeper.heldShards,
      members: () => this.#keeper.members,
      loop,
    });
    this.#dispatcher = new Dispatcher({
      store,
      sink,
      policies: this.retry.policies,
      near,
      leases: this.#keeper,
      clock,
      timers,
      random,
      log,
      metrics: this.#metrics,
      leaseMs,
      onFenced: (shard, epoch) => this.#keeper.fenced(shard, epoch),
      wake: () => this.#loops.ticker.wake(),
    });
    this.#loader = new Loader({
      store,
      clock,
      offer: (id, offset, lane, shard, dueMs) => this.#dispatcher.offer(id, offset, lane, shard, dueMs),
    });
    this.#topics = new TopicGate({ directory, memory, log });
    // A delay counts from our time, so nothing comes in before we can know it.
    const storeProblem = () => this.#health.problem("store")?.detail ?? (clock.everTrusted ? undefined : clock.problem);
    this.intake = new StoreIntake({
      store,
      commit: new GroupCommit({ store, clock, timers, random }),
      topics: this.#topics,
      clock,
      random,
      window: this.#dispatcher,
      storeProblem,
      stopping: () => this.#stopping,
      ownTopics,
    });

    this.#loops = {
      checks: loop("checks", () => this.#check()),
      // No slower in bad days than in good ones: a lease may end, or the store may be back, at any moment.
      keeper: loop("shard keeper", () => this.#keeper.runOnce(), Math.max(100, leaseMs / 10)),
      loader: loop("loader", (signal) => this.#loader.runOnce(signal), loaderBackoffMaxMs),
      ticker: loop("ticker", async () => this.#dispatcher.tick()),
      receivers: sources.map((source, i) => {
        const receiver = new TopicReceiver({
          source,
          store,
          accept: (admitted) => this.intake.accept(admitted),
          parking: this.retry.parking,
          redrives: this.retry.redriveWitness,
          clock,
          random,
          log,
          tenant: defaultTenant,
          ownTopics,
          counted: {
            accepted: (count) => this.#metrics.accepted("topic", count),
            refused: (code) => this.#metrics.refused("topic", code),
          },
          paused: () => storeProblem() !== undefined || this.#stopping,
        });
        return loop(`ingest receiver ${i}`, (signal) => receiver.runOnce(signal));
      }),
    };
    this.#metrics.gauge("escapement_near_window_entries", "Messages known to the near window.", () => near.size);
    this.#metrics.gauge(
      "escapement_due_waiting",
      "Due messages that wait for their lane's turn.",
      () => this.#dispatcher.ready,
    );
    this.#metrics.gauge("escapement_out", "Messages between claim and settle.", () => this.#dispatcher.out);
    this.#metrics.gauge("escapement_shards_owned", "Shards this process owns.", () => this.#keeper.heldShards.length);
    this.#metrics.gauge("escapement_clock_skew_ms", "This machine's clock minus the store's.", () => clock.skewMs);
  }

  /** Ready to work when it resolves: the store was checked and the first shards are ours. */
  async start(): Promise<void> {
    const { store, log } = this.#parts;
    await store.listen({
      onWake: (shard, id, offset, lane, dueMs) => {
        this.#dispatcher.offer(id, offset, lane, shard, dueMs);
      },
      onMembersChanged: () => this.#loops.keeper.wake(),
      onGap: () => {
        this.#loader.reload();
        this.#loops.loader.wake();
      },
    });
    await this.#check();
    const problem = this.#health.problem("store");
    // Better not to start than to accept what may be lost; a running process stops accepting instead.
    if (problem !== undefined) throw new EscapementError("store_refusing", problem.detail);
    await this.#topics.load();
    await this.retry.load();
    await this.#keeper.runOnce();
    const { checks, keeper, loader, ticker, receivers } = this.#loops;
    for (const loop of [checks, keeper, loader, ticker, ...receivers]) loop.start();
    this.retry.start();
    log.info(
      { node: this.#parts.node, shards: this.#keeper.heldShards.length, of: store.shardCount },
      "escapement is running",
    );
  }

  /**
   * Stops in the order of a message's way: nothing comes in, what is out is finished, shards are handed over.
   * Without trouble outside nothing is sent twice. The store stays open until `requests`, those under way, are done.
   */
  async stop(requests: Promise<unknown> = Promise.resolve()): Promise<void> {
    if (this.#stopping) return;
    this.#stopping = true;
    const { store, sink, sources, timers, log } = this.#parts;
    const { checks, keeper, loader, ticker, receivers } = this.#loops;
    await this.retry.stop();
    await Promise.all(receivers.map((loop) => loop.stop()));
    await Promise.all(sources.map((source) => source.close()));
    const drained = this.#keeper.handOverAll().then(() => true);
    // The keeper runs on meanwhile and keeps the leases, the ticker too: claims that come back are given back by it.
    const waiting = new AbortController();
    const inTime = await Promise.race([drained, sleep(timers, drainMaxMs, waiting.signal).then(() => false)]);
    waiting.abort(); // A timer left behind would hold the process that stopped a broker of ours.
    if (!inTime)
      log.warn(
        { out: this.#dispatcher.out },
        "stopped without an answer for everything sent; the next owner sends it again",
      );
    await Promise.all([checks, keeper, loader, ticker].map((loop) => loop.stop()));
    await sink.close();
    await requests;
    await this.#parts.documents.close();
    await store.close();
    await this.#parts.close?.();
    log.info({}, "escapement has stopped");
  }

  // --- Overview -------------------------------------------------------------------------------------------------

  async stats(): Promise<StatsReply> {
    const { store, node } = this.#parts;
    const nowMs = this.#clock.nowMs();
    const shards = await Promise.all(Array.from({ length: store.shardCount }, (_, shard) => store.stats(shard, nowMs)));
    const parked = await this.retry.parked.byKey();
    const byTopic: Record<string, number> = Object.create(null);
    for (const { waitingByTopic } of shards) {
      for (const [topic, count] of waitingByTopic) byTopic[topic] = (byTopic[topic] ?? 0) + count;
    }
    const sum = (numbers: readonly number[]): number => numbers.reduce((total, value) => total + value, 0);
    const sumAt = (pick: (index: number) => readonly number[], length: number): number[] =>
      Array.from({ length }, (_, i) => sum(shards.map((_, shard) => pick(shard)[i] ?? 0)));
    return {
      node,
      time: formatInstant(nowMs),
      waiting: { total: sum(Object.values(byTopic)), byTopic },
      parked: { total: parked.total, byDependency: parked.byKey },
      dueNow: sum(shards.map((shard) => shard.dueNow)),
      claimed: sum(shards.map((shard) => shard.claimed)),
      dead: sum(shards.map((shard) => shard.dead)),
      duePerMinute: sumAt((shard) => shards[shard]!.duePerMinute, 60),
      duePerHour: sumAt((shard) => shards[shard]!.duePerHour, 24),
      lateness: this.#metrics.recentLateness(),
      shards: shards.map(({ owner, epoch }, shard) => ({
        shard,
        ...(owner === undefined ? undefined : { owner }),
        epoch,
      })),
      members: [...this.#keeper.members],
    };
  }

  health(): HealthReply {
    const problems = [...this.#health.problems];
    if (this.#stopping)
      return {
        status: "stopping",
        problems: [{ code: "shutting_down", detail: "this process is stopping" }, ...problems],
      };
    return { status: problems.length === 0 ? "ok" : "degraded", problems };
  }

  metrics(): Promise<{ contentType: string; text: string }> {
    return this.#metrics.render();
  }

  // --- checks ---------------------------------------------------------------------------------------------------

  #rotateAtMs = 0;
  #incarnation: string | undefined;
  readonly #warned = new Set<string>();

  /** Each warning once, not once a second. */
  #logWarnings(warnings: readonly string[]): void {
    for (const warning of warnings) {
      // Numbers change from second to second; the same sentence with others is not news.
      const kind = warning.replace(/\d+/g, "n");
      if (this.#warned.has(kind)) continue;
      this.#warned.add(kind);
      this.#parts.log.warn({ warning }, "store");
    }
  }

  /** Whoever set this machine's clock, or let it sleep, has moved every delay with it. */
  #logStep(steppedMs: number): void {
    if (Math.abs(steppedMs) <= clockToleranceMs) return;
    this.#parts.log.warn({ steppedMs: Math.round(steppedMs) }, "this machine's clock was set, or it slept");
  }

  async #check(): Promise<number> {
    const clock = this.#clock;
    if (clock.monotonicMs() >= this.#rotateAtMs) {
      this.#rotateAtMs = clock.monotonicMs() + 30_000;
      this.#metrics.rotate();
    }
    try {
      const check = await this.#parts.store.check();
      if (check.timeMs !== undefined) clock.observe(check.timeMs, check.roundTripMs);
      else this.#logStep(clock.follow());
      if (this.#incarnation !== undefined && this.#incarnation !== check.incarnation) {
        this.#parts.log.warn({}, "the store started again or another server took its place: taking all shards anew");
        void this.#keeper.startOver().then(() => this.#loops.keeper.wake());
      }
      this.#incarnation = check.incarnation;
      this.#health.report(
        "store",
        "store_refusing",
        check.problems.length === 0 ? undefined : check.problems.join("; "),
      );
      this.#health.report("store connection", "store_unavailable", undefined);
      this.#logWarnings(check.warnings);
    } catch (error) {
      const detail = error instanceof Error ? error.message : String(error);
      this.#health.report("store connection", "store_unavailable", detail);
    }
    this.#health.report("clock", "clock_not_trusted", clock.problem);
    return checkEveryMs;
  }
}
