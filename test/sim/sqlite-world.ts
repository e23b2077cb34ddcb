import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SqliteDelayStore } from "../../src/adapters/sqlite/sqlite-delay-store.ts";
import type { DelayStore, StoreListener } from "../../src/delay/delay-store.port.ts";
import type { Timers } from "../../src/runtime/timers.ts";
import type { SimOptions } from "./options.ts";
import type { Plant } from "./simulate.ts";
import type { StoreMaker } from "./store-server.ts";

/**
 * The same days on the SQLite store: one machine, since a file has one process, and the file is closed and opened again
 * whenever that process starts, after a crash too. Calls are lost, late and refused as ever. Clocks are left alone:
 * there is no second one that could be compared.
 *
 * The engine runs on this thread and answers within the event that asked, so that a seed still gives the same run.
 */
export type SqliteWorld = Plant & {
  /** How often the file was opened. */
  readonly opened: number;
  close(): Promise<void>;
};

export const sqliteWorld = (): SqliteWorld => {
  const folder = mkdtempSync(join(tmpdir(), "escapement-sim-"));
  const listeners: StoreListener[] = [];
  let opened = 0;
  let settings: Parameters<StoreMaker>[0] | undefined;
  let store: Promise<SqliteDelayStore> | undefined;

  const open = async (): Promise<SqliteDelayStore> => {
    const { clockMs, shardCount, dedupeWindowMs } = settings!;
    opened++;
    const clock = { wallMs: clockMs, monotonicMs: clockMs };
    const fixed = { shardCount: shardCount!, dedupeWindowMs: dedupeWindowMs! };
    // A reserve grows with every look at the store's health, and a simulated second is short.
    const here = { folder, reserveBytes: 0, clock, timers: atOnce, thread: "callers" } as const;
    const next = await SqliteDelayStore.open({ ...here, ...fixed });
    for (const listener of listeners) void next.listen(listener);
    return next;
  };

  /** Whatever store is open at the moment. */
  const present = (shardCount: number): DelayStore =>
    new Proxy({ shardCount } as DelayStore, {
      get: (target, name) => {
        if (name === "shardCount") return target.shardCount;
        if (name === "listen") return async (listener: StoreListener) => void listeners.push(listener);
        return async (...values: unknown[]) => {
          const now = (await store!) as unknown as Record<PropertyKey, (...values: unknown[]) => unknown>;
          return now[name]!(...values);
        };
      },
    });

  return {
    makeStore: (options) => {
      settings = options;
      store = open();
      // A store hears of nobody before it is open, and it opens within this event.
      return present(options.shardCount!);
    },
    beforeStart: () => {
      store = store!.then(async (former) => {
        await former.close();
        return open();
      });
    },
    options: (options: SimOptions) => ({
      ...options,
      machines: 1,
      troubles: { ...options.troubles, machineClocks: 0, storeClock: 0 },
    }),
    get opened() {
      return opened;
    },
    close: async () => {
      await (await store!).close();
      rmSync(folder, { recursive: true });
    },
  };
};

/** What is asked is done within the event that asked: the world waits until no promise moves. */
const atOnce: Timers = {
  after: (_delayMs, callback) => {
    let isCanceled = false;
    queueMicrotask(() => {
      if (!isCanceled) callback();
    });
    return {
      cancel: () => {
        isCanceled = true;
      },
    };
  },
};
