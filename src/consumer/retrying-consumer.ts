import type { IncomingMessage } from "../ingest/topic-source.port.ts";
import { type EpochMs, epochMs } from "../message/time.ts";
import { DependencyGuard } from "../retry/dependency-guard.ts";
import type { RetryEnvelope } from "../retry/envelope.ts";
import { failureOf, type ThrownFailure } from "../retry/fingerprint.ts";
import { defaultBreaker, defaultBudget } from "../retry/policy.ts";
import type { Clock } from "../runtime/clock.ts";
import { reach } from "../runtime/failpoint.ts";
import type { Log } from "../runtime/log.ts";
import { Loop } from "../runtime/loop.ts";
import type { Random } from "../runtime/random.ts";
import { sleep, type Timers } from "../runtime/timers.ts";
import { type AttemptResult, type Handler, runAttempt, type Verifier } from "./attempt.ts";
import { carriedBy, originIdOf, unparked } from "./carried.ts";
import { type ConsumerStats, emptyStats } from "./consumer-stats.ts";
import type { DeliverySource } from "./delivery-source.port.ts";
import {
  askAgainMs,
  buried,
  type Disposition,
  failed,
  invisibleFor,
  later,
  parked,
  retriedAt,
  type Surroundings,
  spent,
  stillUnknown,
} from "./disposition.ts";
import type { HandOff } from "./hand-off.port.ts";
import { handOverOf } from "./hand-over.ts";
import { HandOvers } from "./hand-overs.ts";
import { type ConsumedMessage, checkedKey, consumedMessage } from "./handler-context.ts";
import { type Held, InHand } from "./held.ts";
import { type GivenPolicy, KnownPolicies } from "./known-policies.ts";
import { Lanes, type Order } from "./order.ts";
import { Remembered } from "./remembered.ts";
import type { RetryService } from "./retry-service.port.ts";
import { ServiceLink } from "./service-link.ts";

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
export type RetryingConsumerParts<T> = {
  readonly group: string;
  readonly retryTopic: string;
  readonly sources: readonly ConsumedSource[];
  readonly handOff: HandOff;
  /** Absent: policies must be given, and breakers know only what this process sees. */
  readonly service?: RetryService;
  readonly policy: GivenPolicy;
  readonly handler: Handler<T>;
  readonly verify?: Verifier<T>;
  /** Makes the value that the handler gets. What it throws is this message's own fault, for good. */
  readonly decode?: (body: Buffer, message: ConsumedMessage<Buffer>) => T | Promise<T>;
  /** What the handler will call for this message: whose breaker and budget hold for it. */
  readonly dependency?: (message: ConsumedMessage<T>) => string | undefined;
  readonly order?: Order;
  readonly settings: ConsumerSettings;
  /** Unique for each process. */
  readonly worker: string;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: Random;
  readonly log: Log;
};

export type ConsumedSource = {
  readonly source: DeliverySource;
  readonly ofRetryTopic: boolean;
  readonly polls: number;
};

export type ConsumerSettings = {
  /** Handlers that run at once. */
  readonly concurrency: number;
  readonly invisibleMs: number;
  readonly handlerTimeoutMs: number;
  /** How long a stop waits for handlers before it aborts their signals. */
  readonly stopGraceMs: number;
};

/** A poll brings 32 at most. */
const pollMax = 32;
/** Held for each place of a handler: one that runs, one that is ready. */
const heldPerPlace = 2;
/** Beyond the budget: soon again, spread so that they do not come all at once. */
const deferMinMs = 1_000;
const deferSpreadMs = 2_000;

type Work<T> = Held & {
  envelope: RetryEnvelope;
  value: ConsumedMessage<T> | undefined;
  readonly released: boolean;
  mustBeHandedOver: boolean;
};

export class RetryingConsumer<T = Buffer> {
  readonly #parts: RetryingConsumerParts<T>;
  readonly #policies: KnownPolicies;
  readonly #guard = new DependencyGuard();
  readonly #inHand: InHand;
  readonly #handOvers: HandOvers;
  readonly #remembered = new Remembered();
  readonly #lanes: Lanes;
  readonly #link: ServiceLink | undefined;
  readonly #receivers: Loop[];
  readonly #stats = emptyStats();
  readonly #stop = new AbortController();
  readonly #ready: Work<T>[] = [];
  readonly #disposing = new Set<Promise<void>>();
  #running = 0;
  /** Handlers that did not end in their time and have not ended since. */
  #leftBehind = 0;
  #warnedOfPlaces = false;
  #warnedOfDependency = false;
  #polling = 0;
  #stopping = false;
  readonly #roomWaiters = new Set<() => void>();
  #stopped: Promise<void> | undefined;

  constructor(parts: RetryingConsumerParts<T>) {
    this.#parts = parts;
    const { clock, timers, log, settings, handOff, group, sources, service } = parts;
    this.#policies = new KnownPolicies(parts.policy, log);
    const counted = { stale: () => void this.#stats.stale++ };
    this.#inHand = new InHand({ invisibleMs: settings.invisibleMs, clock, timers, log, counted });
    this.#handOvers = new HandOvers({ handOff, clock, timers, log });
    this.#lanes = new Lanes(parts.order);
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
    this.#receivers = sources.flatMap((consumed) =>
      Array.from(
        { length: consumed.polls },
        (_, i) =>
          new Loop({
            name: `receiver ${i} of ${consumed.source.topic}`,
            timers,
            log,
            runOnce: (signal) => this.#receive(consumed, signal),
          }),
      ),
    );
  }

  /** Resolves when the service has said which policies hold, or does not answer. */
  async start(): Promise<void> {
    await this.#link?.start();
    this.#inHand.start();
    for (const loop of this.#receivers) loop.start();
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
    this.#wakeRoom();
    await Promise.all(this.#receivers.map((loop) => loop.stop()));
    for (const work of [...this.#ready.splice(0), ...(this.#lanes.clear() as Work<T>[])]) this.#bringBack(work);
    const graceOver = timers.after(settings.stopGraceMs, () => this.#stop.abort());
    // An attempt ends by itself soon after the signal; what it leads to may take a call to the broker.
    while (this.#running > 0 || this.#disposing.size > 0) {
      if (this.#disposing.size > 0) await Promise.race(this.#disposing);
      else await sleep(timers, stopLookMs);
    }
    graceOver.cancel();
    await this.#handOvers.idle();
    await this.#inHand.stop();
    await this.#link?.stop();
    await Promise.all([handOff.close(), ...sources.map(({ source }) => source.close())]);
  }

  // --- receiving ------------------------------------------------------------------------------------------------

  async #receive({ source, ofRetryTopic }: ConsumedSource, signal: AbortSignal): Promise<number> {
    const room = await this.#room(signal);
    if (room === 0) return 0;
    this.#polling += room;
    let messages: readonly IncomingMessage[];
    try {
      messages = await source.receive(room, signal);
    } finally {
      this.#polling -= room;
    }
    for (const message of messages) this.#take(source, message, ofRetryTopic);
    this.#wakeRoom();
    this.#pump();
    return 0;
  }

  /**
   * How many messages a poll may bring, once there is room. While other polls are open and may bring more than there
   * is room for, one is asked for one message only, so that no topic waits for another's silence: so there can be one
   * message too many for each open poll.
   */
  async #room(signal: AbortSignal): Promise<number> {
    const heldMax = this.#parts.settings.concurrency * heldPerPlace;
    while (this.#inHand.size >= heldMax && !signal.aborted) {
      await new Promise<void>((resolve) => {
        const wake = () => {
          this.#roomWaiters.delete(wake);
          signal.removeEventListener("abort", wake);
          resolve();
        };
        this.#roomWaiters.add(wake);
        signal.addEventListener("abort", wake, { once: true });
      });
    }
    if (signal.aborted || this.#stopping) return 0;
    return Math.max(1, Math.min(pollMax, heldMax - this.#inHand.size - this.#polling));
  }

  #wakeRoom(): void {
    for (const wake of [...this.#roomWaiters]) wake();
  }

  #take(source: DeliverySource, message: IncomingMessage, ofRetryTopic: boolean): void {
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
    const work: Work<T> = {
      id,
      source,
      ofRetryTopic,
      message,
      receipt: message.receipt,
      invisibleUntilMs: clock.monotonicMs() + settings.invisibleMs,
      stale: false,
      doubtful: false,
      envelope: carried.envelope,
      value: undefined,
      released: carried.envelope.parkedAtMs !== undefined,
      mustBeHandedOver: false,
    };
    this.#inHand.take(work);
    if (this.#remembered.isFinished(id)) {
      this.#stats.cameAgain++;
      this.#dispose(work, { kind: "done" });
      return;
    }
    const disposition = this.#known(work, carried.broken);
    if (disposition !== undefined) {
      this.#dispose(work, disposition);
      return;
    }
    if (this.#stopping) {
      this.#bringBack(work);
      return;
    }
    const turn = this.#lanes.enter(work, clock.monotonicMs());
    if (turn === true) this.#ready.push(work);
    else if (turn !== false) void this.#track(this.#sendBack(work, turn));
  }

  /** What its history says before anything is done with it. */
  #known(work: Work<T>, broken: string | undefined): Disposition | undefined {
    const { clock } = this.#parts;
    const nowMs = clock.nowMs();
    if (broken !== undefined) {
      return buried(
        work.envelope,
        "broken_envelope",
        plainFailure("permanent", "broken_envelope", broken),
        this.#around(work),
      );
    }
    const { deliveryAttempt } = work.message;
    const back = this.#remembered.take(work.id);
    work.envelope = unparked(back?.envelope ?? work.envelope, nowMs);
    const isSuspicious = deliveryAttempt > 1 && back?.nextDelivery !== deliveryAttempt;
    if (back?.pending?.kind === "dead") return back.pending;
    if (back?.pending !== undefined && back.mustBeHandedOver === true) {
      work.mustBeHandedOver = true;
      return back.pending;
    }
    const isEarly = back?.pending?.kind === "wait" && back.pending.atMs - nowMs > earlyMs;
    if (isEarly && !this.#lanes.blocks) return back.pending;
    if (isSuspicious && this.#lanes.blocks) {
      // Order does not allow it to go away and come back, so the broker's count must do for all attempts.
      const attempt = Math.max(work.envelope.attempt, deliveryAttempt - 1);
      work.envelope = { ...work.envelope, attempt, firstFailedAtMs: work.envelope.firstFailedAtMs ?? nowMs };
    } else if (isSuspicious) {
      this.#stats.crashes++;
      work.mustBeHandedOver = true;
      // Given back by a peer that could not hand it over, or died with: nobody can tell while handing over fails.
      if (this.#handOvers.inTrouble) return this.#later("return", work, deferMinMs);
      const text = `delivered ${deliveryAttempt} times without an answer`;
      return failed(work.envelope, plainFailure("crash", "crash", text), this.#around(work));
    }
    return spent(work.envelope, this.#around(work));
  }

  // --- working --------------------------------------------------------------------------------------------------

  #pump(): void {
    while (this.#ready.length > 0 && this.#running < this.#places()) {
      const work = this.#ready.shift()!;
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
          this.#wakeRoom();
          this.#pump();
        });
    }
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
    const decoded = await this.#decode(work);
    if (decoded !== undefined) return this.#dispose(work, decoded);
    const message = work.value!;
    const around = this.#around(work);
    const key = this.#dependencyOf(message);
    if (key !== undefined) {
      const { breaker = defaultBreaker, budget = defaultBudget } = around.inUse.policy;
      this.#guard.configure(key, breaker, budget, around.nowMs);
      const kind = work.released ? "released" : work.envelope.attempt > 0 ? "retry" : "fresh";
      const may = this.#guard.decide(key, kind, around.nowMs);
      if (may === "park") return this.#dispose(work, parked(work.envelope, key, around.nowMs));
      if (may === "defer") {
        const waitMs = deferMinMs + Math.floor(this.#parts.random.float() * deferSpreadMs);
        return this.#dispose(work, this.#later("defer", work, waitMs));
      }
    }
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
    if ("left" in result && result.left !== undefined) this.#leaveBehind(result.left);
    this.#dispose(work, this.#outcome(work, result, key));
  }

  async #decode(work: Work<T>): Promise<Disposition | undefined> {
    const { decode } = this.#parts;
    const plain = consumedMessage(work.message, work.envelope, work.message.body);
    try {
      // Without a decoder T is Buffer.
      const value = decode === undefined ? (plain.value as T) : await decode(plain.value, plain);
      work.value = { ...plain, value };
      return undefined;
    } catch (error) {
      const failure = { ...failureOf(error, this.#parts.clock.nowMs()), class: "permanent" as const };
      return buried(work.envelope, "decode_failed", failure, this.#around(work));
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

  #outcome(work: Work<T>, result: AttemptResult, key: string | undefined): Disposition {
    const { envelope } = work;
    const around = this.#around(work);
    const { nowMs } = around;
    switch (result.kind) {
      case "done":
        if (key !== undefined) this.#guard.record(key, true, nowMs);
        this.#stats.succeeded++;
        if (envelope.redrive !== undefined) this.#link?.redriven(envelope.redrive, work.message);
        return { kind: "done" };
      case "threw": {
        const failure = failureOf(result.error, nowMs);
        // Whoever refuses a message for good has answered.
        if (key !== undefined) this.#guard.record(key, failure.class === "permanent", nowMs);
        this.#stats.failed++;
        return this.#orParked(failed(envelope, failure, around), failure, key, nowMs);
      }
      case "timed_out": {
        if (key !== undefined) this.#guard.record(key, false, nowMs);
        this.#stats.failed++;
        const text = `the handler took longer than ${this.#parts.settings.handlerTimeoutMs} ms`;
        const failure = plainFailure("unknown", "handler_timeout", text);
        return this.#orParked(failed(envelope, failure, around), failure, key, nowMs);
      }
      case "unverified":
        this.#stats.failed++;
        return stillUnknown(envelope, failureOf(result.error, nowMs), around);
      case "stopped":
        if (result.left === undefined) return this.#later("return", work, 0);
        return failed(
          envelope,
          plainFailure("unknown", "stopped", "the consumer stopped and its handler did not"),
          around,
        );
      case "said": {
        const { verdict } = result;
        switch (verdict.kind) {
          case "retry":
            this.#stats.failed++;
            return retriedAt(envelope, verdict.atMs, plainFailure("transient", "retry_at", verdict.reason), around);
          case "snooze":
            return later("snooze", envelope, verdict.atMs, nowMs);
          case "park":
            return parked(envelope, verdict.key, nowMs);
          case "dead":
            return buried(envelope, "handler", plainFailure("permanent", "handler", verdict.reason), around);
        }
      }
    }
  }

  /**
   * What failed because its dependency is down waits for that, not for a time: it would find it closed again and
   * again, and its age would run on meanwhile. Whoever was told when to come back is believed.
   */
  #orParked(disposition: Disposition, failure: ThrownFailure, key: string | undefined, nowMs: EpochMs): Disposition {
    if (disposition.kind !== "wait" || key === undefined || failure.retryAfterMs !== undefined) return disposition;
    return this.#guard.stateOf(key, nowMs) === "open" ? parked(disposition.envelope, key, nowMs) : disposition;
  }

  #around({ message, envelope }: Work<T>): Surroundings {
    const { clock, random, verify } = this.#parts;
    const inUse = this.#policies.of(envelope.originTopic, message.tag, envelope);
    return { inUse, nowMs: clock.nowMs(), random, canVerify: verify !== undefined };
  }

  #later(why: "defer" | "return", { envelope }: Work<T>, waitMs: number): Disposition {
    const nowMs = this.#parts.clock.nowMs();
    return later(why, envelope, epochMs(nowMs + waitMs), nowMs);
  }

  // --- what becomes of it ---------------------------------------------------------------------------------------

  /** Without an attempt, for another process or the next one. */
  #bringBack(work: Work<T>): void {
    this.#dispose(work, this.#later("return", work, 0));
  }

  #dispose(work: Work<T>, disposition: Disposition): void {
    void this.#track(
      this.#carryOut(work, disposition).catch((error: unknown) => {
        this.#parts.log.error({ err: error, id: work.id }, "unexpected error while a message was disposed of");
        this.#inHand.release(work);
        this.#next(work);
      }),
    );
  }

  #track(work: Promise<void>): Promise<void> {
    const tracked = work.finally(() => {
      this.#disposing.delete(tracked);
      this.#wakeRoom();
      this.#pump();
    });
    this.#disposing.add(tracked);
    return tracked;
  }

  async #carryOut(work: Work<T>, disposition: Disposition): Promise<void> {
    if (disposition.kind === "done") return this.#acknowledge(work);
    // It comes again, or has come to somebody else: what we would hand over is theirs to decide.
    if (work.stale) {
      this.#inHand.release(work);
      return this.#next(work);
    }
    if (this.#lanes.blocks && disposition.kind !== "dead" && !work.ofRetryTopic) {
      this.#count(disposition);
      return this.#giveBack(work, disposition, invisibleFor(disposition, this.#parts.clock.nowMs()));
    }
    const handedOver = await this.#handOvers.add(handOverOf(work.message, disposition, this.#parts.retryTopic));
    if (handedOver) {
      reach("handed-over");
      this.#count(disposition);
      return this.#acknowledge(work);
    }
    this.#stats.notHandedOver++;
    const waitMs = invisibleFor(disposition, this.#parts.clock.nowMs());
    return this.#giveBack(work, disposition, work.mustBeHandedOver ? Math.max(waitMs, askAgainMs) : waitMs);
  }

  #count(disposition: Exclude<Disposition, { kind: "done" }>): void {
    if (disposition.kind === "park") this.#stats.parked++;
    else if (disposition.kind === "dead") this.#stats.dead++;
    else this.#stats[waitCounts[disposition.why]]++;
  }

  async #acknowledge(work: Work<T>): Promise<void> {
    const { id } = work;
    this.#remembered.finished(id);
    // Its followers need not wait for the broker's word; should it be lost, this one comes again and is known.
    this.#next(work);
    const outcome = await this.#inHand.ack(work);
    this.#inHand.release(work);
    if (outcome === "done" && !work.doubtful) this.#remembered.acknowledged(id);
    if (outcome !== "done") this.#stats.notAcknowledged++;
  }

  /** Leaves it to the broker for a while. What was decided stays remembered here. */
  async #giveBack(work: Work<T>, disposition: Disposition, invisibleMs: number): Promise<void> {
    if (disposition.kind === "done") throw new Error("bug: what is done is not given back");
    const { id, message } = work;
    const nextDelivery = message.deliveryAttempt + 1;
    const { envelope } = disposition;
    const isItsWay = this.#lanes.blocks && disposition.kind !== "dead";
    this.#remembered.gaveBack(id, {
      nextDelivery,
      envelope,
      ...(isItsWay ? undefined : { pending: disposition, mustBeHandedOver: work.mustBeHandedOver }),
    });
    const untilMs = this.#parts.clock.monotonicMs() + invisibleMs;
    const followers = this.#lanes.blocks ? (this.#lanes.block(work, untilMs) as readonly Work<T>[]) : [];
    if (!this.#lanes.blocks) this.#next(work);
    await Promise.all([
      this.#inHand.giveBack(work, invisibleMs),
      ...followers.map((follower) => this.#sendBack(follower, invisibleMs)),
    ]);
  }

  /** Whose turn it is not: the broker brings it again behind its head. */
  async #sendBack(work: Work<T>, invisibleMs: number): Promise<void> {
    const nextDelivery = work.message.deliveryAttempt + 1;
    this.#remembered.gaveBack(work.id, { nextDelivery, envelope: work.envelope });
    await this.#inHand.giveBack(work, invisibleMs);
  }

  #next(work: Work<T>): void {
    const next = this.#lanes.leave(work) as Work<T> | undefined;
    if (next !== undefined) this.#ready.push(next);
  }
}

/** A message that is back this much too early is handed over once more instead of being waited for. */
const earlyMs = 1_500;
const stopLookMs = 50;

const waitCounts = { retry: "retried", snooze: "snoozed", defer: "deferred", return: "returned" } as const;

const plainFailure = (failureClass: ThrownFailure["class"], code: string, text: string): ThrownFailure => ({
  class: failureClass,
  code,
  fingerprint: code,
  text: text.slice(0, 200),
});
