import type { SimNode } from "./sim-node.ts";

/**
 * What the checks know: every intent of a client and every effect in the store and at the broker, by message. It is
 * written by the simulated world itself, at the true instant of each effect, so a check never asks the service.
 */

/** A content is what one accepted intent wanted to be sent: the text of the body names it. */
export type Content = {
  readonly atMs: number;
  readonly content: string;
  readonly deliverAtMs: number;
  readonly expireAtMs: number | undefined;
  readonly how: "scheduled" | "replaced" | "rescheduled";
};

export type Claim = {
  readonly atMs: number;
  readonly node: SimNode;
  readonly epoch: number;
  readonly attempt: number;
  readonly content: string;
  /** Handed out again, because the answer of the first claim was lost. */
  readonly again: boolean;
};

export type Settled = {
  readonly atMs: number;
  readonly node: SimNode;
  readonly epoch: number;
  readonly kind: "delivered" | "retry" | "give_back" | "bury";
  readonly dueMs?: number;
};

export type Send = {
  readonly startedMs: number;
  readonly node: SimNode;
  /** Under which the node was given the message; undefined when it never was. */
  readonly epoch: number | undefined;
  readonly attempt: number;
  readonly content: string;
  readonly deliverAtMs: number;
  readonly expireAtMs: number | undefined;
  readonly maxAttempts: number;
  readonly minBackoffMs: number;
  /** The epoch of its shard in the store when the send began. */
  readonly storeEpoch: number;
  /** What the checked clock may have shown at most when the send began, by the referee. */
  readonly refereeMs: number;
  /** When the broker stored its copies. One send stores one; more would be a bug of the simulation. */
  readonly storedMs: number[];
  resultMs: number | undefined;
  result: "ok" | "transient" | "throttled" | "permanent" | "unknown" | undefined;
};

export class MessageRecord {
  readonly id: string;
  readonly shard: number;
  topic = "";
  group: string | undefined;
  readonly contents: Content[] = [];
  readonly claims: Claim[] = [];
  readonly settled: Settled[] = [];
  readonly sends: Send[] = [];
  readonly canceledMs: number[] = [];
  readonly expiredMs: number[] = [];
  readonly recovered: { readonly atMs: number; readonly epoch: number }[] = [];
  readonly buriedMs: number[] = [];
  /** Of an ingest message that could not be admitted. */
  buriedText: string | undefined;
  /** As the store has it, by the effects seen. */
  state: "scheduled" | "claimed" | "delivered" | "dead" | "canceled" | "expired" = "scheduled";
  claimedIn: { readonly node: SimNode; readonly epoch: number } | undefined;

  constructor(id: string, shard: number) {
    this.id = id;
    this.shard = shard;
  }

  get content(): Content {
    return this.contents.at(-1)!;
  }
}

/** One wish of a client, with what it was told. */
export type Operation = {
  readonly number: number;
  readonly kind: "schedule" | "cancel" | "reschedule";
  readonly node: SimNode;
  readonly startedMs: number;
  /** What a copy of it would carry; for a reschedule undefined when it keeps the body. */
  readonly content: string | undefined;
  readonly key: string | undefined;
  readonly group: string | undefined;
  readonly onConflict: "keep" | "replace" | undefined;
  readonly delayMs: number | undefined;
  /** The first try of this one, when the answer of an earlier try was not heard. */
  readonly retryOf: Operation | undefined;
  id: string | undefined;
  answeredMs: number | undefined;
  /** `done`, or the code of the refusal; undefined while, and if, nothing was heard. */
  answer: string | undefined;
  deliverAtMs: number | undefined;
  deduplicated: boolean;
};

export type Acquired = {
  readonly atMs: number;
  readonly shard: number;
  readonly epoch: number;
  readonly node: SimNode;
  readonly before: SimNode | undefined;
  /** How the shard had become free. */
  readonly freed: "never owned" | "released" | "ran out";
  /** Until when the former owner's lease lasted, on the store's clock of that time. */
  readonly formerUntilMs: number;
  /** Messages that were claimed under an earlier epoch at this moment. */
  readonly out: readonly string[];
};

export type Released = {
  readonly atMs: number;
  readonly shard: number;
  readonly epoch: number;
  readonly node: SimNode;
  readonly calledMs: number;
  /** Until when the node could be sure of its lease when it called, by the answers it had heard. */
  readonly validUntilMs: number;
  /** Claimed under this epoch and not settled. */
  readonly out: readonly string[];
};

/** A time in which something was wrong, with what it was wrong for. */
export type Trouble = {
  readonly kind: "pause" | "store" | "connection" | "store clock" | "node clock" | "broker" | "topic" | "crash";
  readonly fromMs: number;
  toMs: number;
  /** A node's or machine's name; undefined: everybody's trouble. */
  readonly whose: string | undefined;
};

export class Ledger {
  readonly messages = new Map<string, MessageRecord>();
  readonly operations: Operation[] = [];
  /** Names of the messages sent to the ingest topic. */
  readonly produced: { readonly name: string; readonly hasKey: boolean }[] = [];
  readonly acquired: Acquired[] = [];
  readonly released: Released[] = [];
  readonly troubles: Trouble[] = [];
  /** Deaths that were undone: which, and by which redrive. */
  readonly revivals: {
    readonly id: string;
    readonly diedAtMs: number;
    readonly atMs: number;
    readonly job: string;
  }[] = [];
  /** Things that are wrong in themselves and were seen on the way. */
  readonly seen: { readonly rule: string; readonly text: string; readonly ids: readonly string[] }[] = [];

  record(id: string, shard: number): MessageRecord {
    let record = this.messages.get(id);
    if (record === undefined) {
      record = new MessageRecord(id, shard);
      this.messages.set(id, record);
    }
    return record;
  }

  /** Was there such trouble for `node` at any time in the span? */
  hadTrouble(node: SimNode, fromMs: number, toMs: number, kinds?: readonly Trouble["kind"][]): boolean {
    return this.troubles.some(
      (trouble) =>
        trouble.fromMs <= toMs &&
        trouble.toMs >= fromMs &&
        (trouble.whose === undefined || trouble.whose === node.name || trouble.whose === node.machineName) &&
        (kinds === undefined || kinds.includes(trouble.kind)),
    );
  }
}
