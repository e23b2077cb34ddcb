import type { RetryEnvelope } from "../../../src/retry/envelope.ts";
import type { Ledger } from "../ledger.ts";
import type { SimNode } from "../sim-node.ts";
import type { Script } from "./scripts.ts";

/**
 * What the checks of the consumers' world know, written by the world at the true instant of each effect: every message
 * with its script, every copy of it that lay in a topic of the group, every delivery, run and hand-over.
 */

/** One stored copy in a topic that the group receives. */
export type Entry = {
  readonly number: number;
  readonly name: string;
  readonly topic: string;
  readonly storedMs: number;
  /** What it brought along; undefined for the message as it was sent. */
  readonly envelope: RetryEnvelope | undefined;
  readonly deliveries: Delivery[];
  ackedMs: number | undefined;
  /** The broker forgot that it was acknowledged, and gave it out again. */
  duplicated: boolean;
};

export type Delivery = {
  readonly entry: Entry;
  /** From 1, as the broker counts. */
  readonly number: number;
  readonly node: SimNode;
  readonly atMs: number;
  /** Nobody heard of it. */
  readonly isLost: boolean;
  /** Its holder made it invisible for another time than before, and this took effect: when. */
  changedMs: number[];
  /** A call about it was lost, or nobody answered it. */
  hadTrouble: boolean;
};

export type RunEnd =
  | "ok"
  | "threw"
  | "retryAt"
  | "snooze"
  | "park"
  | "dead"
  /** Gave up because it was told that its time was over. */
  | "timed out"
  /** Gave up because its consumer stops. */
  | "stopped"
  /** Ended after everybody had stopped waiting for it. */
  | "late"
  | "crashed";

export type Run = {
  readonly message: Sent;
  readonly entry: Entry;
  readonly delivery: number;
  readonly node: SimNode;
  readonly startMs: number;
  /** As its handler was told. */
  readonly attempt: number;
  readonly key: string | undefined;
  endMs: number | undefined;
  end: RunEnd | undefined;
  /** What it threw or said. */
  code: string;
  /** When it was told that its time was over, and by whom. */
  aborted: { readonly atMs: number; readonly by: "timeout" | "stop" } | undefined;
  /** At which time it asked to come again. */
  wantedMs: number | undefined;
};

export type HandedOver = {
  readonly message: Sent;
  readonly from: Entry;
  readonly node: SimNode;
  readonly calledMs: number;
  readonly kind: "wait" | "park" | "dead";
  /** The code of the dead, the key of the parked. */
  readonly said: string;
  readonly dueMs: number;
  readonly envelope: RetryEnvelope;
  storedMs: number | undefined;
};

/** One message that was sent to the origin topic. */
export type Sent = {
  readonly name: string;
  readonly script: Script;
  readonly order: number;
  readonly messageGroup: string | undefined;
  readonly queueId: number;
  readonly entries: Entry[];
  readonly runs: Run[];
  readonly handedOver: HandedOver[];
};

/** A dependency was gone, or answered only so many. */
export type Outage = { readonly key: string; readonly fromMs: number; toMs: number };

export class Book {
  readonly sent = new Map<string, Sent>();
  readonly entries: Entry[] = [];
  readonly runs: Run[] = [];
  readonly outages: Outage[] = [];
  /** Processes that saw a hand-over fail. */
  readonly sawHandOverFail = new Set<SimNode>();
  /** Calls of a process to the broker that nobody answered; while it waits for one, it may be late with others. */
  readonly unanswered: { readonly node: SimNode; readonly atMs: number }[] = [];
  readonly seen: { readonly rule: string; readonly text: string; readonly ids: readonly string[] }[] = [];
  readonly #ledger: Ledger;

  constructor(ledger: Ledger) {
    this.#ledger = ledger;
  }

  violated(rule: string, text: string, ...names: string[]): void {
    this.seen.push({ rule, text, ids: names });
  }

  /** This process stood still, or could not reach the broker. */
  hadTrouble(node: SimNode, fromMs: number, toMs: number): boolean {
    return (
      this.#ledger.hadTrouble(node, fromMs, toMs, ["pause", "broker", "crash"]) ||
      this.unanswered.some((call) => call.node === node && call.atMs >= fromMs && call.atMs <= toMs)
    );
  }

  runsOf(entry: Entry, node: SimNode): Run[] {
    return this.sent.get(entry.name)!.runs.filter((run) => run.entry === entry && run.node === node);
  }

  acknowledged(entry: Entry, node: SimNode, nowMs: number): void {
    const sent = this.sent.get(entry.name)!;
    const hasSucceeded = sent.runs.some((run) => run.entry === entry && run.end === "ok" && run.endMs! <= nowMs);
    const isDurable = sent.handedOver.some(({ from, storedMs }) => from === entry && storedMs !== undefined);
    if (hasSucceeded || isDurable) return;
    this.violated(
      "C1 acknowledged only when done or durable elsewhere",
      `${node.name} acknowledges ${entry.name}, which neither succeeded nor was handed over`,
      entry.name,
    );
  }
}

/** The message is a failed attempt more for whoever had this run. */
export const countsAsAttempt = ({ end, endMs, aborted }: Run, nowMs: number): boolean => {
  if (end === "threw" || end === "retryAt" || end === "timed out") return true;
  // Left behind: its end, if it comes, is heard by nobody.
  const isOver = end === undefined || end === "late" || (endMs ?? 0) > nowMs;
  return isOver && aborted !== undefined && nowMs >= aborted.atMs + leftBehindMs - 1;
};

/** So long a handler has after its signal. */
export const leftBehindMs = 1_000;
