import type { DelayStore } from "../delay/delay-store.port.ts";
import type { DocumentStore } from "../documents/document-store.port.ts";
import type { DurationMs } from "../message/time.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Log } from "../runtime/log.ts";
import type { Random } from "../runtime/random.ts";
import { beginAudit } from "./audit.ts";
import { type DeadMessage, deadMessageOf } from "./dead-message.ts";

/**
 * Removes the dead that their policy keeps no longer. Without such a policy everything is kept until somebody decides,
 * and nothing is ever removed silently: it is counted, logged, and stands in the audit, which is begun before.
 *
 * Each process goes through the shards that it owns, a small page at a time, once an hour. So a message may stay up to
 * an hour longer than its policy says, and never goes earlier.
 */
export type KeepingOptions = {
  readonly store: DelayStore;
  readonly documents: DocumentStore;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly owned: () => readonly number[];
  /** By the policy that decided its death; undefined: until somebody removes it. */
  readonly keepMsOf: (dead: DeadMessage) => Promise<DurationMs | undefined>;
  readonly removed: (count: number) => void;
};

const passEveryMs = 3_600_000;
const pageMessages = 200;
/** A million dead take some four minutes, of which the store works one. */
const pageEveryMs = 50;

export class DeadKeeping {
  readonly #options: KeepingOptions;
  #left: number[] | undefined;
  #cursor: string | undefined;
  #audit: ((more: { count: number }) => Promise<void>) | undefined;
  #count = 0;

  constructor(options: KeepingOptions) {
    this.#options = options;
  }

  /** One page. */
  async runOnce(): Promise<number> {
    const { store, owned } = this.#options;
    this.#left ??= [...owned()];
    const shard = this.#left[0];
    if (shard === undefined) return this.#endPass();
    const page = await store.dead(shard, this.#cursor, pageMessages);
    const over: DeadMessage[] = [];
    for (const stored of page.items) {
      const dead = deadMessageOf(stored);
      if (await this.#isOver(dead)) over.push(dead);
    }
    if (over.length > 0) await this.#remove(shard, over);
    this.#cursor = page.cursor;
    if (this.#cursor === undefined) this.#left.shift();
    return pageEveryMs;
  }

  async #isOver(dead: DeadMessage): Promise<boolean> {
    if (dead.message === undefined) return false;
    const keepMs = await this.#options.keepMsOf(dead);
    return keepMs !== undefined && dead.diedAtMs + keepMs <= this.#options.clock.nowMs();
  }

  async #remove(shard: number, over: readonly DeadMessage[]): Promise<void> {
    const { store, documents, clock, random, removed } = this.#options;
    this.#audit ??= await beginAudit(documents, random, clock.nowMs(), {
      action: "expire",
      by: "policy",
      reason: "kept as long as their policy says",
      what: "",
      count: 0,
    });
    const done = await store.discard(shard, over, clock.nowMs());
    const count = done.filter(Boolean).length;
    this.#count += count;
    removed(count);
    await this.#audit({ count: this.#count });
  }

  #endPass(): number {
    if (this.#count > 0) {
      this.#options.log.info({ removed: this.#count }, "removed dead messages that their policy keeps no longer");
    }
    this.#left = undefined;
    this.#audit = undefined;
    this.#count = 0;
    return passEveryMs;
  }
}
