import { statSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { describe, expect, it } from "vitest";
import type { DelayStore } from "../../delay/delay-store.port.ts";
import { at, StoreHands, t0 } from "../../delay/delay-store-hands.ts";
import { idToBytes } from "../../message/id.ts";
import { durationMs } from "../../message/time.ts";
import { systemTimers } from "../system/system-time.ts";
import { SqliteBench } from "./testing/sqlite-bench.ts";

const handsOf = (store: DelayStore) => new StoreHands({ store, close: () => store.close() });

describe("the sqlite store's commits", () => {
  it("calls of one turn share one, and each is answered after it", async () => {
    await using bench = new SqliteBench();
    let turns = 0;
    const timers = {
      after: (delayMs: number, callback: () => void) => {
        turns++;
        return systemTimers.after(delayMs, callback);
      },
    };
    const store = await bench.open({ timers });
    const hands = handsOf(store);
    const path = join(bench.folder, "escapement.db-wal");
    await hands.scheduled();
    const alone = statSync(path).size;
    await hands.scheduled();
    const oneMore = statSync(path).size - alone;
    turns = 0;
    await Promise.all(Array.from({ length: 50 }, () => hands.schedule(hands.message())));
    expect(turns).toBe(1);
    // Fifty commits would have written each page they touch fifty times.
    expect(statSync(path).size - alone - oneMore).toBeLessThan(10 * oneMore);
  });

  it("forgets what has ended, in steps, also when nothing but its health is asked for", async () => {
    await using bench = new SqliteBench();
    const store = await bench.open({ dedupeWindowMs: durationMs(1_000) });
    const hands = handsOf(store);
    const kept = await hands.scheduled();
    for (let i = 0; i < 12; i++) {
      const messages = Array.from({ length: 200 }, () => hands.message());
      await hands.schedule(...messages);
      const ids = messages.map(({ id }) => id);
      await store.cancel(hands.shard, ids, t0);
    }
    bench.nowMs += 1_000;
    for (let i = 0; i < 3; i++) await store.check();
    await store.close();
    const db = new DatabaseSync(join(bench.folder, "escapement.db"));
    expect(db.prepare("SELECT id FROM entry").all()).toEqual([{ id: new Uint8Array(idToBytes(kept.id)) }]);
    expect(db.prepare("SELECT count(*) AS records FROM record").get()).toEqual({ records: 1 });
    db.close();
  });

  it("shows the dead in the order of their dying, not of their acceptance", async () => {
    await using bench = new SqliteBench();
    const hands = handsOf(await bench.open());
    await hands.own();
    const messages = [await hands.scheduled(), await hands.scheduled(), await hands.scheduled()];
    await hands.claimed(...messages);
    for (const [i, message] of messages.toReversed().entries()) await hands.buryClaimed(message, at(i));
    const expected = messages.toReversed().map(({ id }) => id);
    for (const limit of [1, 2, 3, 4]) expect(await hands.deadIds(limit)).toEqual(expected);
  });
});
