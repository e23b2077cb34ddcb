import type { HealthReply, StatsReply } from "../wire/http.ts";

/** What the admin API shows of the running process. */
export interface Overview {
  stats(): Promise<StatsReply>;
  /** Synchronous: health is kept up to date by the rooms, a probe must not wait for a store that hangs. */
  health(): HealthReply;
  /** Prometheus text. */
  metrics(): Promise<{ contentType: string; text: string }>;
}
