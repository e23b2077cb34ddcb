import { statSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { DelayStore } from "../../delay/delay-store.port.ts";
import { StoreHands, t0 } from "../../delay/delay-store-hands.ts";
import type { DelayedMessage } from "../../message/message.ts";
import { durationMs } from "../../message/time.ts";
import { SqliteBench } from "./testing/sqlite-bench.ts";

const big = (fill: number, bytes: number) => Buffer.alloc(bytes, fill);

describe("the sqlite file", () => {
  it("stays as large as what it holds, however much passes through, and shrinks after a flood", async () => {
    await using bench = new SqliteBench();
    const store = await bench.open({ dedupeWindowMs: durationMs(1_000) });
    const hands = new StoreHands({ store, close: () => store.close() });
    await hands.own();
    const path = join(bench.folder, "escapement.db");
    const pass = async (messages: DelayedMessage[]) => {
      await hands.schedule(...messages);
      await hands.claimed(...messages);
      await hands.settle(messages.map(({ id }) => ({ kind: "delivered", id }) as const));
      bench.nowMs += 300;
    };
    const round = async (bytes: number) => {
      await pass(Array.from({ length: 200 }, () => hands.message({ body: big(1, bytes) })));
    };
    const sizes: number[] = [];
    for (let i = 0; i < 90; i++) {
      await round(2_000);
      if (i % 30 === 29) {
        await writtenBack(store);
        sizes.push(statSync(path).size);
      }
    }
    expect(sizes[2]!).toBeLessThan(sizes[0]! * 1.3);

    const many: DelayedMessage[] = [];
    for (let i = 0; i < 6; i++) {
      const messages = Array.from({ length: 200 }, () => hands.message({ body: big(3, 39_000) }));
      await hands.schedule(...messages);
      many.push(...messages);
    }
    await writtenBack(store);
    const flooded = statSync(path).size;
    expect(flooded).toBeGreaterThan(40_000_000);
    for (let i = 0; i < many.length; i += 200) {
      const ids = many.slice(i, i + 200).map(({ id }) => id);
      await store.cancel(hands.shard, ids, t0);
    }
    for (let i = 0; i < 400; i++) await store.check();
    await writtenBack(store);
    expect(statSync(path).size).toBeLessThan(flooded / 1.5);
  });
});

describe("a full disk", () => {
  it("what is stored goes out on the reserve, and nothing is accepted until there is one again", async () => {
    await using bench = new SqliteBench();
    const store = await bench.open({ fileBytesMax: 600_000 });
    const hands = new StoreHands({ store, close: () => store.close() });
    await hands.own();
    await store.check();
    const reserve = join(bench.folder, "escapement.db-reserve");
    expect(statSync(reserve).size).toBe(1024 * 1024);
    const accepted: DelayedMessage[] = [];
    let refusal: unknown;
    while (refusal === undefined && accepted.length < 500) {
      const message = hands.message({ body: big(1, 5_000) });
      await hands.schedule(message).then(
        () => accepted.push(message),
        (error: unknown) => {
          refusal = error;
        },
      );
    }
    expect(refusal).toMatchObject({ code: "store_full" });
    expect(statSync(reserve).size).toBe(0);
    for (const message of accepted) {
      await hands.claimed(message);
      await hands.delivered(message);
    }
    // There is room by now; who filled the disk may take it at any moment.
    await expect(hands.scheduled()).rejects.toMatchObject({ code: "store_full" });
    for (let i = 0; i < 31; i++) {
      expect(await store.check()).toMatchObject({ problems: [], warnings: [expect.stringContaining("no room left")] });
    }
    await store.check();
    await hands.scheduled();
    expect(await store.check()).toMatchObject({ problems: [], warnings: [] });
  });
});

/** Closes nothing: writes enough that SQLite carries the log back into the file. */
const writtenBack = async (store: DelayStore): Promise<void> => {
  const hands = new StoreHands({ store, close: () => store.close() }, 2);
  const id = hands.id();
  for (let i = 0; i < 10; i++) {
    // Pages that do not change are not written again.
    const message = hands.message({ id, body: big(i, 4_000_000) });
    await store.schedule(hands.shard, [{ message, onConflict: "replace" }], t0);
  }
};
