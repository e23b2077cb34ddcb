import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { freePort } from "./server.ts";

/** The server as a newcomer starts it, in one process with its own store and broker, but in a folder of the test. */
export class Embedded implements AsyncDisposable {
  readonly folder = mkdtempSync(join(tmpdir(), "escapement-embedded-"));
  url = "";
  endpoint = "";
  #child: ChildProcess | undefined;
  #said = "";

  /** On the same ports and the same folder as before, if it ran before. */
  async start(env: Record<string, string> = {}): Promise<this> {
    if (this.url === "") {
      this.url = `http://127.0.0.1:${await freePort()}`;
      this.endpoint = `127.0.0.1:${await freePort()}`;
    }
    const child = spawn(process.execPath, [main], { env: { ...this.environment, ...env }, stdio: "pipe" });
    this.#child = child;
    for (const stream of [child.stdout, child.stderr]) {
      stream.on("data", (part: Buffer) => {
        this.#said = (this.#said + part.toString()).slice(-100_000);
      });
    }
    const until = Date.now() + readyWithinMs;
    for (;;) {
      const ready = await fetch(`${this.url}/health/ready`).catch(() => undefined);
      if (ready?.ok) return this;
      if (child.exitCode !== null || Date.now() > until) throw new Error(`the server did not start:\n${this.#said}`);
      await pause(20);
    }
  }

  get environment(): Record<string, string> {
    return {
      PATH: process.env.PATH ?? "",
      HTTP_ADDR: this.url.replace("http://", ""),
      BROKER_ADDR: this.endpoint,
      DATA_DIR: this.folder,
    };
  }

  /** All that it has printed, at most the last 100,000 characters. */
  get said(): string {
    return this.#said;
  }

  get pid(): number {
    return this.#child!.pid!;
  }

  /** @returns the exit code; null after a SIGKILL. */
  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<number | null> {
    const child = this.#child;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return child?.exitCode ?? null;
    const gone = once(child, "exit");
    child.kill(signal);
    const [code] = (await gone) as [number | null];
    return code;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop("SIGKILL");
    rmSync(this.folder, { recursive: true, force: true });
  }
}

const main = fileURLToPath(new URL("../../src/main.ts", import.meta.url));
/** Its start takes seconds of CPU, and tests share two cores. */
const readyWithinMs = 60_000;
