import type { DatabaseSync, StatementSync } from "node:sqlite";
import type { AcquireResult } from "../../delay/delay-store.port.ts";
import { EscapementError } from "../../message/errors.ts";
import type { DurationMs } from "../../message/time.ts";

/**
 * Who owns a shard. Only one process can have the file open, so there is nobody to fence but ourselves: an owner that
 * was stopped and started anew, or two of them in one process. The rules are the port's all the same. Leases of the
 * process before end when the file is opened: it is gone for sure; epochs go on growing.
 *
 * So only epochs are worth the disk. Who owns a shard until when is in memory: an idle process would otherwise write
 * its renewals to the disk every few seconds for nobody to read.
 */
export class LeaseTable {
  readonly #find: StatementSync;
  readonly #put: StatementSync;
  readonly #clockMs: () => number;
  /** With the epoch it was taken under: when that was rolled back, so was this. */
  readonly #held = new Map<number, { readonly epoch: number; readonly owner: string; readonly endsAtMs: number }>();

  constructor(db: DatabaseSync, clockMs: () => number) {
    this.#clockMs = clockMs;
    this.#find = db.prepare("SELECT epoch FROM lease WHERE shard = ?");
    this.#put = db.prepare("INSERT OR REPLACE INTO lease (shard, epoch) VALUES (?, ?)");
  }

  /** The owner only while its lease lasts. Epoch 0: never owned. */
  of(shard: number): { readonly epoch: number; readonly owner: string | undefined; readonly endsAtMs: number } {
    const epoch = (this.#find.get(shard)?.epoch as number | undefined) ?? 0;
    const held = this.#held.get(shard);
    const isHeld = held !== undefined && held.epoch === epoch && held.endsAtMs > this.#clockMs();
    return isHeld ? held : { epoch, owner: undefined, endsAtMs: 0 };
  }

  acquire(shard: number, owner: string, leaseMs: DurationMs): AcquireResult {
    const lease = this.of(shard);
    if (lease.owner !== undefined && lease.owner !== owner) {
      return { outcome: "held", owner: lease.owner, expiresInMs: lease.endsAtMs - this.#clockMs() };
    }
    const epoch = lease.owner === undefined ? lease.epoch + 1 : lease.epoch;
    if (epoch !== lease.epoch) this.#put.run(shard, epoch);
    this.#hold(shard, epoch, owner, leaseMs);
    return { outcome: "acquired", epoch };
  }

  renew(shard: number, epoch: number, owner: string, leaseMs: DurationMs): boolean {
    const lease = this.of(shard);
    if (lease.owner !== owner || lease.epoch !== epoch) return false;
    this.#hold(shard, epoch, owner, leaseMs);
    return true;
  }

  release(shard: number, epoch: number, owner: string): void {
    const lease = this.of(shard);
    if (lease.owner === owner && lease.epoch === epoch) this.#held.delete(shard);
  }

  #hold(shard: number, epoch: number, owner: string, leaseMs: DurationMs): void {
    this.#held.set(shard, { epoch, owner, endsAtMs: this.#clockMs() + leaseMs });
  }

  /** Throws `fenced` when `epoch` is not the shard's newest. */
  assertOwner(shard: number, epoch: number): void {
    const lease = this.of(shard);
    if (lease.epoch === epoch) return;
    throw new EscapementError("fenced", `shard ${shard} is at epoch ${lease.epoch}, this call came from ${epoch}`);
  }
}
