import { type DurationMs, durationMs } from "../../src/message/time.ts";
import { Prng } from "./prng.ts";

/**
 * What a seed means: how large the world is, how much is asked of it, and which troubles it has. Each trouble is there
 * in some seeds and absent in others, because a trouble that is always there hides what another one would show.
 */
export type SimOptions = {
  readonly seed: number;
  /** `calm`: nothing fails and nobody comes or goes. `rolling`: nothing fails, processes are stopped and started in order. */
  readonly mood: "calm" | "rolling" | "stormy";
  readonly machines: number;
  readonly shards: number;
  readonly leaseMs: DurationMs;
  readonly receivers: number;
  readonly callTimeoutMs: number;
  /** So few in some worlds that the near window has no room for all, and the sweep must find the rest. */
  readonly nearEntriesMax: number;
  /** How long clients ask and things go wrong. */
  readonly stormMs: number;
  readonly operations: number;
  readonly ingestMessages: number;
  /** Everybody uses few keys and groups, so that they meet. */
  readonly keys: number;
  readonly groups: number;
  /** Some messages are due in hours. */
  readonly far: boolean;
  readonly troubles: {
    readonly storeCalls: boolean;
    readonly storeStops: number;
    readonly storeStalls: number;
    readonly cutConnections: number;
    readonly sends: boolean;
    readonly brokerStops: number;
    readonly brokerStalls: number;
    readonly topicOutages: number;
    readonly crashes: number;
    /** A crash right after something that a node asked for was done, before it hears of it. */
    readonly crashesAfterEffect: number;
    readonly pauses: number;
    readonly pausesAfterEffect: number;
    readonly stops: number;
    readonly machineClocks: number;
    readonly storeClock: number;
    readonly slow: boolean;
    readonly lostAnswers: boolean;
    readonly poison: boolean;
  };
};

export const optionsOf = (seed: number): SimOptions => {
  const random = new Prng(seed).fork("options");
  const mood = random.pick(["calm", "rolling", "stormy", "stormy", "stormy", "stormy", "stormy", "stormy"] as const);
  const storm = mood === "stormy";
  const some = (most: number): number => (storm && random.chance(0.35) ? random.whole(1, most) : 0);
  const maybe = (): boolean => storm && random.chance(0.35);
  return {
    seed,
    mood,
    machines: random.whole(1, 3),
    shards: random.pick([1, 2, 4]),
    leaseMs: durationMs(random.pick([1_000, 1_000, 1_500, 2_000, 5_000])),
    receivers: random.chance(0.4) ? random.whole(1, 2) : 0,
    callTimeoutMs: random.pick([300, 1_000, 2_500]),
    nearEntriesMax: storm && random.chance(0.25) ? 10 : 100,
    stormMs: random.whole(1_500, 7_000),
    operations: random.whole(8, 60),
    ingestMessages: random.chance(0.4) ? random.whole(1, 10) : 0,
    keys: random.whole(1, 8),
    groups: random.whole(1, 3),
    far: random.chance(0.15),
    troubles: {
      storeCalls: maybe(),
      storeStops: some(3),
      storeStalls: some(3),
      cutConnections: some(4),
      sends: maybe(),
      brokerStops: some(2),
      brokerStalls: some(2),
      topicOutages: some(2),
      crashes: some(3),
      crashesAfterEffect: some(2),
      pauses: some(3),
      pausesAfterEffect: some(3),
      stops: mood === "rolling" ? random.whole(1, 6) : some(6),
      machineClocks: some(3),
      storeClock: storm && random.chance(0.12) ? random.whole(1, 2) : 0,
      slow: maybe(),
      lostAnswers: maybe(),
      poison: maybe(),
    },
  };
};
