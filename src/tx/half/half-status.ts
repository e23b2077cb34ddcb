import type { TxStatus } from "../status.ts";
import type { BarrierRow } from "./barrier.port.ts";

/**
 * What the barrier adds to a transaction's status. Its rows are written with the business rows, so a committed one is
 * proof of the commit; and "seen" was received from the topic, which is more than the broker's word. That one was rolled
 * back proves the same of all only where the half was sent right before the COMMIT, which is ours (`isOwned`): a joined
 * transaction may take a message back by a savepoint, and commit the rest. Pure.
 */
export const withHalves = (status: TxStatus, rows: readonly BarrierRow[], isOwned: boolean): TxStatus => {
  if (rows.length === 0) return status;
  const evidence = [
    ...status.evidence.filter(({ kind }) => kind !== "no-trace"),
    ...rows.map(({ id, state, seen, resends }) => ({ kind: "half" as const, id, state, seen, resends })),
  ];
  const committed = rows.filter(({ state }) => state === "committed");
  if (committed.length === 0) {
    return { state: status.state === "unknown" && isOwned ? "rolled-back" : status.state, evidence };
  }
  const isOutboxDone = status.state !== "committed-unsent";
  return { state: isOutboxDone && committed.every(({ seen }) => seen) ? "visible" : "committed-unsent", evidence };
};
