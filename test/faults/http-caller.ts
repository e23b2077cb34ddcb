import { Agent, request } from "node:http";

/**
 * One HTTP call, tried once. It makes no second try by itself: whether a call that got no answer may be repeated is
 * what these tests are about. (Only a GET over a connection that the server had just closed for being idle is asked
 * again: it never got there.) Three ends: an answer, `not_sent` (nobody listens, so nothing can have happened), and
 * `no_answer` (anything may have happened).
 */
export type CallResult =
  | { readonly end: "answer"; readonly status: number; readonly body: unknown }
  | { readonly end: "not_sent" }
  | { readonly end: "no_answer"; readonly why: string };

export class HttpCaller {
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 64 });
  readonly #timeoutMs: number;

  constructor(timeoutMs = 15_000) {
    this.#timeoutMs = timeoutMs;
  }

  call(port: number, method: string, path: string, body?: unknown): Promise<CallResult> {
    const payload = body === undefined ? undefined : Buffer.from(JSON.stringify(body));
    return new Promise((resolve) => {
      const headers =
        payload === undefined ? {} : { "content-type": "application/json", "content-length": payload.length };
      const outgoing = request({ host: "127.0.0.1", port, method, path, headers, agent: this.#agent }, (answer) => {
        const parts: Buffer[] = [];
        answer.on("data", (part: Buffer) => parts.push(part));
        answer.on("error", (error) => done({ end: "no_answer", why: error.message }));
        answer.on("end", () => {
          try {
            const text = Buffer.concat(parts).toString("utf8");
            done({ end: "answer", status: answer.statusCode!, body: text === "" ? undefined : JSON.parse(text) });
          } catch {
            done({ end: "no_answer", why: "the answer was cut off" });
          }
        });
      });
      const timer = setTimeout(
        () => outgoing.destroy(new Error(`no answer in ${this.#timeoutMs} ms`)),
        this.#timeoutMs,
      );
      const done = (result: CallResult) => {
        clearTimeout(timer);
        resolve(result);
      };
      outgoing.on("error", (error: NodeJS.ErrnoException) => {
        if (method === "GET" && outgoing.reusedSocket && error.code === "ECONNRESET") {
          clearTimeout(timer);
          resolve(this.call(port, method, path));
          return;
        }
        done(
          error.code === "ECONNREFUSED" ? { end: "not_sent" } : { end: "no_answer", why: error.code ?? error.message },
        );
      });
      outgoing.end(payload);
    });
  }

  close(): void {
    this.#agent.destroy();
  }
}
