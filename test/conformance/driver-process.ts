import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";

/**
 * One client program, spoken to in lines of JSON: questions `{n, do, …}` on its input, answers `{n, ok}` or
 * `{n, error}` and events `{event, …}` on its output, in any order. The verbs are in drivers/README.md. Every official client is
 * wrapped in such a program, so that one script in TypeScript can drive all of them.
 */
export type DriverCommand = {
  readonly command: string;
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
};

export type DriverEvent = { readonly event: string; readonly name: string } & Readonly<Record<string, unknown>>;

/** The client said no. `code` is RocketMQ's when the client reveals it, a gRPC code as a negative number, or 0. */
export class ClientRefusal extends Error {
  override readonly name = "ClientRefusal";
  readonly code: number;

  constructor(code: number, text: string) {
    super(text);
    this.code = code;
  }
}

/** The client has no such operation. Not a failure: the table says so. */
export class NotOffered extends Error {
  override readonly name = "NotOffered";
}

/** No answer: the client hangs, or its program ended. */
export class NoAnswer extends Error {
  override readonly name = "NoAnswer";
}

const readyMaxMs = 60_000; // a JVM on a busy machine
const closeMaxMs = 12_000; // the protocol gives a driver 10 s after the end of its input
const lastWordsMax = 4_000;

type Waiting = { resolve(value: Record<string, unknown>): void; reject(error: Error): void };

export class DriverProcess {
  readonly client: string;
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, Waiting>();
  readonly #listeners = new Set<(event: DriverEvent) => void>();
  readonly #gone: Promise<unknown>;
  #asked = 0;
  #lastWords = "";

  private constructor(child: ChildProcess, client: string) {
    this.#child = child;
    this.client = client;
    this.#gone = child.exitCode === null && child.signalCode === null ? once(child, "exit") : Promise.resolve();
  }

  /** Resolves when the program has said that it is ready. */
  static async start({ command, args, env }: DriverCommand): Promise<DriverProcess> {
    const child = spawn(command, args, { stdio: ["pipe", "pipe", "pipe"], env: { ...process.env, ...env } });
    running.add(child);
    let lastWords = "";
    let driver: DriverProcess | undefined;
    child.stderr.on("data", (part: Buffer) => {
      lastWords = (lastWords + part.toString()).slice(-lastWordsMax);
      if (driver !== undefined) driver.#lastWords = lastWords;
    });
    child.stdin.on("error", () => {}); // the program ended; whoever waits for an answer is told below
    const ready = new Promise<string>((resolve, reject) => {
      const fail = (why: string) => reject(new NoAnswer(`${command} ${why}; it said:\n${lastWords}`));
      const timer = setTimeout(() => fail(`was not ready after ${readyMaxMs} ms`), readyMaxMs);
      child.once("error", (error) => fail(error.message));
      child.once("exit", () => {
        clearTimeout(timer);
        running.delete(child);
        fail("ended before it was ready");
        if (driver !== undefined) driver.#ended();
      });
      createInterface({ input: child.stdout }).on("line", (line) => {
        const said = parsed(line);
        if (said === undefined) return;
        if (said.ready === true) {
          clearTimeout(timer);
          resolve(String(said.client));
        } else if (driver !== undefined) driver.#hear(said);
      });
    });
    const client = await ready.catch((error: unknown) => {
      child.kill("SIGKILL");
      throw error;
    });
    driver = new DriverProcess(child, client);
    return driver;
  }

  async ask(verb: string, fields: object, withinMs: number): Promise<Record<string, unknown>> {
    const n = ++this.#asked;
    let timer: NodeJS.Timeout | undefined;
    try {
      return await new Promise((resolve, reject) => {
        timer = setTimeout(() => reject(new NoAnswer(`${verb}: no answer within ${withinMs} ms`)), withinMs);
        if (this.#child.exitCode !== null || this.#child.signalCode !== null) {
          reject(new NoAnswer(`${verb}: the client program has ended`));
          return;
        }
        this.#waiting.set(n, { resolve, reject });
        this.#child.stdin!.write(`${JSON.stringify({ n, do: verb, ...fields })}\n`);
      });
    } finally {
      clearTimeout(timer);
      this.#waiting.delete(n);
    }
  }

  onEvent(listener: (event: DriverEvent) => void): void {
    this.#listeners.add(listener);
  }

  /** kill -9, as a machine that lost its power would end it. */
  async vanish(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#gone;
  }

  /** Closes its input and waits for its end; a program that does not end by itself is killed. */
  async close(): Promise<void> {
    this.#child.stdin!.end();
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), closeMaxMs);
    await this.#gone;
    clearTimeout(timer);
  }

  /** The end of what it wrote to standard error, for messages about failures. */
  get lastWords(): string {
    return this.#lastWords;
  }

  #hear(said: Record<string, unknown>): void {
    if (typeof said.event === "string") {
      for (const listener of this.#listeners) listener(said as DriverEvent);
      return;
    }
    const waiting = this.#waiting.get(said.n as number);
    if (waiting === undefined) return;
    if (said.error === undefined) {
      waiting.resolve((said.ok ?? {}) as Record<string, unknown>);
      return;
    }
    const { code, text } = said.error as { code: number; text: string };
    waiting.reject(
      text.startsWith("unsupported by this client") ? new NotOffered(text) : new ClientRefusal(code ?? 0, text),
    );
  }

  #ended(): void {
    for (const { reject } of this.#waiting.values()) reject(new NoAnswer("the client program has ended"));
  }
}

/** None outlives this process. */
const running = new Set<ChildProcess>();
process.once("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});

const parsed = (line: string): Record<string, unknown> | undefined => {
  try {
    return JSON.parse(line) as Record<string, unknown>;
  } catch {
    return undefined; // a client that prints to standard output in spite of everything
  }
};
