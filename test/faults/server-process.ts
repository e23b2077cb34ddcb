import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";
import { createServer } from "node:net";
import { join, resolve } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import type { HealthReply, StatsReply } from "../../src/wire/http.ts";
import type { HttpCaller } from "./http-caller.ts";

/** One server of the product as a real process: `node src/main.ts` with an environment, and signals. */
export type ServerOptions = {
  readonly name: string;
  readonly folder: string;
  readonly http: HttpCaller;
  readonly environment: Readonly<Record<string, string>>;
  /** Modules loaded before the server's own. */
  readonly preload?: readonly string[];
};

export type Ending = { readonly code: number | null; readonly signal: NodeJS.Signals | null };

const root = resolve(import.meta.dirname, "../..");
const readyMaxMs = 30_000;

export class ServerProcess {
  readonly name: string;
  readonly port: number;
  readonly logFile: string;
  /** The most memory it ever held, in MB. */
  rssMaxMb = 0;
  /** True while its ending, if it comes, is the lab's own doing. */
  expectsToEnd = false;
  readonly ended: Promise<Ending>;
  readonly #http: HttpCaller;
  readonly #child: ChildProcess;
  readonly #sampler: NodeJS.Timeout;
  #ending: Ending | undefined;

  private constructor(options: ServerOptions, port: number) {
    this.name = options.name;
    this.port = port;
    this.#http = options.http;
    this.logFile = join(options.folder, `server-${options.name}.log`);
    const log = openSync(this.logFile, "a");
    const preload = (options.preload ?? []).flatMap((file) => ["--import", join(root, "test/faults/preload", file)]);
    this.#child = spawn(process.execPath, [...preload, join(root, "src/main.ts")], {
      cwd: root,
      stdio: ["ignore", log, log],
      env: {
        PATH: process.env.PATH,
        HTTP_ADDR: `127.0.0.1:${port}`,
        NODE_NAME: options.name,
        LOG_FORMAT: "json",
        ...options.environment,
      },
    });
    closeSync(log);
    const endWithUs = () => this.#child.kill("SIGKILL");
    process.once("exit", endWithUs);
    this.ended = new Promise((done) => {
      this.#child.once("exit", (code, signal) => {
        clearInterval(this.#sampler);
        process.off("exit", endWithUs);
        this.#ending = { code, signal };
        done(this.#ending);
      });
      this.#child.once("error", () => done({ code: -1, signal: null }));
    });
    this.#sampler = setInterval(() => this.#sampleMemory(), 500);
  }

  /** Resolves as soon as the process was launched; `untilReady` waits for it to serve. */
  static async launch(options: ServerOptions): Promise<ServerProcess> {
    return new ServerProcess(options, await freePort());
  }

  get pid(): number {
    return this.#child.pid!;
  }

  get ending(): Ending | undefined {
    return this.#ending;
  }

  get runs(): boolean {
    return this.#ending === undefined;
  }

  async untilReady(withinMs = readyMaxMs): Promise<this> {
    const endMs = performance.now() + withinMs;
    for (;;) {
      if (!this.runs) throw new Error(`server ${this.name} ended while starting:\n${this.lastLines()}`);
      const health = await this.health();
      if (health?.status === "ok") return this;
      if (performance.now() > endMs) {
        throw new Error(
          `server ${this.name} is not ready after ${withinMs} ms (${JSON.stringify(health)}):\n${this.lastLines()}`,
        );
      }
      await pause(50);
    }
  }

  /** Undefined while it does not answer. */
  async health(): Promise<HealthReply | undefined> {
    const result = await this.#http.call(this.port, "GET", "/health/ready");
    return result.end === "answer" ? (result.body as HealthReply) : undefined;
  }

  async stats(): Promise<StatsReply | undefined> {
    const result = await this.#http.call(this.port, "GET", "/v1/stats");
    return result.end === "answer" && result.status === 200 ? (result.body as StatsReply) : undefined;
  }

  signal(name: NodeJS.Signals): void {
    if (this.runs) process.kill(this.pid, name);
  }

  /** kill -9. */
  async kill(): Promise<void> {
    this.#sampleMemory();
    this.expectsToEnd = true;
    this.signal("SIGKILL");
    await this.ended;
  }

  /** SIGTERM, and how long the clean stop took. */
  async stop(withinMs = 15_000): Promise<Ending & { readonly tookMs: number }> {
    this.#sampleMemory();
    this.expectsToEnd = true;
    const startedMs = performance.now();
    this.signal("SIGTERM");
    const ending = await Promise.race([this.ended, pause(withinMs)]);
    if (ending === undefined) {
      await this.kill();
      throw new Error(`server ${this.name} did not stop within ${withinMs} ms of SIGTERM:\n${this.lastLines()}`);
    }
    return { ...ending, tookMs: Math.round(performance.now() - startedMs) };
  }

  logText(): string {
    return readFileSync(this.logFile, "utf8");
  }

  lastLines(count = 12): string {
    return this.logText().trimEnd().split("\n").slice(-count).join("\n");
  }

  #sampleMemory(): void {
    try {
      const held = /^VmHWM:\s+(\d+) kB/m.exec(readFileSync(`/proc/${this.pid}/status`, "utf8"))?.[1];
      if (held !== undefined) this.rssMaxMb = Math.max(this.rssMaxMb, Math.round(Number(held) / 1024));
    } catch {} // it has ended
  }
}

export const freePort = (): Promise<number> =>
  new Promise((done, failed) => {
    const server = createServer();
    server.once("error", failed);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as { port: number };
      server.close(() => done(port));
    });
  });
