import type { IncomingMessage } from "../ingest/topic-source.port.ts";
import { property } from "../message/message.ts";
import type { DependencyGuard } from "../retry/dependency-guard.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Log } from "../runtime/log.ts";
import { Loop } from "../runtime/loop.ts";
import type { Timers } from "../runtime/timers.ts";
import type { ConsumerSyncRequest } from "../wire/consumer-sync.ts";
import type { KnownPolicies } from "./known-policies.ts";
import type { RetryService } from "./retry-service.port.ts";

/**
 * Tells the service once a second what this process met, and learns what holds for everybody. Nobody waits for it: a
 * service that is away leaves the policies and breakers as they are known here.
 */
export type ServiceLinkOptions = {
  readonly service: RetryService;
  readonly worker: string;
  readonly group: string;
  readonly topics: string[];
  readonly policies: KnownPolicies;
  readonly guard: DependencyGuard;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: Log;
};

const everyMs = 1_000;
/** News goes at once, but not in a stream. */
const newsEveryMs = 200;
/** The first answer says which policies hold, and is worth a moment at the start. */
const firstAnswerMaxMs = 3_000;
/** Outcomes of redriven messages wait for an answer; a job learns of those beyond by asking. */
const redrivenMax = 5_000;
const redrivenAtOnce = 500;

/** Beyond it, a head is worked on without asking. */
const headsMax = 500;
/** A head waits for the service no longer than this. */
const headAnswerMaxMs = 3_000;
const lastWordMaxMs = 1_000;

type Head = NonNullable<ConsumerSyncRequest["heads"]>[number];
type Redriven = NonNullable<ConsumerSyncRequest["redriven"]>[number];

export class ServiceLink {
  readonly #options: ServiceLinkOptions;
  readonly #loop: Loop;
  #redriven: Redriven[] = [];
  #heads: Head[] = [];
  readonly #asking = new Map<string, (crashes: number | undefined) => void>();
  #askedAtMs = Number.NEGATIVE_INFINITY;

  constructor(options: ServiceLinkOptions) {
    this.#options = options;
    const { timers, log } = options;
    this.#loop = new Loop({
      name: "exchange with the service",
      timers,
      log,
      runOnce: (signal) => this.#runOnce(signal),
      errorBackoffMs: { first: everyMs, max: 5_000 },
    });
  }

  /** Resolves when the service has answered, or has not in a moment. */
  async start(): Promise<void> {
    const { timers, log, group } = this.#options;
    const first = new AbortController();
    const timer = timers.after(firstAnswerMaxMs, () => first.abort());
    try {
      await this.#runOnce(first.signal);
    } catch (error) {
      const detail = error instanceof Error ? error.message : String(error);
      log.warn({ group, detail }, "the service does not answer; until it does, given or default policies hold");
    } finally {
      timer.cancel();
    }
    this.#loop.start();
  }

  async stop(): Promise<void> {
    await this.#loop.stop();
    if (this.#heads.length === 0) return;
    // Or whoever has them next must take them for crashes.
    const last = new AbortController();
    const timer = this.#options.timers.after(lastWordMaxMs, () => last.abort());
    await this.#runOnce(last.signal).catch(() => {});
    timer.cancel();
  }

  /**
   * The handler of a message that was given out before is about to run in its lane. Answers how often it began before
   * without anybody hearing of it again; undefined when nobody can say.
   */
  begins(id: string, delivery: number): Promise<number | undefined> {
    if (this.#heads.length >= headsMax) return Promise.resolve(undefined);
    return new Promise((resolve) => {
      const settle = (crashes: number | undefined): void => {
        timer.cancel();
        this.#asking.delete(id);
        resolve(crashes);
      };
      const timer = this.#options.timers.after(headAnswerMaxMs, () => settle(undefined));
      this.#asking.set(id, settle);
      this.#heads.push({ id, delivery, state: "begins" });
      this.#loop.wake();
    });
  }

  /** Whatever came of it, its process lives. */
  answered(id: string, delivery: number): void {
    this.#heads = this.#heads.filter((head) => head.id !== id);
    if (this.#heads.length >= headsMax) return;
    this.#heads.push({ id, delivery, state: "answered" });
    this.#loop.wake();
  }

  /** There is something that everybody should know. */
  hurry(): void {
    if (this.#options.clock.monotonicMs() - this.#askedAtMs >= newsEveryMs) this.#loop.wake();
  }

  /** A message that was brought back from the dead has succeeded. */
  redriven(job: string, message: IncomingMessage): void {
    const id = message.properties.get(property.id);
    if (id !== undefined && this.#redriven.length < redrivenMax) {
      this.#redriven.push({ job, message: id, outcome: "succeeded" });
    }
  }

  async #runOnce(signal: AbortSignal): Promise<number> {
    const { service, worker, group, topics, policies, guard, clock } = this.#options;
    this.#askedAtMs = clock.monotonicMs();
    const redriven = this.#redriven.splice(0, redrivenAtOnce);
    const heads = this.#heads.splice(0);
    const request: ConsumerSyncRequest = {
      worker,
      group,
      topics,
      ...policies.request(),
      dependencies: guard.takeReports(),
      ...(redriven.length === 0 ? undefined : { redriven }),
      ...(heads.length === 0 ? undefined : { heads }),
    };
    try {
      const reply = await service.sync(request, signal);
      policies.take(reply);
      guard.apply(reply.dependencies, clock.nowMs());
      for (const { id, crashes } of reply.heads ?? []) this.#asking.get(id)?.(crashes);
    } catch (error) {
      this.#redriven.unshift(...redriven);
      // What was asked too long ago is no question any more, and has an answer behind it where it has ended.
      const later = new Set(this.#heads.map(({ id }) => id));
      const still = heads.filter(({ id, state }) => !later.has(id) && (state === "answered" || this.#asking.has(id)));
      this.#heads.unshift(...still);
      throw error;
    }
    return everyMs;
  }
}
