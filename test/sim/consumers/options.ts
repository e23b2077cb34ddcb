import type { Order } from "../../../src/consumer/order.ts";
import { durationMs } from "../../../src/message/time.ts";
import { parsePolicy } from "../../../src/retry/parse-policy.ts";
import type { RetryPolicy } from "../../../src/retry/policy.ts";
import type { SimOptions } from "../options.ts";
import { Prng } from "../prng.ts";

/**
 * What a seed means in the world with consumers: how many processes, which policy, what their handlers do, and which
 * troubles there are. The service's own troubles are those of the world without consumers, fewer of them, because here
 * they are the weather and not the subject.
 */
export type ConsumerOptions = {
  readonly seed: number;
  /** `calm`: nobody fails that is not told to by the handlers; every promise is then exact. */
  readonly mood: "calm" | "stormy";
  readonly workers: number;
  readonly concurrency: number;
  readonly invisibleMs: number;
  readonly handlerTimeoutMs: number;
  readonly order: Order | undefined;
  readonly messages: number;
  readonly messageGroups: number;
  readonly dependencies: number;
  readonly stormMs: number;
  readonly policyInput: object;
  readonly policy: RetryPolicy;
  /** What an operator replaces it by. */
  readonly nextPolicyInput: object;
  /** Bound at the service, and there replaced by another while messages are in flight. */
  readonly bound: boolean;
  /** Handlers of all kinds, or only those that call dependencies. */
  readonly odd: boolean;
  readonly troubles: {
    readonly outages: number;
    /** Calls that a dependency answers each second after it came back; 0: as many as come. */
    readonly capacityPerSec: number;
    readonly crashes: number;
    readonly pauses: number;
    readonly stops: number;
    readonly ingestOutages: number;
    readonly lostReplies: boolean;
    readonly duplicates: boolean;
    readonly syncLost: boolean;
    readonly redrives: number;
  };
  /** The world of the service. */
  readonly service: SimOptions;
};

export const consumerOptionsOf = (seed: number): ConsumerOptions => {
  const random = new Prng(seed).fork("consumer options");
  const mood = random.pick(["calm", "stormy", "stormy", "stormy"] as const);
  const storm = mood === "stormy";
  const some = (most: number): number => (storm && random.chance(0.4) ? random.whole(1, most) : 0);
  const maybe = (): boolean => storm && random.chance(0.3);
  const stormMs = random.whole(5_000, 18_000);
  const policyInput = policyInputOf(random);
  const order = random.pick([undefined, undefined, "skip-key", "block-key", "block-queue"] as const);
  return {
    seed,
    mood,
    workers: random.whole(1, 3),
    concurrency: random.whole(1, 6),
    invisibleMs: random.pick([3_100, 5_300, 9_700]),
    handlerTimeoutMs: random.pick([1_500, 4_000, 8_000]),
    order,
    messages: random.whole(8, order?.startsWith("block") === true ? 20 : 50),
    messageGroups: random.whole(1, 4),
    dependencies: random.whole(1, 2),
    stormMs,
    policyInput,
    policy: parsePolicy(policyInput),
    nextPolicyInput: policyInputOf(random),
    bound: random.chance(0.4),
    odd: random.chance(0.7),
    troubles: {
      outages: random.chance(0.6) ? random.whole(1, 3) : 0,
      capacityPerSec: random.chance(0.5) ? random.whole(4, 20) : 0,
      crashes: some(3),
      pauses: some(2),
      stops: some(3),
      ingestOutages: some(2),
      lostReplies: maybe(),
      duplicates: maybe(),
      syncLost: maybe(),
      redrives: random.chance(0.5) ? random.whole(1, 2) : 0,
    },
    service: {
      seed,
      mood: "stormy",
      machines: random.whole(1, 2),
      shards: random.pick([1, 2, 4]),
      leaseMs: durationMs(random.pick([1_000, 2_000])),
      receivers: 1,
      callTimeoutMs: random.pick([300, 1_000]),
      nearEntriesMax: 100,
      stormMs,
      operations: 0,
      ingestMessages: 0,
      keys: 1,
      groups: 1,
      far: false,
      troubles: {
        storeCalls: maybe(),
        storeStops: some(2),
        storeStalls: 0,
        cutConnections: some(1),
        sends: maybe(),
        brokerStops: some(1),
        brokerStalls: 0,
        topicOutages: 0,
        crashes: some(2),
        crashesAfterEffect: some(2),
        pauses: some(1),
        pausesAfterEffect: 0,
        stops: some(2),
        machineClocks: 0,
        storeClock: 0,
        slow: maybe(),
        lostAnswers: false,
        poison: false,
      },
    },
  };
};

/** Short waits, so that much happens within a few simulated seconds. Attempts never run out for what may succeed. */
export const policyInputOf = (random: Prng): object => ({
  backoff: random.pick([
    { kind: "exponential", base: "200ms", factor: 2, cap: "2s", jitter: "equal" },
    { kind: "exponential", base: "300ms", factor: 1.5, cap: "3s", jitter: "full" },
    { kind: "fixed", delay: "500ms", jitter: "none" },
    { kind: "linear", base: "200ms", increment: "300ms", cap: "2s", jitter: "equal" },
  ]),
  limits: { maxAttempts: attemptsMax, maxAge: "24h", maxCrashes: 3 },
  rules: [
    { when: { code: "rule_dead" }, action: "dead" },
    { when: { code: "rule_park" }, action: "park", key: "vault" },
    { when: { code: "rule_fast" }, action: "retry", backoff: { kind: "fixed", delay: "100ms", jitter: "none" } },
    { when: { code: "rule_slow" }, action: "retry", backoff: { kind: "fixed", delay: "1500ms", jitter: "none" } },
  ],
  breaker: random.chance(0.85)
    ? {
        failureRate: 0.5,
        minCalls: random.whole(3, 6),
        window: random.pick(["1s", "2s"]),
        probeEvery: random.pick(["1s", "2s"]),
        probes: random.whole(1, 3),
        rampStartPerSec: random.whole(2, 10),
        rampAddPerSec: random.whole(2, 10),
      }
    : null,
  budget: random.chance(0.8) ? { percent: random.pick([10, 20, 50]), minPerSec: random.whole(2, 8) } : null,
});

/** For what never works; the others need about a third of it in the worst worlds. */
export const attemptsMax = 40;
