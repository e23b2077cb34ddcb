import { type MessageId, timeOfId } from "../message/id.ts";
import { epochMs, formatInstant } from "../message/time.ts";
import type { Outbox, TxTrace } from "./outbox.port.ts";
import { fenceableMs, leavesMark } from "./outcomes.ts";

/**
 * What became of a transaction, with what says so. A row is removed only when the broker has acknowledged the message
 * (or a cancel took it back), so a commit mark without rows means sent; and in the outbox's way of sending, a message
 * that the broker has acknowledged can be received.
 *
 * No trace is no proof: the transaction may be about to write its first row. `fence` makes it one, by writing "rolled
 * back" where the commit would have to write its mark; where that mark would be there, if there had been a commit.
 */
export type TxStatus = {
  /** `visible`: all half messages of the transaction have been received from their topics. */
  readonly state: "committed-unsent" | "sent" | "visible" | "rolled-back" | "unknown";
  readonly evidence: readonly TxEvidence[];
};

export type TxEvidence =
  | { readonly kind: "commit-mark"; readonly at: string }
  | { readonly kind: "fence"; readonly at: string }
  | { readonly kind: "waiting"; readonly id: string; readonly attempts: number; readonly lastError?: string }
  | { readonly kind: "dead"; readonly id: string; readonly reason: string }
  | {
      readonly kind: "half";
      readonly id: string;
      readonly state: "committed" | "rolled-back";
      readonly seen: boolean;
      readonly resends: number;
    }
  | { readonly kind: "rollback-seen" }
  /** DDL, or a COMMIT or ROLLBACK inside the callback, ended the transaction: a part of it is committed, or none. */
  | { readonly kind: "ended-inside"; readonly at: string }
  | { readonly kind: "open"; readonly detail: string }
  | { readonly kind: "no-trace"; readonly detail: string };

/** The last transactions that this process saw rolled back. */
export class RolledBack {
  readonly #ids = new Set<MessageId>();

  add(txId: MessageId): void {
    this.#ids.add(txId);
    if (this.#ids.size > rememberedMax) for (const oldest of this.#ids) return void this.#ids.delete(oldest);
  }

  has(txId: MessageId): boolean {
    return this.#ids.has(txId);
  }
}

const rememberedMax = 10_000;

export const statusOf = async (asked: {
  readonly txId: MessageId;
  readonly fence: boolean;
  readonly outbox: Outbox;
  readonly rolledBack: RolledBack;
}): Promise<TxStatus> => {
  const { txId, outbox, rolledBack } = asked;
  if (rolledBack.has(txId)) return { state: "rolled-back", evidence: [{ kind: "rollback-seen" }] };
  let trace = await outbox.outcome(txId);
  let fence: keyof typeof noTrace = "not-asked";
  // What has left a trace needs none; and rows that DDL has committed without a mark must get none that denies them.
  if (asked.fence && isWithoutTrace(trace)) {
    const fenced = leavesMark(txId)
      ? await outbox.fence(txId, { atMs: timeOfId(txId), withinMs: fenceableMs })
      : "no-marks";
    if (fenced === "open") {
      return { state: "unknown", evidence: [{ kind: "open", detail: "it is committing at this moment; ask again" }] };
    }
    fence = fenced;
    trace = await outbox.outcome(txId);
  }
  const { mark, waiting, dead } = trace;
  const evidence: TxEvidence[] = [];
  if (mark !== undefined) {
    evidence.push({
      kind: evidenceOf[mark.outcome],
      at: formatInstant(epochMs(mark.atMs)),
    });
  }
  for (const one of waiting) evidence.push({ kind: "waiting", ...one });
  for (const one of dead) evidence.push({ kind: "dead", ...one });
  // Rows are seen only when they are committed, mark or not.
  if (waiting.length > 0 || dead.length > 0) return { state: "committed-unsent", evidence };
  if (mark?.outcome === "committed") return { state: "sent", evidence };
  if (mark?.outcome === "fenced") return { state: "rolled-back", evidence };
  if (mark?.outcome === "ended-inside") return { state: "unknown", evidence };
  return { state: "unknown", evidence: [{ kind: "no-trace", detail: noTrace[fence] }] };
};

const isWithoutTrace = ({ mark, waiting, dead }: TxTrace): boolean =>
  mark === undefined && waiting.length === 0 && dead.length === 0;

const evidenceOf = { committed: "commit-mark", fenced: "fence", "ended-inside": "ended-inside" } as const;

const withoutTrace = "rolled back, or joined without messages, or not written yet, or older than outcomes are kept";
const noTrace = {
  "not-asked": withoutTrace,
  settled: withoutTrace,
  "no-marks":
    "not fenced: this id is not of a transaction that leaves a mark (keepOutcomesMs: 0), so it may have been committed",
  "too-old":
    "not fenced: it began more than 14 minutes ago, so it may have been committed and its mark have been removed",
} as const;
