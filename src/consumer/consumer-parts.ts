import type { RetryEnvelope } from "../retry/envelope.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Log } from "../runtime/log.ts";
import type { Random } from "../runtime/random.ts";
import type { Timers } from "../runtime/timers.ts";
import type { Handler, Verifier } from "./attempt.ts";
import type { DeliverySource } from "./delivery-source.port.ts";
import type { HandOff } from "./hand-off.port.ts";
import type { ConsumedMessage } from "./handler-context.ts";
import type { Held } from "./held.ts";
import type { GivenPolicy } from "./known-policies.ts";
import type { Order } from "./order.ts";
import type { RetryService } from "./retry-service.port.ts";

/** What a retrying consumer is made of. */
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

/** A message in hand, with what is known of it. */
export type Work<T> = Held & {
  envelope: RetryEnvelope;
  value: ConsumedMessage<T> | undefined;
  readonly released: boolean;
  /** One more process that ends with it in hand, and it is taken for the cause. */
  readonly lastChance: boolean;
  mustBeHandedOver: boolean;
  /** It stays with the broker, and was given out before for a reason that this process does not know. */
  isDoubted: boolean;
};
