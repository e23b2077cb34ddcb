import type { Flush } from "../../src/broker/storage/segmented-log.ts";
import { Prng } from "../sim/prng.ts";

/** What a seed means. Each trouble is there in some seeds and absent in others, so that none hides what another shows. */
export type StorageSimOptions = {
  readonly seed: number;
  readonly flush: Flush;
  readonly segmentBytes: number;
  readonly entriesPerFile: number;
  readonly topics: number;
  readonly queues: number;
  readonly steps: number;
  readonly bodyBytesMax: number;
  /** The longest pause between two steps; long ones let checkpoints happen. */
  readonly pauseMsMax: number;
  readonly troubles: {
    readonly powerCuts: boolean;
    readonly kills: boolean;
    readonly flips: boolean;
    readonly full: boolean;
    readonly failingSyncs: boolean;
    readonly slowSyncs: boolean;
    readonly lostFiles: boolean;
    readonly deletions: boolean;
    readonly retention: boolean;
    readonly clockSteps: boolean;
  };
};

export const optionsOf = (seed: number): StorageSimOptions => {
  const random = new Prng(seed).fork("storage options");
  const flush = random.pick(["sync", "sync", "sync", "async"] as const);
  const maybe = (): boolean => random.chance(0.35);
  const powerCuts = random.chance(0.6);
  return {
    seed,
    flush,
    segmentBytes: random.pick([1_300, 2_500, 6_000]),
    entriesPerFile: random.pick([3, 16, 50]),
    topics: random.whole(1, 3),
    queues: random.whole(1, 3),
    steps: random.whole(10, 60),
    bodyBytesMax: random.pick([1, 40, 300]),
    pauseMsMax: random.pick([1, 10, 2_000]),
    troubles: {
      powerCuts,
      kills: maybe(),
      flips: maybe(),
      full: maybe(),
      failingSyncs: maybe(),
      // What `async` may lose is a matter of time, and checked as such.
      slowSyncs: flush === "sync" && maybe(),
      lostFiles: maybe(),
      // In `async` the power may take the news of a deletion and leave what was sent after it.
      deletions: (flush === "sync" || !powerCuts) && maybe(),
      retention: maybe(),
      clockSteps: maybe(),
    },
  };
};
