import type { DatabaseSync } from "node:sqlite";
import type { DeadReason, Released } from "../../delay/delay-store.port.ts";
import { idFromBytes } from "../../message/id.ts";
import { isEnded, type MessageEvent } from "../../message/state.ts";
import type { EpochMs } from "../../message/time.ts";
import { DeadTable } from "./dead-table.ts";
import { EndedTable } from "./ended-table.ts";
import { type Entry, EntryTable, move } from "./entry-table.ts";
import { LeaseTable } from "./lease-table.ts";
import { OutTable } from "./out-table.ts";
import { asBuffer, RecordTable } from "./record-table.ts";
import type { PlainStored } from "./requests.ts";
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
  readonly outs: OutTable;
  readonly dead: DeadTable;
  readonly leases: LeaseTable;
  readonly counts: WaitingCount;
  readonly #ended: EndedTable;
  readonly #clockMs: () => number;
  readonly #dedupeWindowMs: number;

  constructor(db: DatabaseSync, clockMs: () => number, dedupeWindowMs: number) {
    this.#clockMs = clockMs;
    this.#dedupeWindowMs = dedupeWindowMs;
    this.outs = new OutTable(db);
    this.entries = new EntryTable(db, this.outs, clockMs);
    this.records = new RecordTable(db);
    this.room = new WaitingRoom(db, this.entries, this.outs);
    this.dead = new DeadTable(db);
    this.leases = new LeaseTable(db, clockMs);
    this.counts = new WaitingCount(db);
    this.#ended = new EndedTable(db);
    this.#loadOuts();
  }

  /** What the transaction has gathered goes into the file with it. */
  write(): void {
    this.outs.write();
    this.counts.write();
    this.#ended.write(this.#clockMs() + this.#dedupeWindowMs);
  }

  /** The transaction was taken back: what is in memory is again what is in the file. */
  drop(): void {
    this.counts.drop();
    this.#ended.drop();
    this.#loadOuts();
  }

  /** Forgets `atLeast` ended messages whose time is over, or all there are. */
  forgetSome(atLeast: number): void {
    this.#ended.forget(this.#clockMs(), atLeast, (id) => this.entries.forget(id));
  }

  /** Ends a message and answers the next of its group. The dead stay whole; the others become tombstones for a while. */
  end(call: Call, entry: Entry, event: MessageEvent, nowMs: EpochMs, reason?: DeadReason): Entry | undefined {
    const next = this.room.leave(entry);
    if (entry.state === "scheduled") call.count(entry.lane, -1);
    else this.outs.remove(this.outs.get(entry.id)!);
    move(entry, event);
    entry.endedAtMs = nowMs;
    entry.group = undefined;
    if (entry.state === "dead") this.dead.add(entry, reason!);
    else this.#forgetLater(entry);
    this.entries.saveEnd(entry);
    return next;
  }

  /** Removes a dead message; it becomes a tombstone. */
  discard(entry: Entry, nowMs: EpochMs): void {
    this.dead.remove(entry);
    move(entry, "discard");
    entry.endedAtMs = nowMs;
    this.#forgetLater(entry);
    this.entries.saveEnd(entry);
  }

  #forgetLater(entry: Entry): void {
    this.records.remove(entry.seq);
    entry.forgetAtMs = this.#clockMs() + this.#dedupeWindowMs;
    this.#ended.add(entry.id);
  }

  /**
   * Puts a message whose record is damaged among the dead: it cannot be sent, and asking for it again would hold up
   * its shard. What is left of the record stays in the file. Answers the next of its group.
   */
  setAside(call: Call, entry: Entry, nowMs: EpochMs): Entry | undefined {
    if (entry.state === "scheduled") {
      move(entry, "claim");
      this.outs.add(this.outs.open(entry.shard, 0), entry);
      call.count(entry.lane, -1);
    }
    return this.end(call, entry, "bury", nowMs, damagedReason);
  }

  /** What is known of a message. Without its contents when they are damaged; `reason` says so. */
  stored(entry: Entry): PlainStored {
    const facts = { id: idFromBytes(asBuffer(entry.id)), ...factsOf(entry) };
    const ended = entry.endedAtMs === undefined ? {} : { endedAtMs: entry.endedAtMs };
    if (isEnded(entry.state) && entry.state !== "dead") return { ...facts, ...ended };
    const record = this.records.read(entry.seq, entry.id);
    const reason = entry.state === "dead" ? this.dead.reasonOf(entry) : undefined;
    if (record === undefined) return { ...facts, ...ended, reason: reason ?? damagedReason };
    return { ...facts, ...ended, ...(reason === undefined ? {} : { reason }), record };
  }

  #loadOuts(): void {
    this.outs.load((id) => this.entries.findRow(id));
  }
}

/** A call on one shard: what it counts, and whom it wakes when it is on disk. */
export class Call {
  readonly shard: number;
  readonly wakes: Wake[] = [];
  readonly #counts: WaitingCount;

  constructor(shard: number, counts: WaitingCount) {
    this.shard = shard;
    this.#counts = counts;
  }

  count(lane: number, by: number): void {
    this.#counts.change(this.shard, lane, by);
  }

  wake({ id, lane, dueMs }: Entry): void {
    this.wakes.push({ id, lane, dueMs });
  }
}

export type Wake = { readonly id: Uint8Array; readonly lane: number; readonly dueMs: EpochMs };

const damagedReason: DeadReason = {
  code: "record_damaged",
  detail: "What is in the store's file is not what was written; the message cannot be sent. Look at the disk.",
};

export const factsOf = ({ state, dueMs, attempt }: Entry) => ({ state, deliverAtMs: dueMs, attempt });

export const asReleased = ({ id, lane, dueMs }: Entry): Released => ({ id: idFromBytes(asBuffer(id)), lane, dueMs });
