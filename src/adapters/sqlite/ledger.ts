import type { DatabaseSync } from "node:sqlite";
import type { DeadReason, Released, StoredMessage } from "../../delay/delay-store.port.ts";
import { idFromBytes } from "../../message/id.ts";
import { isEnded, type MessageEvent } from "../../message/state.ts";
import type { DurationMs, EpochMs } from "../../message/time.ts";
import { DeadTable } from "./dead-table.ts";
import { type Entry, EntryTable, move } from "./entry-table.ts";
import { LeaseTable } from "./lease-table.ts";
import { asBuffer, RecordTable } from "./record-table.ts";
import { WaitingCount } from "./waiting-count.ts";
import { WaitingRoom } from "./waiting-room.ts";

/**
 * All tables that a message passes through, and the two things that touch nearly all of them: how a message ends, and
 * what is said of one. The verbs are in accepting.ts, owning.ts and reading.ts.
 */
export class Ledger {
  readonly entries: EntryTable;
  readonly records: RecordTable;
  readonly room: WaitingRoom;
  readonly dead: DeadTable;
  readonly leases: LeaseTable;
  readonly counts: WaitingCount;
  readonly #clockMs: () => number;
  readonly #dedupeWindowMs: DurationMs;

  constructor(db: DatabaseSync, clockMs: () => number, dedupeWindowMs: DurationMs) {
    this.#clockMs = clockMs;
    this.#dedupeWindowMs = dedupeWindowMs;
    this.entries = new EntryTable(db, clockMs);
    this.records = new RecordTable(db);
    this.room = new WaitingRoom(db, this.entries);
    this.dead = new DeadTable(db);
    this.leases = new LeaseTable(db, clockMs);
    this.counts = new WaitingCount(db);
  }

  /** Ends a message and answers the next of its group. The dead stay whole; the others become tombstones for a while. */
  end(call: Call, entry: Entry, event: MessageEvent, nowMs: EpochMs, reason?: DeadReason): Entry | undefined {
    const next = this.room.leave(entry);
    if (entry.state === "scheduled") call.count(entry.lane, -1);
    move(entry, event);
    entry.endedAtMs = nowMs;
    entry.group = undefined;
    if (entry.state === "dead") this.dead.add(entry, reason!);
    else {
      this.records.remove(entry.seq);
      entry.forgetAtMs = this.#clockMs() + this.#dedupeWindowMs;
    }
    this.entries.save(entry);
    return next;
  }

  /**
   * Puts a message whose record is damaged among the dead: it cannot be sent, and asking for it again would hold up
   * its shard. What is left of the record stays in the file. Answers the next of its group.
   */
  setAside(call: Call, entry: Entry, nowMs: EpochMs): Entry | undefined {
    if (entry.state === "scheduled") {
      this.room.takeOut(entry);
      move(entry, "claim");
      call.count(entry.lane, -1);
    }
    return this.end(call, entry, "bury", nowMs, damagedReason);
  }

  /** What is known of a message. Without its contents when they are damaged; `reason` says so. */
  stored(entry: Entry): StoredMessage {
    const facts = { id: idFromBytes(asBuffer(entry.id)), ...factsOf(entry) };
    const ended = entry.endedAtMs === undefined ? {} : { endedAtMs: entry.endedAtMs };
    if (isEnded(entry.state) && entry.state !== "dead") return { ...facts, ...ended };
    const contents = this.records.read(entry.seq, entry.id);
    const reason = entry.state === "dead" ? this.dead.reasonOf(entry) : undefined;
    if (contents === undefined) return { ...facts, ...ended, reason: reason ?? damagedReason };
    return {
      ...facts,
      ...ended,
      ...(reason === undefined ? {} : { reason }),
      message: { ...contents.message, attempt: entry.attempt },
    };
  }
}

/** What a call on one shard leaves to be done at its end: counts to write, and wakes to send when it is on disk. */
export class Call {
  readonly shard: number;
  readonly wakes: Wake[] = [];
  readonly counted = new Map<number, number>();

  constructor(shard: number) {
    this.shard = shard;
  }

  count(lane: number, by: number): void {
    this.counted.set(lane, (this.counted.get(lane) ?? 0) + by);
  }

  wake({ id, lane, dueMs }: Entry): void {
    this.wakes.push({ id: asBuffer(id), lane, dueMs });
  }
}

export type Wake = { readonly id: Buffer; readonly lane: number; readonly dueMs: EpochMs };

export const damagedReason: DeadReason = {
  code: "record_damaged",
  detail: "What is in the store's file is not what was written; the message cannot be sent. Look at the disk.",
};

export const factsOf = ({ state, dueMs, attempt }: Entry) => ({ state, deliverAtMs: dueMs, attempt });

export const asReleased = ({ id, lane, dueMs }: Entry): Released => ({ id: idFromBytes(asBuffer(id)), lane, dueMs });
