import type { EpochMs } from "../message/time.ts";

/** Gives parked messages their place. */
export interface Parking {
  /** When a message is due that is parked now for this key. Durable when it resolves: the place belongs to the key. */
  placeFor(key: string, nowMs: EpochMs): Promise<EpochMs>;
}

/** What a key of a dependency may be: whatever a policy may name. */
export const dependencyKeyLengthMax = 128;

export const isDependencyKey = (key: string): boolean =>
  key.length > 0 &&
  key.length <= dependencyKeyLengthMax &&
  !/[\u0000-\u001f\u007f-\u009f]/.test(key) &&
  key.isWellFormed();
