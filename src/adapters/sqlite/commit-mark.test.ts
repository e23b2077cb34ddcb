import { copyFileSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { DelayStore } from "../../delay/delay-store.port.ts";
import { StoreHands } from "../../delay/delay-store-hands.ts";
import type { DelayedMessage } from "../../message/message.ts";
import { CommitMark } from "./commit-mark.ts";
import { SqliteBench } from "./testing/sqlite-bench.ts";

const handsOf = (store: DelayStore) => new StoreHands({ store, close: () => store.close() });
const files = ["escapement.db", "escapement.db-wal", "escapement.db-mark"] as const;
const frameBytes = 24 + 4_096;

/** Ten commits of a message each, as they lie on the disk when the process is killed, in a folder of their own. */
const killed = async (): Promise<{ copy: SqliteBench; messages: DelayedMessage[] } & AsyncDisposable> => {
  await using bench = new SqliteBench();
  const copy = new SqliteBench();
  const hands = handsOf(await bench.open());
  const messages: DelayedMessage[] = [];
  for (let i = 0; i < 10; i++) messages.push(await hands.scheduled());
  for (const file of files) copyFileSync(join(bench.folder, file), join(copy.folder, file));
  return { copy, messages, [Symbol.asyncDispose]: () => copy[Symbol.asyncDispose]() };
};

const refused = async (copy: SqliteBench): Promise<void> => {
  for (let again = 0; again < 2; again++) {
    await expect(copy.open()).rejects.toMatchObject({ code: "store_refusing" });
    await expect(copy.open()).rejects.toThrow("was acknowledged: its log was cut off or removed");
  }
};

describe("P1: what was acknowledged and is no longer there is not passed over in silence", () => {
  it("opens what a killed process left, with all of it", async () => {
    await using at = await killed();
    const hands = handsOf(await at.copy.open());
    expect((await hands.near()).length).toBe(10);
  });

  it.each([1, 2, 40])("refuses a log that lost %i pages at its end", async (frames) => {
    await using at = await killed();
    const path = join(at.copy.folder, files[1]);
    truncateSync(path, readFileSync(path).length - frames * frameBytes);
    await refused(at.copy);
  });

  it("refuses a log whose very last commit is damaged", async () => {
    await using at = await killed();
    const path = join(at.copy.folder, files[1]);
    const bytes = readFileSync(path);
    bytes[bytes.length - 5]! ^= 4;
    writeFileSync(path, bytes);
    await refused(at.copy);
  });

  it("refuses a file without its log, and an older file", async () => {
    await using at = await killed();
    rmSync(join(at.copy.folder, files[1]));
    await refused(at.copy);
    await using another = await killed();
    const kept = readFileSync(join(another.copy.folder, files[0]));
    await (await another.copy.open()).close();
    writeFileSync(join(another.copy.folder, files[0]), kept);
    await refused(another.copy);
  });

  it("goes on with what is left once the mark was deleted, and marks anew", async () => {
    await using at = await killed();
    const path = join(at.copy.folder, files[1]);
    truncateSync(path, readFileSync(path).length - frameBytes);
    await refused(at.copy);
    rmSync(join(at.copy.folder, files[2]));
    const store = await at.copy.open();
    const hands = handsOf(store);
    expect((await hands.near()).length).toBe(9);
    expect((await hands.get(at.messages[9]!)) === undefined).toBe(true);
    await new StoreHands({ store, close: () => store.close() }, 2).scheduled();
    await store.close();
    expect(readFileSync(join(at.copy.folder, files[2])).length).toBeGreaterThan(0);
    await at.copy.open();
  });

  it("a mark that is behind, as after a power cut, or half written, is believed as far as it goes", async () => {
    await using at = await killed();
    const path = join(at.copy.folder, files[2]);
    const mark = new CommitMark(path);
    const last = mark.read();
    expect(last).toBeGreaterThan(9);
    mark.write(last + 1);
    mark.close();
    await refused(at.copy);
    // The place that said so is torn; the other one has the commit before.
    const torn = readFileSync(path);
    torn[((last + 1) % 2) * 16 + 3]! ^= 1;
    writeFileSync(path, torn);
    expect((await handsOf(await at.copy.open()).near()).length).toBe(10);
  });

  it("an empty mark or zeros are none", () => {
    const bench = new SqliteBench();
    const path = join(bench.folder, "mark");
    const fresh = new CommitMark(path);
    expect(fresh.read()).toBe(0);
    writeFileSync(path, Buffer.alloc(32));
    expect(fresh.read()).toBe(0);
    fresh.close();
    rmSync(bench.folder, { recursive: true });
  });
});
