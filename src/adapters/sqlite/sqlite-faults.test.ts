import { copyFileSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { describe, expect, it } from "vitest";
import type { DelayStore } from "../../delay/delay-store.port.ts";
import { at, expectSame, StoreHands, t0 } from "../../delay/delay-store-hands.ts";
import { IdList } from "../../message/id-list.ts";
import type { DelayedMessage } from "../../message/message.ts";
import { durationMs, hour } from "../../message/time.ts";
import { SqliteBench } from "./testing/sqlite-bench.ts";

const handsOf = (store: DelayStore) => new StoreHands({ store, close: () => store.close() });
const refusing = { name: "EscapementError", code: "store_refusing" };
const big = (fill: number, bytes = 100_000) => Buffer.alloc(bytes, fill);

describe("the sqlite store over a restart", () => {
  it("P1: keeps everything: what waits, is out, is dead, has ended, its groups, counts, epochs and topics", async () => {
    await using bench = new SqliteBench();
    const first = await bench.open();
    const hands = handsOf(first);
    await hands.own();
    const waiting = await hands.scheduled({ deliverAtMs: at(hour), body: big(7), properties: new Map([["a", "ü"]]) });
    const out = await hands.bring("claimed");
    const dead = await hands.bring("dead");
    const delivered = await hands.bring("delivered");
    const group = [hands.grouped("g"), hands.grouped("g", { deliverAtMs: at(1) })];
    await hands.schedule(...group);
    await first.topicMemory.remember("orders");
    const ids = [waiting, out, dead, delivered, ...group].map(({ id }) => id);
    const known = await first.get(hands.shard, ids, t0);
    const near = await hands.near();
    const { owner: _gone, ...stats } = await first.stats(hands.shard, t0);

    const second = await bench.reopen(first);
    const again = handsOf(second);
    expect(await second.get(hands.shard, ids, t0)).toEqual(known);
    expectSame((await again.get(waiting))?.message, waiting);
    expect(await again.near()).toEqual(near);
    expect(await second.stats(hands.shard, t0)).toEqual({ ...stats, owner: undefined });
    expect(await second.topicMemory.known()).toEqual(["orders"]);
    // The process before is gone for sure, so nobody waits for its lease.
    expect(await again.own("node-b")).toBe(hands.epoch + 1);
    expect(await again.recover()).toBe(1);
    expect((await again.claim([out])).claimed[0]?.attempt).toBe(2);
    await again.claimed(group[0]!);
    expect((await again.delivered(group[0]!)).released).toMatchObject([{ id: group[1]!.id }]);
  });

  it("refuses another number of shards than it was made with", async () => {
    await using bench = new SqliteBench();
    await (await bench.open({ shardCount: 8 })).close();
    await expect(bench.open({ shardCount: 16 })).rejects.toThrow("SHARDS is 16");
    await (await bench.open({ shardCount: 8 })).close();
  });

  it("answers what was asked before it was closed, and refuses what comes after", async () => {
    await using bench = new SqliteBench();
    const store = await bench.open();
    const hands = handsOf(store);
    const message = hands.message();
    const scheduled = store.schedule(hands.shard, [{ message }], t0);
    await store.close();
    await store.close();
    expect((await scheduled)[0]?.outcome).toBe("scheduled");
    await expect(hands.get(message)).rejects.toMatchObject({ code: "store_unavailable" });
    expectSame((await handsOf(await bench.open()).get(message))?.message, message);
  });
});

describe("the sqlite store refuses to open", () => {
  it("a file that is open already", async () => {
    await using bench = new SqliteBench();
    const store = await bench.open();
    await expect(bench.open()).rejects.toThrow(expect.objectContaining(refusing));
    await expect(bench.open()).rejects.toThrow("is open in another process");
    await bench.reopen(store);
  });

  it("a file of a newer program, and leaves it as it is", async () => {
    await using bench = new SqliteBench();
    await (await bench.open()).close();
    const path = join(bench.folder, "escapement.db");
    const db = new DatabaseSync(path);
    db.exec("PRAGMA user_version = 999");
    db.close();
    const before = readFileSync(path);
    await expect(bench.open()).rejects.toThrow(expect.objectContaining(refusing));
    await expect(bench.open()).rejects.toThrow("newer program (version 999");
    expect(readFileSync(path).equals(before)).toBe(true);
  });

  it("a folder that cannot be made, and a file that is no database", async () => {
    await using bench = new SqliteBench();
    writeFileSync(join(bench.folder, "file"), "x");
    await expect(bench.open({ folder: join(bench.folder, "file", "data") })).rejects.toThrow(
      "cannot be made (ENOTDIR)",
    );
    writeFileSync(join(bench.folder, "escapement.db"), "not a database ".repeat(1_000));
    await expect(bench.open()).rejects.toThrow(expect.objectContaining(refusing));
    await expect(bench.open()).rejects.toThrow("is damaged");
  });

  it("a file whose tables are damaged", async () => {
    await using bench = new SqliteBench();
    const store = await bench.open();
    const hands = handsOf(store);
    for (let i = 0; i < 20; i++) await hands.schedule(...Array.from({ length: 100 }, () => hands.message()));
    await store.close();
    const path = join(bench.folder, "escapement.db");
    const bytes = readFileSync(path);
    // Every page but the first few loses its head: no tree holds together.
    for (let page = 8; page < bytes.length / 4_096; page++) bytes.fill(0xa5, page * 4_096, page * 4_096 + 64);
    writeFileSync(path, bytes);
    await expect(bench.open()).rejects.toThrow("is damaged");
  });

  it("a log with a flipped bit in the middle, which would take back what was acknowledged after it", async () => {
    await using bench = new SqliteBench();
    await using copy = new SqliteBench();
    const store = await bench.open();
    const hands = handsOf(store);
    const messages: DelayedMessage[] = [];
    for (let i = 0; i < 10; i++) messages.push(await hands.scheduled());
    for (const file of ["escapement.db", "escapement.db-wal"]) {
      copyFileSync(join(bench.folder, file), join(copy.folder, file));
    }
    const path = join(copy.folder, "escapement.db-wal");
    const whole = readFileSync(path);
    const frames = (whole.length - 32) / (24 + 4_096);
    expect(frames).toBeGreaterThan(20);

    const flipped = Buffer.from(whole);
    flipped[32 + Math.floor(frames / 2) * (24 + 4_096) + 2_000]! ^= 4;
    writeFileSync(path, flipped);
    await expect(copy.open()).rejects.toThrow("escapement.db-wal is damaged");

    // A torn tail is no damage: whatever it was, it was not acknowledged.
    const torn = Buffer.from(whole);
    torn[torn.length - 5]! ^= 4;
    writeFileSync(path, torn);
    const reopened = await copy.open();
    expect((await handsOf(reopened).get(messages[8]!))?.state).toBe("scheduled");
    await reopened.close();
    await store.close();
  });
});

describe("the sqlite store on bad days", () => {
  it("never hands out a body that is not what was accepted: a flipped bit sets the message aside", async () => {
    await using bench = new SqliteBench();
    const first = await bench.open();
    const hands = handsOf(first);
    const [small, large] = [hands.message({ body: Buffer.from("find me small") }), hands.message({ body: big(0xc3) })];
    const sound = hands.message();
    await hands.schedule(small, large, sound);
    await first.close();
    const path = join(bench.folder, "escapement.db");
    const bytes = readFileSync(path);
    bytes[bytes.indexOf("find me small") + 3]! ^= 1;
    bytes[bytes.indexOf(big(0xc3, 1_000)) + 500]! ^= 0x80;
    writeFileSync(path, bytes);

    const store = await bench.open();
    const again = handsOf(store);
    await again.own();
    expect(await again.get(small)).toMatchObject({ state: "scheduled", reason: { code: "record_damaged" } });
    expect((await again.get(small))?.message).toBeUndefined();
    await expect(again.reschedule(small, { deliverAtMs: at(1) })).rejects.toMatchObject(refusing);
    const { claimed, gone } = await again.claim([small, large, sound]);
    expect([claimed.map(({ id }) => id), gone]).toEqual([[sound.id], 2]);
    expect(new Set(await again.deadIds())).toEqual(new Set([small.id, large.id]));
    expect((await again.get(large))?.reason?.code).toBe("record_damaged");
    expect(await again.near()).toEqual([]);
    expect((await again.scheduleOne(small, { onConflict: "replace" })).outcome).toBe("replaced");
    expectSame((await again.claim([small])).claimed[0], { ...small, attempt: 1 });
  });

  it("P2: a due that is not the one in the record is not believed", async () => {
    await using bench = new SqliteBench();
    const first = await bench.open();
    const message = await handsOf(first).scheduled({ deliverAtMs: at(hour) });
    await first.close();
    const db = new DatabaseSync(join(bench.folder, "escapement.db"));
    db.exec(`UPDATE entry SET due = ${t0}; UPDATE due SET due = ${t0}`);
    db.close();
    const hands = handsOf(await bench.open());
    await hands.own();
    expect(await hands.claim([message])).toMatchObject({ claimed: [], gone: 1 });
    expect(await hands.deadIds()).toEqual([message.id]);
  });

  it("full, it refuses and loses nothing; delivering goes on, and accepting when there is room again", async () => {
    await using bench = new SqliteBench();
    const store = await bench.open({ fileBytesMax: 3_000_000, dedupeWindowMs: durationMs(1_000) });
    const hands = handsOf(store);
    await hands.own();
    const accepted: DelayedMessage[] = [];
    let refusal: unknown;
    while (refusal === undefined && accepted.length < 1_000) {
      const several = [1, 2, 3].map((fill) => hands.message({ body: big(fill, 50_000) }));
      const answers = await Promise.allSettled(several.map((message) => hands.schedule(message)));
      for (const [i, answer] of answers.entries()) {
        if (answer.status === "fulfilled") accepted.push(several[i]!);
        else refusal = answer.reason;
      }
    }
    expect(refusal).toMatchObject({ name: "EscapementError", code: "store_full" });
    expect(accepted.length).toBeGreaterThan(30);
    expect((await hands.near()).sort()).toEqual(accepted.map(({ id }) => id).sort());
    expect((await store.stats(hands.shard, t0)).waitingByTopic.get("orders")).toBe(accepted.length);

    for (const message of accepted.slice(0, 10)) {
      expectSame((await hands.claim([message])).claimed[0], { ...message, attempt: 1 });
      await hands.delivered(message);
    }
    const late = hands.message({ body: big(9, 50_000) });
    await hands.schedule(late);
    expect((await store.check()).problems).toEqual([]);

    const again = handsOf(await bench.reopen(store, { fileBytesMax: 3_000_000 }));
    for (const message of [...accepted.slice(10), late]) expectSame((await again.get(message))?.message, message);
  });

  it("says in its health that it was full, until it is not", async () => {
    await using bench = new SqliteBench();
    const store = await bench.open({ fileBytesMax: 400_000 });
    const hands = handsOf(store);
    await expect(hands.scheduled({ body: big(1, 500_000) })).rejects.toMatchObject({ code: "store_full" });
    expect(await store.check()).toMatchObject({ problems: [], warnings: [expect.stringContaining("no room left")] });
    expect(await store.check()).toMatchObject({ problems: [], warnings: [] });
    await hands.scheduled();
  });

  it("has no time of its own to hold against this machine's clock", async () => {
    await using bench = new SqliteBench();
    expect(await (await bench.open()).check()).not.toHaveProperty("timeMs");
  });

  it("a call that fails takes back itself, and nothing of those that came with it", async () => {
    await using bench = new SqliteBench();
    const store = await bench.open();
    const hands = handsOf(store);
    await hands.own();
    const [a, b, known] = [hands.message(), hands.message(), await hands.scheduled()];
    const answers = await Promise.allSettled([
      hands.schedule(a),
      store.claim(hands.shard, 77, IdList.of([known.id]), t0, 1),
      hands.store.schedule(hands.shard, [{ message: hands.message({ topic: "new" }) }, { message: known }], t0),
      hands.schedule(b),
    ]);
    expect(answers.map(({ status }) => status)).toEqual(["fulfilled", "rejected", "rejected", "fulfilled"]);
    expect(answers[1]).toMatchObject({ reason: { code: "fenced" } });
    expect((await hands.near()).sort()).toEqual([a.id, b.id, known.id].sort());
    // The undone call's topic was forgotten with it, so that it is named again.
    await hands.scheduled({ topic: "new" });
    const { waitingByTopic } = await store.stats(hands.shard, t0);
    expect([...waitingByTopic].sort()).toEqual([
      ["new", 1],
      ["orders", 3],
    ]);
  });

  it("P7: what was claimed and settled beside a call that failed is claimed and settled once", async () => {
    await using bench = new SqliteBench();
    const store = await bench.open();
    const hands = handsOf(store);
    await hands.own();
    const [a, b, c] = [await hands.scheduled(), await hands.scheduled(), await hands.scheduled()];
    await hands.claimed(b, c);
    const answers = await Promise.allSettled([
      hands.claim([a]),
      hands.settle([{ kind: "delivered", id: b.id }]),
      hands.store.schedule(hands.shard, [{ message: a }], t0),
      hands.retry(c, at(5)),
    ]);
    expect(answers.map(({ status }) => status)).toEqual(["fulfilled", "fulfilled", "rejected", "fulfilled"]);
    const stats = await store.stats(hands.shard, t0);
    expect([stats.claimed, stats.dueNow, stats.waitingByTopic.get("orders")]).toEqual([1, 0, 1]);
    const again = handsOf(await bench.reopen(store));
    expect([await again.state(a), await again.state(b), await again.state(c)]).toEqual([
      "claimed",
      "delivered",
      "scheduled",
    ]);
    await again.own();
    expect(await again.recover()).toBe(1);
    const { claimed } = await again.claim([a, b, c], at(5));
    expect(claimed.map(({ id, attempt }) => [id, attempt])).toEqual([
      [a.id, 2],
      [c.id, 2],
    ]);
  });
});
