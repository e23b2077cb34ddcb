import { MemoryDocumentStore } from "../../adapters/memory/memory-document-store.ts";
import { SimulatedTime } from "../../broker/delivery/testing/simulated-time.ts";
import { LaneHeads } from "../../dependencies/lane-heads.ts";
import type { IncomingMessage } from "../../ingest/topic-source.port.ts";
import { parsePolicy } from "../../retry/parse-policy.ts";
import type { RetryPolicy } from "../../retry/policy.ts";
import type { Log } from "../../runtime/log.ts";
import type { ConsumerSyncReply, ConsumerSyncRequest } from "../../wire/consumer-sync.ts";
import type { ConsumerSettings, RetryingConsumerParts } from "../consumer-parts.ts";
import { RetryingConsumer } from "../retrying-consumer.ts";
import { MemoryBroker, MemoryIngest } from "./memory-broker.ts";

/** A consumer group with everything around it in memory: start as many processes of it as you like, and kill them. */
export class ConsumerStage {
  readonly time = new SimulatedTime();
  readonly broker = new MemoryBroker(this.time);
  readonly ingest = new MemoryIngest(this.broker);
  readonly logged: { level: string; fields: Record<string, unknown>; text: string }[] = [];
  readonly synced: ConsumerSyncRequest[] = [];
  /** The service's answer; undefined: it is away. */
  answer: ((request: ConsumerSyncRequest) => ConsumerSyncReply) | undefined = () => ({ dependencies: [] });
  readonly laneHeads = new LaneHeads({ documents: new MemoryDocumentStore(), clock: this.time });
  #seed = 1;

  start(options: StageOptions): RetryingConsumer<Buffer> {
    const { policy = fixedSecond, extra = {}, settings, bound = false, named, ...parts } = options;
    const death = new AbortController();
    const consumer = new RetryingConsumer<Buffer>({
      group: "g",
      retryTopic: "ESC_RETRY_g",
      sources: [
        { source: this.#mortal(this.broker.source("orders"), death.signal), ofRetryTopic: false, polls: 1 },
        { source: this.#mortal(this.broker.source("ESC_RETRY_g"), death.signal), ofRetryTopic: true, polls: 1 },
      ],
      handOff: this.#mortal(this.ingest, death.signal),
      service: {
        sync: async (request) => {
          this.synced.push(structuredClone(request));
          if (this.answer === undefined) throw new Error("nobody is there");
          const heads = await this.laneHeads.take(request.group, request.heads ?? []);
          return { heads, ...this.answer(request) };
        },
      },
      policy: bound
        ? { kind: "bound" }
        : named !== undefined
          ? { kind: "named", name: named }
          : { kind: "inline", policy: { ...parsePolicy(policy), ...extra }, name: "test" },
      settings: { concurrency: 4, invisibleMs: 30_000, handlerTimeoutMs: 900_000, stopGraceMs: 5_000, ...settings },
      worker: `w${this.#seed}`,
      clock: this.time,
      timers: this.time,
      random: { float: () => (this.#seed++ * 0.618) % 1, bytes: (target) => target },
      log: this.#log(),
      ...parts,
    });
    this.#kills.set(consumer, () => death.abort());
    void consumer.start();
    return consumer;
  }

  readonly #kills = new Map<RetryingConsumer<Buffer>, () => void>();

  /** From now on nothing it does has any effect, and nothing reaches it. */
  kill(consumer: RetryingConsumer<Buffer>): void {
    this.#kills.get(consumer)!();
  }

  warnings(): string[] {
    return this.logged.filter(({ level }) => level !== "info").map(({ text }) => text);
  }

  #log(): Log {
    const at = (level: string) => (fields: Record<string, unknown>, text: string) => {
      this.logged.push({ level, fields, text });
    };
    return {
      debug: () => {},
      info: at("info"),
      warn: at("warn"),
      error: at("error"),
      fatal: at("fatal"),
    } as unknown as Log;
  }

  /** Calls of a dead process do not arrive, those under way are never answered, its polls have ended. */
  #mortal<P extends object>(port: P, death: AbortSignal): P {
    return new Proxy(port, {
      get: (target, name) => {
        const value = Reflect.get(target, name);
        if (typeof value !== "function") return value;
        return async (...given: unknown[]) => {
          if (death.aborted) return new Promise(() => {});
          const signals = given.map((one) => (one instanceof AbortSignal ? AbortSignal.any([one, death]) : one));
          const result = await value.apply(target, signals);
          return death.aborted ? new Promise(() => {}) : result;
        };
      },
    });
  }
}

export type StageOptions = Partial<Omit<RetryingConsumerParts<Buffer>, "policy" | "settings">> &
  Pick<RetryingConsumerParts<Buffer>, "handler"> & {
    readonly policy?: object;
    /** Of the policy, what its JSON does not have. */
    readonly extra?: Partial<RetryPolicy>;
    readonly bound?: boolean;
    readonly named?: string;
    readonly settings?: Partial<ConsumerSettings>;
  };

export const fixedSecond = { backoff: { kind: "fixed", delay: "1s", jitter: "none" }, limits: { maxAttempts: 5 } };

export const grouped = (messageGroup: string): Partial<IncomingMessage> => ({ messageGroup });
