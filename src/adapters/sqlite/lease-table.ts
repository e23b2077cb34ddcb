import type { DatabaseSync, StatementSync } from "node:sqlite";
import type { AcquireResult } from "../../delay/delay-store.port.ts";
import { EscapementError } from "../../message/errors.ts";
import type { DurationMs } from "../../message/time.ts";

/**
 * Who owns a shard. Only one process can have the file open, so there is nobody to fence but ourselves: an owner that
 * was stopped and started anew, or two of them in one process. The rules are the port's all the same. Leases of the
 * process before end when the file is opened: it is gone for sure; epochs go on growing.
 */
export class LeaseTable {
  readonly #find: StatementSync;
  readonly #put: StatementSync;
  readonly #clockMs: () => number;

  constructor(db: DatabaseSync, clockMs: () => number) {
    this.#clockMs = clockMs;
    db.exec("UPDATE lease SET owner = NULL WHERE owner IS NOT NULL");
    this.#find = db.prepare("SELECT epoch, owner, ends_at FROM lease WHERE shard = ?");
    this.#put = db.prepare("INSERT OR REPLACE INTO lease (shard, epoch, owner, ends_at) VALUES (?, ?, ?, ?)");
  }

  /** The owner only while its lease lasts. Epoch 0: never owned. */
  of(shard: number): { readonly epoch: number; readonly owner: string | undefined; readonly endsAtMs: number } {
    const row = this.#find.get(shard) as { epoch: number; owner: string | null; ends_at: number } | undefined;
    if (row === undefined) return { epoch: 0, owner: undefined, endsAtMs: 0 };
    const isHeld = row.owner !== null && row.ends_at > this.#clockMs();
    return { epoch: row.epoch, owner: isHeld ? row.owner! : undefined, endsAtMs: row.ends_at };
  }

  acquire(shard: number, owner: string, leaseMs: DurationMs): AcquireResult {
    const lease = this.of(shard);
    if (lease.owner !== undefined && lease.owner !== owner) {
      return { outcome: "held", owner: lease.owner, expiresInMs: lease.endsAtMs - this.#clockMs() };
    }
    const epoch = lease.owner === undefined ? lease.epoch + 1 : lease.epoch;
    this.#put.run(shard, epoch, owner, this.#clockMs() + leaseMs);
    return { outcome: "acquired", epoch };
  }

  renew(shard: number, epoch: number, owner: string, leaseMs: DurationMs): boolean {
    const lease = this.of(shard);
    if (lease.owner !== owner || lease.epoch !== epoch) return false;
    this.#put.run(shard, epoch, owner, this.#clockMs() + leaseMs);
    return true;
  }

  release(shard: number, epoch: number, owner: string): void {
    const lease = this.of(shard);
    if (lease.owner === owner && lease.epoch === epoch) this.#put.run(shard, epoch, null, 0);
  }

  /** Throws `fenced` when `epoch` is not the shard's newest. */
  assertOwner(shard: number, epoch: number): void {
    const lease = this.of(shard);
    if (lease.epoch === epoch) return;
    throw new EscapementError("fenced", `shard ${shard} is at epoch ${lease.epoch}, this call came from ${epoch}`);
  }
}
