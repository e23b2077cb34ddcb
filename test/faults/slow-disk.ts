import { execFileSync } from "node:child_process";
import { existsSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";

/** The environment that puts slow-sync.c under a program, and the handle that makes its disk slow and fast again. */
export class SlowDisk {
  readonly #file: string;
  readonly environment: Readonly<Record<string, string>>;

  constructor(folder: string) {
    this.#file = join(folder, "slow-sync");
    const library = join(folder, "slow-sync.so");
    if (!existsSync(library)) {
      const source = join(import.meta.dirname, "slow-sync.c");
      execFileSync("gcc", ["-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"]);
    }
    this.environment = { LD_PRELOAD: library, SLOW_SYNC_FILE: this.#file };
    this.syncTakes(0);
  }

  syncTakes(waitMs: number): void {
    writeFileSync(`${this.#file}.new`, String(waitMs));
    renameSync(`${this.#file}.new`, this.#file);
  }

  /** Resolves `intoMs` after the next sync has begun to wait. */
  async insideSync(intoMs: number): Promise<void> {
    const busy = `${this.#file}.busy`;
    rmSync(busy, { force: true });
    while (!existsSync(busy)) await pause(2);
    await pause(intoMs);
  }
}
