import type { FailureClass } from "./sink.port.ts";

/** What the dispatcher counts; `runtime/metrics.ts` turns it into Prometheus and the stats reply. */
export interface DispatchMetrics {
  /** A message goes to the wire `latenessMs` after its deliverAt. */
  sending(latenessMs: number, attempt: number): void;
  ended(state: "delivered" | "dead" | "expired", count: number): void;
  failed(failureClass: FailureClass, code: string): void;
}
