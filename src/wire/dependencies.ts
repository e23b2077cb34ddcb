import type { BreakerInput, DependencyState } from "./consumer-sync.ts";
import type { DurationInput } from "./http.ts";

/** What the service tells people of the dependencies that consumers call, and how an operator may hold them. */

/** Reply to `GET /v1/dependencies/{key}`. */
export type DependencyDetails = {
  key: string;
  /** What holds now, forced or not. */
  state: DependencyState;
  /** When that began; absent where it has been well for as long as anybody remembers. */
  since?: string;
  /** An operator holds it so. */
  forced?: { state: "open" | "closed"; since: string; until: string; reason: string };
  /** Consumer processes that report it. */
  workers: number;
  /** Measured over the last seconds, of all workers. */
  callsPerSec: number;
  failedPerSec: number;
  /** What all workers together may call now; absent: as much as they like. */
  allowedPerSec?: number;
  /** When the next probes go. */
  probesAt?: string;
  /** Messages that wait until it is well again. */
  parked: number;
  /** How it is judged; null: it has no breaker, no budget. */
  breaker: BreakerInput | null;
  budget: { percent: number; minPerSec: number } | null;
};

/** Reply to `GET /v1/dependencies`. */
export type DependencyPage = { items: DependencyDetails[]; cursor?: string };

/** Body of `POST /v1/dependencies/{key}/force`. */
export type ForceDependencyRequest = {
  state: "open" | "closed" | "auto";
  /** For how long, at most 7 days; needed for open and closed. */
  for?: DurationInput;
  /** Why, for those who look at it later; needed for open and closed. */
  reason?: string;
};
