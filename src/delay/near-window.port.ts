import type { DurationMs } from "../message/time.ts";

/**
 * The near window as its users see it: ids of waiting messages that are due within seconds, in memory, with the lane
 * and shard each belongs to. It is a cache of the store: what is dropped here is found again by the loader's sweep.
 *
 * A handle is a small number that stands for one entry from `takeDue` until `drop` or `requeue`. An entry that was
 * taken stays known, so that a second reading of the store or a late wake cannot bring the same message in twice
 * while it is being sent.
 */
export interface NearWindow {
  /** Entries known, waiting and taken. */
  readonly size: number;
  /** Entries waiting in the wheel. */
  readonly waiting: number;
  /**
   * Adds an id (16 raw bytes at `offset`). Known and waiting with another due: it moves. `taken`: it is out for
   * sending and nothing changes. `full`: not added.
   */
  put(
    id: Buffer,
    offset: number,
    lane: number,
    shard: number,
    dueMs: number,
  ): "added" | "moved" | "same" | "taken" | "full";
  /** Takes the earliest entry with due <= nowMs out of the wheel; -1 when there is none. */
  takeDue(nowMs: number): number;
  /** A lower bound of the earliest due; Infinity when nothing waits. */
  nextDueMs(): number;
  /** Forgets a taken entry. */
  drop(handle: number): void;
  /** Puts a taken entry back into the wheel. */
  requeue(handle: number, dueMs: number): void;
  /** Forgets an id that waits; false when it is unknown or taken. */
  remove(id: Buffer, offset: number): boolean;
  /** Forgets all waiting entries of a shard; taken ones belong to whoever took them. */
  removeShard(shard: number): number;
  idInto(handle: number, target: Buffer, offset: number): void;
  laneOf(handle: number): number;
  shardOf(handle: number): number;
  dueOf(handle: number): number;
}

/** How far ahead the window looks: long enough that a slow store call is not noticed, short enough to keep memory small. */
export const nearWindowMs = 3_000 as DurationMs;
/** Wakes are sent for anything due within the window plus this: covers clock differences and messages under way. */
export const wakeMarginMs = 1_000;
