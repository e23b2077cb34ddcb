/**
 * Counts what is in flight: requests, and the bytes of their bodies. A request that does not fit is refused before
 * its body is read, so that overload costs a header and not a parse. Not a rate limit: who is answered fast may ask
 * often.
 */
export class LoadGate {
  readonly #requestsMax: number;
  readonly #bytesMax: number;
  #requests = 0;
  #bytes = 0;

  constructor(requestsMax: number, bytesMax: number) {
    this.#requestsMax = requestsMax;
    this.#bytesMax = bytesMax;
  }

  /** True: counted, and {@link leave} must be called once with the same bytes. A first request always fits. */
  enter(bytes: number): boolean {
    if (this.#requests >= this.#requestsMax) return false;
    if (this.#requests > 0 && this.#bytes + bytes > this.#bytesMax) return false;
    this.#requests++;
    this.#bytes += bytes;
    return true;
  }

  leave(bytes: number): void {
    this.#requests--;
    this.#bytes -= bytes;
  }

  get requests(): number {
    return this.#requests;
  }

  get bytes(): number {
    return this.#bytes;
  }
}
