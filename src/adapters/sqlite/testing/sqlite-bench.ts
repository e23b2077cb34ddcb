import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { epochMs } from "../../../message/time.ts";
import { systemTimers } from "../../system/system-time.ts";
import { SqliteDelayStore, type SqliteDelayStoreOptions } from "../sqlite-delay-store.ts";

/** A folder for one test, and a store in it that lives on a clock of its own and may be closed and opened again. */
export const startTime = epochMs(1_800_000_000_000);

export class SqliteBench implements AsyncDisposable {
  readonly folder = mkdtempSync(join(tmpdir(), "escapement-sqlite-"));
  readonly #stores = new Set<SqliteDelayStore>();
  nowMs: number = startTime;

  /** On this thread, unless `options` say otherwise: to start another for each test takes its time. */
  async open(options: Partial<SqliteDelayStoreOptions> = {}): Promise<SqliteDelayStore> {
    const clock = { wallMs: () => this.nowMs, monotonicMs: () => this.nowMs };
    const own = { folder: this.folder, clock, timers: systemTimers, thread: "callers" } as const;
    const store = await SqliteDelayStore.open({ ...own, ...options });
    this.#stores.add(store);
    return store;
  }

  async reopen(store: SqliteDelayStore, options: Partial<SqliteDelayStoreOptions> = {}): Promise<SqliteDelayStore> {
    await store.close();
    return this.open(options);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const store of this.#stores) await store.close();
    rmSync(this.folder, { recursive: true, force: true });
  }
}
