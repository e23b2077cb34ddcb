import { createHash } from "node:crypto";
import type { DatabaseSync, StatementSync } from "node:sqlite";
import type { DelayedMessage } from "../../message/message.ts";
import type { EpochMs } from "../../message/time.ts";
import type { Entry, EntryTable } from "./entry-table.ts";
import type { OutTable } from "./out-table.ts";

/**
 * Which waiting messages may be claimed, by shard and due; of a message group only the head. The rules are those of
 * the memory store's room of the same name: a head keeps its place until it ends, except that a message with an
 * earlier time takes the place of a head that was never attempted.
 *
 * What is claimed keeps its place in the index until it has ended: leaving and coming back would be two writes, and
 * most of what is claimed never comes back.
 *
 * A group's order is (what the user asked for, acceptance). It needs no column of its own in `entry`: who stands behind
 * a head was never attempted where it stands, so its due is what the user asked for; the head's is kept in `head`.
 */
export class WaitingRoom {
  readonly #entries: EntryTable;
  readonly #outs: OutTable;
  readonly #addDue: StatementSync;
  readonly #removeDue: StatementSync;
  readonly #page: StatementSync;
  readonly #count: StatementSync;
  readonly #head: StatementSync;
  readonly #setHead: StatementSync;
  readonly #removeHead: StatementSync;
  readonly #addFollower: StatementSync;
  readonly #removeFollower: StatementSync;
  readonly #firstFollower: StatementSync;

  constructor(db: DatabaseSync, entries: EntryTable, outs: OutTable) {
    this.#entries = entries;
    this.#outs = outs;
    this.#addDue = db.prepare("INSERT INTO due (shard, due, seq, id, lane) VALUES (?, ?, ?, ?, ?)");
    this.#removeDue = db.prepare("DELETE FROM due WHERE shard = ? AND due = ? AND seq = ?");
    this.#page = db.prepare(
      `SELECT due, seq, id, lane FROM due WHERE shard = ? AND (due, seq) > (?, ?) AND due <= ?
       ORDER BY due, seq LIMIT ?`,
    );
    this.#page.setReturnArrays(true);
    this.#count = db.prepare("SELECT count(*) AS messages FROM due WHERE shard = ? AND due >= ? AND due <= ?");
    this.#head = db.prepare("SELECT id, due, seq FROM head WHERE grp = ?");
    this.#setHead = db.prepare("INSERT OR REPLACE INTO head (grp, id, due, seq) VALUES (?, ?, ?, ?)");
    this.#removeHead = db.prepare("DELETE FROM head WHERE grp = ?");
    this.#addFollower = db.prepare("INSERT INTO follower (grp, due, seq, id) VALUES (?, ?, ?, ?)");
    this.#removeFollower = db.prepare("DELETE FROM follower WHERE grp = ? AND due = ? AND seq = ?");
    this.#firstFollower = db.prepare("SELECT id, due, seq FROM follower WHERE grp = ? ORDER BY due, seq LIMIT 1");
  }

  /**
   * Lets a saved, scheduled entry in whose due is what the user asked for. Answers who became claimable through it:
   * itself, as a rule.
   */
  enter(entry: Entry): Entry | undefined {
    const { group } = entry;
    if (group === undefined) {
      this.#add(entry);
      return entry;
    }
    const head = this.#headOf(group);
    if (head === undefined) {
      this.#setHead.run(group, entry.id, entry.dueMs, entry.seq);
      this.#add(entry);
      return entry;
    }
    this.#addFollower.run(group, entry.dueMs, entry.seq, entry.id);
    if (head.due < entry.dueMs || (head.due === entry.dueMs && head.seq < entry.seq)) return undefined;
    const headEntry = this.#entries.find(entry.shard, head.id)!;
    // A claimed head stays by the same rule: claiming counted its attempt.
    if (headEntry.attempt > 0) return undefined;
    this.#addFollower.run(group, head.due, head.seq, head.id);
    this.#remove(headEntry);
    return this.#promoteFirstOf(group, entry.shard);
  }

  /**
   * Lets an entry go for good, or before it is changed; call it while state, due, number and group are still those it
   * entered with. Answers who became claimable by that.
   */
  leave(entry: Entry): Entry | undefined {
    this.#remove(entry);
    const { group } = entry;
    if (group === undefined) return undefined;
    const head = this.#headOf(group);
    if (head?.seq !== entry.seq) {
      this.#removeFollower.run(group, entry.dueMs, entry.seq);
      return undefined;
    }
    return this.#promoteFirstOf(group, entry.shard);
  }

  isClaimable(entry: Entry): boolean {
    if (entry.state !== "scheduled") return false;
    return entry.group === undefined || this.#headOf(entry.group)?.seq === entry.seq;
  }

  /** Claimed before, it waits again for another time. */
  putBack(entry: Entry, dueMs: EpochMs): void {
    this.#remove(entry);
    entry.dueMs = dueMs;
    this.#add(entry);
  }

  /** Claimable ones behind (afterMs, afterSeq) and due at or before `untilMs`, in this order. */
  page(shard: number, afterMs: number, afterSeq: number, untilMs: number, limit: number): DuePage {
    const rows = this.#page.all(shard, afterMs, afterSeq, untilMs, limit) as unknown as DueRow[];
    const last = rows.at(-1);
    const waiting = this.#outs.size === 0 ? rows : rows.filter((row) => this.#outs.get(row[2]) === undefined);
    const ids = new Uint8Array(16 * waiting.length);
    for (const [i, row] of waiting.entries()) ids.set(row[2], 16 * i);
    return {
      ids,
      lanes: Uint32Array.from(waiting, (row) => row[3]),
      dueMs: Float64Array.from(waiting, (row) => row[0]),
      last: last === undefined || rows.length < limit ? undefined : { dueMs: last[0], seq: last[1] },
    };
  }

  /** What is out is in the index too, and does not wait. */
  count(shard: number, fromMs: number, untilMs: number): number {
    let messages = this.#count.get(shard, fromMs, untilMs)!.messages as number;
    if (messages === 0) return 0;
    for (const { entry } of this.#outs.of(shard)) if (entry.dueMs >= fromMs && entry.dueMs <= untilMs) messages--;
    return messages;
  }

  #add(entry: Entry): void {
    this.#addDue.run(entry.shard, entry.dueMs, entry.seq, entry.id, entry.lane);
  }

  /** Does nothing when it is not in. */
  #remove(entry: Entry): void {
    this.#removeDue.run(entry.shard, entry.dueMs, entry.seq);
  }

  #headOf(group: Uint8Array): Place | undefined {
    return this.#head.get(group) as Place | undefined;
  }

  #promoteFirstOf(group: Uint8Array, shard: number): Entry | undefined {
    const first = this.#firstFollower.get(group) as Place | undefined;
    if (first === undefined) {
      this.#removeHead.run(group);
      return undefined;
    }
    this.#removeFollower.run(group, first.due, first.seq);
    this.#setHead.run(group, first.id, first.due, first.seq);
    const next = this.#entries.find(shard, first.id)!;
    this.#add(next);
    return next;
  }
}

export type DuePage = {
  readonly ids: Uint8Array;
  readonly lanes: Uint32Array;
  readonly dueMs: Float64Array;
  /** Where the next page begins; undefined behind the last one. */
  readonly last: { readonly dueMs: number; readonly seq: number } | undefined;
};

type DueRow = [number, number, Uint8Array, number];
type Place = { readonly id: Uint8Array; readonly due: number; readonly seq: number };

/** 16 bytes that stand for (tenant, topic, group); undefined for a message of no group. */
export const groupOf = ({ tenant, topic, messageGroup }: DelayedMessage): Uint8Array | undefined =>
  messageGroup === undefined
    ? undefined
    : createHash("sha256")
        .update(JSON.stringify([tenant, topic, messageGroup]))
        .digest()
        .subarray(0, 16);
