import { sleep, type Timers } from "../runtime/timers.ts";
import type { TxMessageRef } from "./outgoing.ts";
import type { TxSender } from "./transaction.ts";
import { isTxError } from "./tx-error.ts";
import { WatchedPromise } from "./watched-promise.ts";

/**
 * The sends of one callback, so that none of them fails unheard: those that are still under way when it ends, those that
 * are begun when these are through, and those whose promises were dropped.
 *
 * What comes after that is not ours any more: its promise is a plain one, and Node reports its failure when nobody does.
 * What follows from sends of a callback that has failed is kept silent: its messages are not to be sent anyway.
 */
export class Sends {
  readonly #timers: Timers;
  readonly #underWay = new Set<WatchedPromise<unknown>>();
  readonly #failed: { readonly promise: WatchedPromise<unknown>; readonly reason: unknown }[] = [];
  #begun = 0;
  #isOver = false;

  constructor(timers: Timers) {
    this.#timers = timers;
  }

  of(sender: TxSender): TxSender {
    return {
      txId: sender.txId,
      send: (message) => this.#track(sender.send(message)),
      cancel: (ref: TxMessageRef) => this.#track(sender.cancel(ref)),
    };
  }

  /** Whether anything may have been written by them. */
  get hasBegun(): boolean {
    return this.#begun > 0;
  }

  /** Nothing is under way any more, and nothing more belongs to the transaction. */
  async settled(): Promise<void> {
    while (this.#underWay.size > 0) {
      await Promise.allSettled(this.#underWay);
      await this.#whatFollows();
    }
    this.#isOver = true;
  }

  /**
   * What is still under way when the callback ends belongs to the transaction, and its failure fails it; so does a
   * failure before that, unless somebody waited for that promise: then the callback has seen it and has gone on. But
   * nobody goes on after a fence: whoever asked was told that this transaction is rolled back.
   */
  async allHeard(): Promise<void> {
    while (this.#underWay.size > 0) {
      await Promise.all(this.#underWay);
      await this.#whatFollows();
    }
    for (const { promise, reason } of this.#failed) if (!promise.isWatched || isFence(reason)) throw reason;
  }

  /** A turn of the event loop: what follows from sends by promises alone has begun its own then. */
  #whatFollows(): Promise<void> {
    return sleep(this.#timers, 0);
  }

  #track<T>(work: Promise<T>): Promise<T> {
    if (this.#isOver) return work;
    this.#begun++;
    const promise = WatchedPromise.watching(work);
    this.#underWay.add(promise);
    promise.settled((failure) => {
      this.#underWay.delete(promise);
      if (failure !== undefined) this.#failed.push({ promise, ...failure });
    });
    return promise;
  }
}

const isFence = (reason: unknown): boolean => isTxError(reason, "fenced") || isTxError(reason, "half_fenced");
