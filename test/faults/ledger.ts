import { closeSync, fdatasyncSync, openSync, writeSync } from "node:fs";

/**
 * What the lab wants, what it was answered and what it saw, kept outside the system under test: one line per event in
 * an append-only file. An intent is on disk before its request leaves, so a run that dies can still be judged. The
 * judges (verdict.ts) read nothing else.
 *
 * A message is known by its `serial`, which the lab gives it and which travels as a property: an id is only known once
 * a reply came, and a fault may well swallow the reply.
 */
export type Door = "http" | "batch" | "topic";

export type Entry =
  | Intent
  /** The answer to one try. A keyed message may be tried again after `unknown`; any message after `refused`. */
  | Reply
  /** A message is changed at most once. */
  | ChangeIntent
  | ChangeReply
  | Copy
  | FaultMark;

export type Intent = {
  readonly kind: "intent";
  readonly serial: number;
  readonly atMs: number;
  readonly door: Door;
  readonly topic: string;
  readonly key?: string;
  readonly group?: string;
  readonly dueMs: number;
  /** Of body and properties together. */
  readonly crc: number;
  /** Sent although it must be refused. */
  readonly hopeless?: boolean;
};

export type Reply = {
  readonly kind: "reply";
  readonly serial: number;
  readonly atMs: number;
  readonly outcome: "accepted" | "refused" | "unknown";
  readonly id?: string;
  readonly code?: string;
  readonly deduplicated?: boolean;
};

export type ChangeIntent = {
  readonly kind: "change";
  readonly serial: number;
  readonly atMs: number;
  readonly verb: "cancel" | "reschedule";
  readonly dueMs?: number;
};

export type ChangeReply = {
  readonly kind: "changed";
  readonly serial: number;
  readonly atMs: number;
  readonly verb: "cancel" | "reschedule";
  readonly outcome: "done" | "too_late" | "not_found" | "refused" | "unknown";
  readonly code?: string;
};

/** One stored message of RocketMQ, as its consumer saw it. */
export type Copy = {
  readonly kind: "copy";
  readonly serial: number;
  readonly receivedMs: number;
  /** The sender's clock at the moment of sending. */
  readonly bornMs: number;
  readonly id: string;
  readonly attempt: number;
  readonly deliverAtMs: number;
  readonly brokerMessageId: string;
  readonly offset: number;
  readonly crc: number;
  readonly topic: string;
};

export type FaultMark = {
  readonly kind: "fault";
  readonly atMs: number;
  readonly what: string;
};

export class Ledger {
  readonly file: string;
  readonly entries: Entry[] = [];
  readonly #descriptor: number;

  constructor(file: string) {
    this.file = file;
    this.#descriptor = openSync(file, "a");
  }

  /** On disk when it returns. */
  write(entries: readonly Entry[]): void {
    if (entries.length === 0) return;
    writeSync(this.#descriptor, entries.map((entry) => `${JSON.stringify(entry)}\n`).join(""));
    fdatasyncSync(this.#descriptor);
    for (const entry of entries) this.entries.push(entry);
  }

  close(): void {
    closeSync(this.#descriptor);
  }
}

/** Collects what may wait a moment, so that a thousand replies a second cost twenty syncs and not a thousand. */
export class LedgerQueue {
  readonly #ledger: Ledger;
  readonly #timer: NodeJS.Timeout;
  #waiting: Entry[] = [];

  constructor(ledger: Ledger, everyMs = 50) {
    this.#ledger = ledger;
    this.#timer = setInterval(() => this.flush(), everyMs);
  }

  push(entry: Entry): void {
    this.#waiting.push(entry);
  }

  flush(): void {
    const entries = this.#waiting;
    this.#waiting = [];
    this.#ledger.write(entries);
  }

  close(): void {
    clearInterval(this.#timer);
    this.flush();
  }
}
