import type { DatabaseSync, StatementSync } from "node:sqlite";
import type { Entry } from "./entry-table.ts";

/**
 * What is out: claimed and not settled. All of it is in memory, since it is bounded by what may be sent at once; on the
 * disk it is a row for each call that claimed, with the ids and attempts of those that are still out. The rows that
 * changed are written at the end of the transaction, so a message that is settled costs a few bytes of a row that
 * others share, and its entry is written once, when it has ended.
 *
 * An entry that is out is the one object here, and it is as it will be saved: nobody else may change it meanwhile.
 */
export class OutTable {
  readonly #select: StatementSync;
  readonly #put: StatementSync;
  readonly #remove: StatementSync;
  readonly #byId = new Map<string, Out>();
  readonly #changed = new Set<Claim>();
  #next = 1;

  constructor(db: DatabaseSync) {
    this.#select = db.prepare("SELECT n, shard, epoch, messages FROM claim ORDER BY n");
    this.#put = db.prepare("INSERT OR REPLACE INTO claim (n, shard, epoch, messages) VALUES (?, ?, ?, ?)");
    this.#remove = db.prepare("DELETE FROM claim WHERE n = ?");
  }

  /** As the file has it: at the start, and after a transaction that was taken back. */
  load(find: (id: Uint8Array) => Entry | undefined): void {
    this.#byId.clear();
    this.#changed.clear();
    for (const { n, shard, epoch, messages } of this.#select.all() as ClaimRow[]) {
      const claim: Claim = { n, shard, epoch, outs: new Set(), isStored: true };
      const bytes = Buffer.from(messages.buffer, messages.byteOffset, messages.byteLength);
      for (let at = 0; at < bytes.length; at += messageBytes) {
        const entry = find(bytes.subarray(at, at + 16));
        // Not of this file's making; whatever else that is, it is not out.
        if (entry?.state !== "scheduled") continue;
        entry.state = "claimed";
        entry.attempt = bytes.readUInt32LE(at + 16);
        this.#hold(claim, entry);
      }
      this.#next = Math.max(this.#next, n + 1);
    }
  }

  get(id: Uint8Array): Out | undefined {
    return this.#byId.size === 0 ? undefined : this.#byId.get(keyOf(id));
  }

  get size(): number {
    return this.#byId.size;
  }

  /** One for each call that claims; without a message it leaves no row. */
  open(shard: number, epoch: number): Claim {
    return { n: this.#next++, shard, epoch, outs: new Set(), isStored: false };
  }

  /** `entry` is claimed, its attempt counted. */
  add(claim: Claim, entry: Entry): void {
    this.#hold(claim, entry);
    this.#changed.add(claim);
  }

  /** It is settled, or waits again. */
  remove(out: Out): void {
    this.#byId.delete(keyOf(out.entry.id));
    out.claim.outs.delete(out);
    this.#changed.add(out.claim);
  }

  *of(shard: number): Generator<Out> {
    for (const out of this.#byId.values()) if (out.entry.shard === shard) yield out;
  }

  /** At the end of the transaction. */
  write(): void {
    for (const claim of this.#changed) {
      if (claim.outs.size > 0) {
        this.#put.run(claim.n, claim.shard, claim.epoch, packed(claim));
        claim.isStored = true;
      } else if (claim.isStored) this.#remove.run(claim.n);
    }
    this.#changed.clear();
  }

  #hold(claim: Claim, entry: Entry): void {
    const out = { entry, claim };
    claim.outs.add(out);
    this.#byId.set(keyOf(entry.id), out);
  }
}

export type Out = { readonly entry: Entry; readonly claim: Claim };

export type Claim = {
  readonly n: number;
  readonly shard: number;
  readonly epoch: number;
  readonly outs: Set<Out>;
  isStored: boolean;
};

type ClaimRow = { readonly n: number; readonly shard: number; readonly epoch: number; readonly messages: Uint8Array };

/** Id, then the attempt. */
const messageBytes = 20;

const packed = ({ outs }: Claim): Buffer => {
  const bytes = Buffer.allocUnsafe(messageBytes * outs.size);
  let at = 0;
  for (const { entry } of outs) {
    bytes.set(entry.id, at);
    bytes.writeUInt32LE(entry.attempt, at + 16);
    at += messageBytes;
  }
  return bytes;
};

const keyOf = (id: Uint8Array): string => Buffer.prototype.latin1Slice.call(id, 0, 16);
