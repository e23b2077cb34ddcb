/**
 * A promise that knows whether anybody waits for it: so that a send which failed, and whose promise was dropped, is not
 * lost with it. `await`, `then`, `catch` and `Promise.all` all end in `then`, which for a subclass they do call.
 */
export class WatchedPromise<T> extends Promise<T> {
  /** What is derived from it is an ordinary promise; Node itself reports its rejection if nobody takes it. */
  static override get [Symbol.species](): PromiseConstructor {
    return Promise;
  }

  isWatched = false;

  static watching<T>(work: Promise<T>): WatchedPromise<T> {
    return new WatchedPromise<T>((resolve, reject) => work.then(resolve, reject));
  }

  // biome-ignore lint/suspicious/noThenProperty: to notice who waits is what this class is for.
  override then<A = T, B = never>(
    fulfilled?: ((value: T) => A | PromiseLike<A>) | null,
    rejected?: ((reason: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    this.isWatched = true;
    return super.then(fulfilled, rejected);
  }

  /** For us, who look without taking the failure away from anybody; Node does not call it unhandled any more. */
  settled(done: (failure?: { readonly reason: unknown }) => void): void {
    super.then(
      () => done(),
      (reason: unknown) => done({ reason }),
    );
  }
}
