import { connect, type Socket } from "node:net";

/**
 * HTTP/1.1 as cheap as a generator on the same two cores must be: prepared bytes out, status and length of the answer
 * in, one request in flight per connection. It understands answers with a content-length only, which is what the API
 * gives for everything but streams.
 */
export class HttpConnection {
  readonly #socket: Socket;
  #left = 0;
  #status = 0;
  #head: Buffer | undefined;
  #onReply: ((status: number) => void) | undefined;
  #failure: Error | undefined;
  onError: (error: Error) => void = () => {};

  constructor(port: number) {
    this.#socket = connect({ host: "127.0.0.1", port, noDelay: true });
    this.#socket.on("data", (chunk) => this.#take(chunk));
    this.#socket.on("error", (error) => this.#fail(error));
    this.#socket.on("close", () => this.#fail(new Error("the server closed the connection")));
  }

  send(request: Buffer, onReply: (status: number) => void): void {
    if (this.#failure !== undefined) throw this.#failure;
    this.#onReply = onReply;
    this.#socket.write(request);
  }

  close(): void {
    this.#socket.removeAllListeners("close");
    this.#socket.destroy();
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    this.onError(error);
  }

  #take(part: Buffer): void {
    if (this.#left > 0) {
      this.#left -= part.length;
    } else {
      const chunk = this.#head === undefined ? part : Buffer.concat([this.#head, part]);
      const end = chunk.indexOf("\r\n\r\n");
      if (end < 0) {
        this.#head = chunk;
        return;
      }
      this.#head = undefined;
      const head = chunk.toString("latin1", 0, end);
      this.#status = Number(head.slice(9, 12));
      const at = head.toLowerCase().indexOf("content-length: ");
      if (at < 0) {
        this.#fail(new Error(`an answer without length: ${head}`));
        return;
      }
      this.#left = Number.parseInt(head.slice(at + 16), 10) - (chunk.length - end - 4);
    }
    if (this.#left === 0) this.#onReply?.(this.#status);
  }
}

/** Prepared bytes of one POST. */
export const postOf = (path: string, type: string, body: string): Buffer =>
  Buffer.from(
    `POST ${path} HTTP/1.1\r\nHost: bench\r\nContent-Type: ${type}\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  );

export const bodyText200 = "x".repeat(200);

/** A batch request whose messages are due at random within `spreadMs` after `delayMs`. */
export const batchRequest = (topicOf: (i: number) => string, size: number, delayMs: number, spreadMs: number): Buffer =>
  postOf(
    "/v1/messages/batch",
    "application/json",
    JSON.stringify(
      Array.from({ length: size }, (_, i) => ({
        topic: topicOf(i),
        body: bodyText200,
        delay: delayMs + Math.floor(Math.random() * spreadMs),
      })),
    ),
  );

/** Keeps every connection busy with `next` until `durationMs` have passed; counts answers by status. */
export const saturate = (
  connections: readonly HttpConnection[],
  durationMs: number,
  next: () => Buffer,
): Promise<Map<number, number>> =>
  new Promise((resolve, reject) => {
    const answers = new Map<number, number>();
    const endMs = performance.now() + durationMs;
    let busy = connections.length;
    for (const connection of connections) {
      connection.onError = reject;
      const turn = (): void => {
        if (performance.now() >= endMs) {
          if (--busy === 0) resolve(answers);
          return;
        }
        connection.send(next(), (status) => {
          answers.set(status, (answers.get(status) ?? 0) + 1);
          turn();
        });
      };
      turn();
    }
  });
