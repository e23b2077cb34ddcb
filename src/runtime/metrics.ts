import { createHistogram, monitorEventLoopDelay, type RecordableHistogram } from "node:perf_hooks";
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";

/**
 * Everything that is counted, in one place with its Prometheus name. Counting happens on the hot path, so counters
 * are plain calls without labels made up per message.
 */
export class Metrics {
  readonly registry = new Registry();
  readonly #lateness: Histogram;
  readonly #retried: Histogram;
  readonly #ended: Counter;
  readonly #failures: Counter;
  readonly #accepted: Counter;
  readonly #removed: Counter;
  readonly #refused: Counter;
  // Two half-minute windows in turn give "the last minute" without keeping samples.
  #current: RecordableHistogram = createHistogram();
  #previous: RecordableHistogram = createHistogram();
  readonly #loopDelay = monitorEventLoopDelay({ resolution: 10 });

  constructor() {
    const registers = [this.registry];
    collectDefaultMetrics({ register: this.registry });
    this.#loopDelay.enable();
    const buckets = [0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600];
    this.#lateness = new Histogram({
      name: "escapement_lateness_seconds",
      help: "Dispatch instant minus deliverAt, first attempts.",
      buckets,
      registers,
    });
    this.#retried = new Histogram({
      name: "escapement_retry_lateness_seconds",
      help: "Dispatch instant minus deliverAt, later attempts.",
      buckets,
      registers,
    });
    this.#ended = new Counter({
      name: "escapement_ended_total",
      help: "Messages that ended, by state.",
      labelNames: ["state"],
      registers,
    });
    this.#failures = new Counter({
      name: "escapement_send_failures_total",
      help: "Messages whose send failed, by class and code.",
      labelNames: ["class", "code"],
      registers,
    });
    this.#removed = new Counter({
      name: "escapement_dead_removed_total",
      help: "Dead messages that were removed: by an operator, or because their policy keeps them no longer.",
      labelNames: ["by"],
      registers,
    });
    this.#accepted = new Counter({
      name: "escapement_accepted_total",
      help: "Messages accepted and durable, by the way they came in.",
      labelNames: ["door"],
      registers,
    });
    this.#refused = new Counter({
      name: "escapement_refused_total",
      help: "Messages refused, by the way they came in and error code.",
      labelNames: ["door", "code"],
      registers,
    });
    new Gauge({
      name: "escapement_event_loop_delay_max_seconds",
      help: "Longest event loop delay since the last scrape.",
      registers,
      collect: () => {
        eventLoop.set(this.#loopDelay.max / 1e9);
        this.#loopDelay.reset();
      },
    });
    const eventLoop = this.registry.getSingleMetric("escapement_event_loop_delay_max_seconds") as Gauge;
  }

  /** Everything as Prometheus text. */
  async render(): Promise<{ contentType: string; text: string }> {
    return { contentType: this.registry.contentType, text: await this.registry.metrics() };
  }

  /** A number that is read when metrics are asked for. */
  gauge(name: string, help: string, read: () => number): void {
    const gauge: Gauge = new Gauge({ name, help, registers: [this.registry], collect: () => gauge.set(read()) });
  }

  accepted(door: "http" | "topic", count: number): void {
    this.#accepted.inc({ door }, count);
  }

  refused(door: "http" | "topic", code: string): void {
    this.#refused.inc({ door, code });
  }

  sending(latenessMs: number, attempt: number): void {
    if (attempt > 1) {
      this.#retried.observe(latenessMs / 1000);
      return;
    }
    this.#lateness.observe(latenessMs / 1000);
    this.#current.record(Math.max(1, Math.round(latenessMs)));
  }

  ended(state: "delivered" | "dead" | "expired", count: number): void {
    this.#ended.inc({ state }, count);
  }

  removed(by: "operator" | "policy", count: number): void {
    this.#removed.inc({ by }, count);
  }

  failed(failureClass: string, code: string): void {
    this.#failures.inc({ class: failureClass, code });
  }

  /** To be called every 30 seconds. */
  rotate(): void {
    this.#previous = this.#current;
    this.#current = createHistogram();
  }

  /** Lateness of first attempts over the last half to full minute. A value of 1 ms means 0 or 1. */
  recentLateness(): { count: number; p50Ms: number; p99Ms: number; maxMs: number } {
    const both = createHistogram();
    both.add(this.#previous);
    both.add(this.#current);
    if (both.count === 0) return { count: 0, p50Ms: 0, p99Ms: 0, maxMs: 0 };
    return { count: both.count, p50Ms: both.percentile(50), p99Ms: both.percentile(99), maxMs: both.max };
  }
}
