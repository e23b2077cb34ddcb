import { connect, createServer, type Server, type Socket } from "node:net";

/**
 * A TCP proxy that lies about the network between two honest programs. It knows nothing of what it carries; what it
 * can do is what networks do: hold bytes back, swallow them, cut a connection after so many bytes, send newcomers
 * elsewhere.
 *
 * Held bytes are kept outside of the sender's reach: a sender that is killed meanwhile has sent them, a receiver that
 * is promoted meanwhile has not got them. That is what a replica behind a slow line looks like.
 */
export class TcpProxy {
  readonly #server: Server;
  readonly #pairs = new Set<Pair>();
  #target: number;
  #isHolding = false;
  #isSwallowingReplies = false;

  private constructor(target: number) {
    this.#target = target;
    this.#server = createServer((client) => this.#join(client));
  }

  static async open(targetPort: number): Promise<TcpProxy> {
    const proxy = new TcpProxy(targetPort);
    await new Promise<void>((listening) => proxy.#server.listen(0, "127.0.0.1", listening));
    return proxy;
  }

  get port(): number {
    return (this.#server.address() as { port: number }).port;
  }

  get connections(): number {
    return this.#pairs.size;
  }

  /** New connections go there; those that are open stay where they are. */
  sendTo(port: number): void {
    this.#target = port;
  }

  /** Nothing passes in either direction, and nobody is told. */
  hold(): void {
    this.#isHolding = true;
    for (const { client, server } of this.#pairs) {
      client.pause();
      server.pause();
    }
  }

  letGo(): void {
    this.#isHolding = false;
    for (const { client, server } of this.#pairs) {
      client.resume();
      server.resume();
    }
  }

  /** Requests pass, replies vanish, and after `forMs` every connection ends: what was asked was done, unseen. */
  async swallowReplies(forMs: number): Promise<number> {
    this.#isSwallowingReplies = true;
    let swallowed = 0;
    const watch = [...this.#pairs];
    for (const pair of watch) pair.swallowed = 0;
    await new Promise((done) => setTimeout(done, forMs));
    for (const pair of [...this.#pairs]) {
      swallowed += pair.swallowed;
      this.#cut(pair);
    }
    this.#isSwallowingReplies = false;
    return swallowed;
  }

  /** Each connection carries up to `bytes` more from its client and then ends, wherever in a command that is. */
  cutAfter(bytes: number): void {
    for (const pair of this.#pairs) pair.requestBytesLeft = bytes;
  }

  /** All connections end at once. */
  cut(): void {
    for (const pair of [...this.#pairs]) this.#cut(pair);
  }

  async close(): Promise<void> {
    this.cut();
    await new Promise((closed) => this.#server.close(closed));
  }

  #join(client: Socket): void {
    const server = connect(this.#target, "127.0.0.1");
    client.setNoDelay(true);
    server.setNoDelay(true);
    const pair: Pair = { client, server, swallowed: 0, requestBytesLeft: Number.POSITIVE_INFINITY };
    this.#pairs.add(pair);
    client.on("data", (bytes) => {
      const passing = bytes.subarray(0, Math.min(bytes.length, pair.requestBytesLeft));
      pair.requestBytesLeft -= passing.length;
      if (pair.requestBytesLeft > 0) server.write(passing);
      // What was let through must arrive before the connection ends, or the cut would fall somewhere else.
      else server.end(passing, () => this.#cut(pair));
    });
    server.on("data", (bytes) => {
      if (this.#isSwallowingReplies) pair.swallowed += bytes.length;
      else client.write(bytes);
    });
    for (const socket of [client, server]) {
      socket.on("error", () => {});
      socket.on("close", () => this.#cut(pair));
    }
    if (this.#isHolding) {
      client.pause();
      server.pause();
    }
  }

  #cut(pair: Pair): void {
    this.#pairs.delete(pair);
    pair.client.destroy();
    pair.server.destroy();
  }
}

type Pair = { readonly client: Socket; readonly server: Socket; swallowed: number; requestBytesLeft: number };
