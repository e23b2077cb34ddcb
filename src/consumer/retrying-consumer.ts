import type { IncomingMessage } from "../ingest/topic-source.port.ts";
import { type EpochMs, epochMs } from "../message/time.ts";
import { DependencyGuard } from "../retry/dependency-guard.ts";
import type { RetryEnvelope } from "../retry/envelope.ts";
import { failureOf, type ThrownFailure } from "../retry/fingerprint.ts";
import { defaultBreaker, defaultBudget } from "../retry/policy.ts";
import { sleep, type Timers } from "../runtime/timers.ts";
import { arrivalOf } from "./arrival.ts";
import { type AttemptResult, runAttempt } from "./attempt.ts";
import { carriedBy, originIdOf } from "./carried.ts";
import type { ConsumedSource, RetryingConsumerParts, Work } from "./consumer-parts.ts";
import { type ConsumerStats, emptyStats } from "./consumer-stats.ts";
import { Disposal } from "./disposal.ts";
import { buried, type Disposition, failed, later, ownFailure, parked, type Surroundings } from "./disposition.ts";
import { HandOvers } from "./hand-overs.ts";
import { type ConsumedMessage, checkedKey, consumedMessage } from "./handler-context.ts";
import { InHand } from "./held.ts";
import { KnownPolicies } from "./known-policies.ts";
import { Lanes } from "./order.ts";
import { outcomeOf } from "./outcome.ts";
import { Receiving } from "./receiving.ts";
import { Remembered } from "./remembered.ts";
import { ServiceLink } from "./service-link.ts";

/** Held for each place of a handler: one that runs, one that is ready. */
const heldPerPlace = 2;
/** Beyond the budget: soon again, spread so that they do not come all at once. */
const deferMinMs = 1_000;
const deferSpreadMs = 2_000;
/** Those that may not run beside each other come again this much later, so far apart that most then find the place free. */
const aloneMinMs = 2_000;
const aloneSpreadMs = 10_000;
const stopLookMs = 50;

/**
 * Receives a group's messages, runs the handler on each and sees to what becomes of it. The way of a message:
 *
 *   receive ─> known? ─> its lane's turn, a free place ─> may its dependency be called? ─> attempt ─> acknowledge
 *                 │                                          │                              │
 *                 └─ gave no answer before: a crash          └─ park, defer                 └─ failed: retry, park, dead
 *                            └──────────────────┬───────────────┴──────────────────────────────┘
 *                                         hand over, then acknowledge  (cannot: leave it invisible)
 *
 * It holds no more messages than it can soon work on, and acknowledges nothing that is not done or durable elsewhere.
 * Everything outside is a port, time and chance too, so that the simulator runs this very class.
 */
export class RetryingConsumer<T = Buffer> {
  readonly #parts: RetryingConsumerParts<T>;
  readonly #policies: KnownPolicies;
  readonly #guard = new DependencyGuard({ opened: () => this.#link?.hurry() });
  readonly #inHand: InHand;
  readonly #handOvers: HandOvers;
  readonly #remembered = new Remembered();
  readonly #lanes: Lanes;
  readonly #link: ServiceLink | undefined;
  readonly #receiving: Receiving;
  readonly #stats = emptyStats();
  readonly #stop = new AbortController();
  readonly #ready: Work<T>[] = [];
  readonly #disposal: Disposal<T>;
  #running = 0;
  /** Handlers that did not end in their time and have not ended since. */
  #leftBehind = 0;
  #warnedOfPlaces = false;
  #warnedOfDependency = false;
  #stopping = false;
  #stopped: Promise<void> | undefined;

  constructor(parts: RetryingConsumerParts<T>) {
    this.#parts = parts;
    const { clock, timers, log, settings, handOff, group, sources, service } = parts;
    this.#policies = new KnownPolicies(parts.policy, log);
    const counted = { stale: () => void this.#stats.stale++ };
    this.#inHand = new InHand({ invisibleMs: settings.invisibleMs, clock, timers, log, counted });
    this.#handOvers = new HandOvers({ handOff, clock, timers, log });
    this.#lanes = new Lanes(parts.order);
    this.#disposal = new Disposal({
      inHand: this.#inHand,
      handOvers: this.#handOvers,
      remembered: this.#remembered,
      lanes: this.#lanes,
      retryTopic: parts.retryTopic,
      stats: this.#stats,
      clock,
      log,
      next: (work) => this.#next(work),
      changed: () => this.#changed(),
    });
    this.#link =
      service === undefined
        ? undefined
        : new ServiceLink({
            service,
            worker: parts.worker,
            group,
            topics: sources.filter(({ ofRetryTopic }) => !ofRetryTopic).map(({ source }) => source.topic),
            policies: this.#policies,
            guard: this.#guard,
            clock,
            timers,
            log,
          });
    this.#receiving = new Receiving({
      sources,
      heldMax: settings.concurrency * heldPerPlace,
      held: () => this.#inHand.size,
      take: (from, messages) => {
        const ahead = new Set<string>();
        for (const message of messages) this.#take(from, message, ahead);
        this.#changed();
      },
      timers,
      log,
    });
  }

  /** Resolves when the service has said which policies hold, or does not answer. */
  async start(): Promise<void> {
    await this.#link?.start();
    this.#inHand.start();
    this.#receiving.start();
  }

  stats(): ConsumerStats {
    return { ...this.#stats, running: this.#running, held: this.#inHand.size, leftBehind: this.#leftBehind };
  }

  /**
   * Takes nothing more, lets handlers end, aborts those that do not, and brings back what is unfinished: without an
   * attempt what was not begun or gave up at the signal.
   */
  stop(): Promise<void> {
    this.#stopped ??= this.#shutDown();
    return this.#stopped;
  }

  async #shutDown(): Promise<void> {
    const { timers, settings, sources, handOff } = this.#parts;
    this.#stopping = true;
    await this.#receiving.stop();
    for (const work of [...this.#ready.splice(0), ...(this.#lanes.clear() as Work<T>[])])
      this.#disposal.dispose(work, this.#returned(work));
    const graceOver = timers.after(settings.stopGraceMs, () => this.#stop.abort());
    // An attempt ends by itself soon after the signal; what it leads to may take a call to the broker.
    while (this.#running > 0 || this.#disposal.isBusy) {
      if (this.#disposal.isBusy) await this.#disposal.oneEnded();
      else await sleep(timers, stopLookMs);
    }
    graceOver.cancel();
    await this.#handOvers.idle();
    await this.#inHand.stop();
    await this.#link?.stop();
    await Promise.all([handOff.close(), ...sources.map(({ source }) => source.close())]);
  }

  // --- receiving ------------------------------------------------------------------------------------------------

  #changed(): void {
    this.#receiving.wake();
    this.#pump();
  }

  /** @param ahead the lanes of those that came together with it and before it */
  #take({ source, ofRetryTopic }: ConsumedSource, message: IncomingMessage, ahead: Set<string>): void {
    const { clock, settings, group } = this.#parts;
    const id = originIdOf(message);
    this.#stats.received++;
    const already = this.#inHand.find(id);
    if (already !== undefined) {
      this.#stats.cameAgain++;
      this.#inHand.takeAgain(already, message);
      return;
    }
    const carried = carriedBy(message, group, ofRetryTopic);
    const held = {
      id,
      source,
      ofRetryTopic,
      message,
      receipt: message.receipt,
      invisibleUntilMs: clock.monotonicMs() + settings.invisibleMs,
      stale: false,
      doubtful: false,
    };
    const lane = this.#lanes.laneOf(held);
    const isBehind = lane !== undefined && (ahead.has(lane) || this.#lanes.isBehind(held));
    if (lane !== undefined) ahead.add(lane);
    // A lane that blocks runs its head alone anyway, and nothing of it may go away and come back.
    const isBlocking = this.#lanes.blocks && !ofRetryTopic;
    const isFinished = this.#remembered.isFinished(id);
    const arrival = arrivalOf({
      carried: carried.envelope,
      broken: carried.broken,
      deliveryAttempt: message.deliveryAttempt,
      back: this.#remembered.take(id),
      blocks: isBlocking,
      isBehind,
      crashesAreCounted: this.#link !== undefined,
      handingOverFails: this.#handOvers.inTrouble,
      nowMs: clock.nowMs(),
      around: (envelope) => this.#around(message, envelope),
    });
    const { envelope, mustBeHandedOver, isDoubted } = arrival;
    const released = carried.envelope.parkedAtMs !== undefined;
    const { crashes } = envelope;
    const { maxCrashes } = this.#around(message, envelope).inUse.policy.limits;
    const lastChance = !isBlocking && crashes > 0 && crashes + 1 >= maxCrashes;
    const work: Work<T> = { ...held, envelope, mustBeHandedOver, isDoubted, released, lastChance, value: undefined };
    this.#inHand.take(work);
    if (isFinished) this.#stats.cameAgain++;
    else if (arrival.isCrash) this.#stats.crashes++;
    const disposition = isFinished
      ? done
      : (arrival.disposition ?? (this.#stopping ? this.#returned(work) : undefined));
    if (disposition !== undefined) {
      this.#disposal.dispose(work, disposition);
      return;
    }
    if (lastChance && !this.#isAlone(work)) {
      this.#disposal.dispose(work, this.#deferred(work, aloneMinMs, aloneSpreadMs));
      return;
    }
    const turn = this.#lanes.enter(work, clock.monotonicMs());
    if (turn === true) this.#ready.push(work);
    else if (turn !== false) this.#disposal.sendBack(work, turn);
  }

  // --- working --------------------------------------------------------------------------------------------------

  #pump(): void {
    while (this.#running < this.#places()) {
      const next = this.#ready.findIndex((one) => !one.lastChance || this.#isAlone(one));
      if (next < 0) return;
      const [work] = this.#ready.splice(next, 1) as [Work<T>];
      this.#running++;
      void this.#work(work)
        .catch((error: unknown) => {
          // A bug of ours: the message is left to its invisibility, and comes again as a crash.
          this.#parts.log.error({ err: error, id: work.id }, "unexpected error while a message was worked on");
          this.#inHand.release(work);
          this.#next(work);
        })
        .finally(() => {
          this.#running--;
          this.#changed();
        });
    }
  }

  /**
   * A process that dies takes all with it that it has in hand, and each of them has crashed once more. So that those
   * that were beside the cause do not end with it, nobody's last chance is shared with another's: of several in hand
   * one stays, and does not begin before the others are safe elsewhere.
   */
  #isAlone(work: Work<T>): boolean {
    return !this.#inHand.hasBeside(work, (other) => (other as Work<T>).lastChance);
  }

  /** Handlers that never end take no places, up to as many as there are places; then they do. */
  #places(): number {
    const { concurrency } = this.#parts.settings;
    const lost = Math.max(0, this.#leftBehind - concurrency);
    if (lost > 0 && !this.#warnedOfPlaces) {
      this.#warnedOfPlaces = true;
      const { log } = this.#parts;
      log.error(
        { leftBehind: this.#leftBehind },
        "handlers do not end, not even after their signal was aborted; fewer run now",
      );
    }
    return concurrency - lost;
  }

  async #work(work: Work<T>): Promise<void> {
    const { handler, verify, settings, clock, timers } = this.#parts;
    if (work.stale) return this.#disposal.drop(work);
    const decoded = await this.#decode(work);
    if (decoded !== undefined) return this.#disposal.dispose(work, decoded);
    const message = work.value!;
    const around = this.#around(work.message, work.envelope);
    const key = this.#dependencyOf(message);
    if (key !== undefined) {
      const { breaker = defaultBreaker, budget = defaultBudget } = around.inUse.policy;
      this.#guard.configure(key, breaker, budget, around.nowMs);
      const kind = work.released ? "released" : work.envelope.attempt > 0 ? "retry" : "fresh";
      const may = this.#guard.decide(key, kind, around.nowMs);
      if (may === "park") return this.#disposal.dispose(work, parked(work.envelope, key, around.nowMs));
      if (may === "defer") return this.#disposal.dispose(work, this.#deferred(work, deferMinMs, deferSpreadMs));
    }
    if (work.isDoubted && this.#link !== undefined) {
      const crashed = await this.#doubtCleared(work, this.#link);
      if (work.stale) return this.#disposal.drop(work);
      if (crashed !== undefined) return this.#disposal.dispose(work, crashed);
    }
    const delivery = work.message.deliveryAttempt;
    this.#stats.attempts++;
    const result = await runAttempt({
      message,
      envelope: work.envelope,
      policy: around.inUse.policy,
      handler,
      verify,
      timeoutMs: settings.handlerTimeoutMs,
      stop: this.#stop.signal,
      clock,
      timers,
    });
    if (work.isDoubted) this.#link?.answered(work.id, delivery);
    if ("left" in result && result.left !== undefined) this.#leaveBehind(result.left);
    this.#disposal.dispose(work, this.#judged(work, result, key));
  }

  /** How often it killed its process stands with the service, because it cannot be handed over to carry it. */
  async #doubtCleared(work: Work<T>, link: ServiceLink): Promise<Disposition | undefined> {
    const { id, message, envelope } = work;
    const crashes = await link.begins(id, message.deliveryAttempt);
    if (crashes === undefined || crashes === 0) return undefined;
    this.#stats.crashes++;
    const failure = ownFailure("crash", "crash", `its handler began ${crashes} times and nobody heard of it again`);
    // The last of them is among the attempts already.
    const before = { ...envelope, attempt: Math.max(0, envelope.attempt - 1), crashes: crashes - 1 };
    const disposition = failed(before, failure, this.#around(message, envelope));
    if (disposition.kind === "dead") {
      link.answered(id, message.deliveryAttempt);
      return disposition;
    }
    if (disposition.kind !== "done") work.envelope = disposition.envelope;
    return undefined;
  }

  /** Counts what an attempt came to, for the breaker of what it called, too. */
  #judged(work: Work<T>, result: AttemptResult, key: string | undefined): Disposition {
    const around = this.#around(work.message, work.envelope);
    const outcome = outcomeOf(result, work.envelope, around, this.#parts.settings.handlerTimeoutMs);
    const { disposition, failure } = outcome;
    if (result.kind === "done") {
      this.#stats.succeeded++;
      if (key !== undefined) this.#guard.record(key, true, around.nowMs);
      if (work.envelope.redrive !== undefined) this.#link?.redriven(work.envelope.redrive, work.message);
    }
    if (failure === undefined) return disposition;
    this.#stats.failed++;
    if (key === undefined || (result.kind !== "threw" && result.kind !== "timed_out")) return disposition;
    // Whoever refuses a message for good has answered.
    this.#guard.record(key, failure.class === "permanent", around.nowMs);
    return this.#orParked(disposition, failure, key, around.nowMs);
  }

  async #decode(work: Work<T>): Promise<Disposition | undefined> {
    const { decode, timers, settings } = this.#parts;
    const plain = consumedMessage(work.message, work.envelope, work.message.body);
    try {
      // Without a decoder T is Buffer.
      const value =
        decode === undefined
          ? (plain.value as T)
          : await within(decode(plain.value, plain), settings.handlerTimeoutMs, timers);
      if (value === tooLong) {
        const around = this.#around(work.message, work.envelope);
        const text = `decode took longer than ${settings.handlerTimeoutMs} ms`;
        return failed(work.envelope, ownFailure("transient", "decode_timeout", text), around);
      }
      work.value = { ...plain, value };
      return undefined;
    } catch (error) {
      const failure = { ...failureOf(error, this.#parts.clock.nowMs()), class: "permanent" as const };
      return buried(work.envelope, "decode_failed", failure, this.#around(work.message, work.envelope));
    }
  }

  #dependencyOf(message: ConsumedMessage<T>): string | undefined {
    const { dependency, log } = this.#parts;
    if (dependency === undefined) return undefined;
    try {
      const key = dependency(message);
      return key === undefined ? undefined : checkedKey(key);
    } catch (error) {
      if (!this.#warnedOfDependency) {
        log.warn({ err: error }, "dependency() names no dependency for a message; it is called without a breaker");
      }
      this.#warnedOfDependency = true;
      return undefined;
    }
  }

  #leaveBehind(left: Promise<void>): void {
    this.#leftBehind++;
    void left.then(() => {
      this.#leftBehind--;
      this.#pump();
    });
  }

  /**
   * What failed because its dependency is down waits for that, not for a time: it would find it closed again and
   * again, and its age would run on meanwhile. Whoever was told when to come back is believed.
   */
  #orParked(disposition: Disposition, failure: ThrownFailure, key: string, nowMs: EpochMs): Disposition {
    if (disposition.kind !== "wait" || failure.retryAfterMs !== undefined) return disposition;
    return this.#guard.stateOf(key, nowMs) === "open" ? parked(disposition.envelope, key, nowMs) : disposition;
  }

  #around(message: IncomingMessage, envelope: RetryEnvelope): Surroundings {
    const { clock, random, verify } = this.#parts;
    const inUse = this.#policies.of(envelope.originTopic, message.tag, envelope);
    return { inUse, nowMs: clock.nowMs(), random, canVerify: verify !== undefined };
  }

  /** Without an attempt, for another process or the next one. */
  #returned({ envelope }: Work<T>): Disposition {
    const nowMs = this.#parts.clock.nowMs();
    return later("return", envelope, nowMs, nowMs);
  }

  /** A little later, without an attempt. */
  #deferred({ envelope }: Work<T>, minMs: number, spreadMs: number): Disposition {
    const { clock, random } = this.#parts;
    const nowMs = clock.nowMs();
    return later("defer", envelope, epochMs(nowMs + minMs + Math.floor(random.float() * spreadMs)), nowMs);
  }

  #next(work: Work<T>): void {
    const next = this.#lanes.leave(work) as Work<T> | undefined;
    if (next !== undefined) this.#ready.push(next);
  }
}

const done: Disposition = { kind: "done" };

const tooLong = Symbol("too long");
/** Whatever comes of it later is of no interest, and no unhandled rejection either. */
const within = <R>(result: R | Promise<R>, timeoutMs: number, timers: Timers): Promise<R | typeof tooLong> | R =>
  typeof (result as Partial<Promise<R>> | undefined | null)?.then === "function"
    ? new Promise((resolve, reject) => {
        const timer = timers.after(timeoutMs, () => resolve(tooLong));
        const end = () => timer.cancel();
        Promise.resolve(result).finally(end).then(resolve, reject);
      })
    : result;
