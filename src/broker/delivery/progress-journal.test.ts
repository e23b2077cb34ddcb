import { describe, expect, it } from "vitest";
import { cutEverywhere, damageEverywhere } from "./testing/eventful-day.ts";
import { MemoryLog } from "./testing/memory-log.ts";
import { message, Stage } from "./testing/stage.ts";

describe("a journal that ends anywhere", () => {
  it("brings back exactly what was not acknowledged by then", () => cutEverywhere(1));

  it("keeps attempts, what is out and until when, exactly", async () => {
    const stage = new Stage();
    await stage.send("m");
    for (let attempt = 1; attempt <= 4; attempt++) {
      expect((await stage.pop({ invisibleMs: 1_000 }))[0]?.attempt).toBe(attempt);
      stage.start(MemoryLog.of(stage.journal.records));
      await stage.time.pass(999);
      expect(await stage.ids()).toEqual([]);
      await stage.time.pass(1);
    }
  });
});

describe("a journal with a damaged record", () => {
  it("loses no message; of the acknowledged only those come again that the record named", () => damageEverywhere(2));

  it("says which offsets it knows nothing about", async () => {
    const stage = new Stage();
    for (const id of ["a", "b", "c"]) await stage.send(id);
    for (const _ of "abc") await stage.pop({ max: 1 });
    // The first says that the group exists; the second took "a".
    stage.start(MemoryLog.of(stage.journal.records.filter((_, i) => i !== 1)));
    expect(stage.logged[0]?.fields).toMatchObject({ gaps: [{ group: "g", topic: "t", queueId: 0, from: 0, to: 1 }] });
    expect(await stage.ids()).toEqual(["a"]);
  });

  it("loses no message either when the damage is in a snapshot and nothing older is left", async () => {
    const stage = new Stage();
    stage.limits = { skippedMax: 10_000, heldMax: 10_000 };
    stage.start();
    await stage.store.append(
      "t",
      0,
      Array.from({ length: 4_000 }, (_, i) => message(`${i}`, "t")),
    );
    const got = await stage.pop({ max: 4_000, invisibleMs: 100 });
    await stage.ack(got.filter((_, i) => i % 2 === 0));
    const before = stage.journal.endPosition;
    stage.start();
    const snapshot = stage.journal.records.filter(({ position }) => position >= before);
    expect(snapshot.length).toBe(4);
    for (let hole = 0; hole < snapshot.length; hole++) {
      stage.start(MemoryLog.of(snapshot.filter((_, i) => i !== hole)));
      await stage.time.pass(100);
      const came = new Set<string>();
      for (;;) {
        const more = await stage.pop({ max: 4_000, invisibleMs: 1_000_000 });
        for (const {
          message: { messageId },
        } of more)
          came.add(messageId);
        if (more.length === 0) break;
      }
      expect(got.filter((_, i) => i % 2 === 1).every(({ message: { messageId } }) => came.has(messageId))).toBe(true);
    }
  });
});

describe("a disk that takes nothing", () => {
  it("is told to who acknowledges and who asks for more; when it works again, so does all, and nothing was forgotten", async () => {
    const stage = new Stage();
    for (const id of ["a", "b", "c"]) await stage.send(id);
    const [a, b] = await stage.pop({ max: 2 });
    stage.journal.failure = new Error("no space left");
    await expect(stage.ack([a!])).rejects.toMatchObject({
      status: 50001,
      message: expect.stringMatching(/no space left/),
    });
    await expect(stage.ack([b!])).rejects.toMatchObject({ status: 50001 });
    await expect(stage.poll()).rejects.toMatchObject({ status: 50001 });
    await stage.time.pass(5_000);
    await expect(stage.poll()).rejects.toMatchObject({ status: 50001 });
    expect(stage.logged.filter(({ text }) => /cannot be written/.test(text))).toHaveLength(1);
    stage.journal.failure = undefined;
    await stage.time.pass(1_000);
    expect(await stage.ack([b!])).toEqual(["ok"]);
    stage.start(MemoryLog.of(stage.journal.records));
    expect(await stage.ids()).toEqual(["c"]);
    await stage.time.pass(10_000);
    expect(await stage.ids()).toEqual(["c"]);
  });

  it("leaves waiting polls waiting, and gives them what came meanwhile", async () => {
    const stage = new Stage();
    await stage.send("a");
    const got = await stage.pop();
    const waiting = stage.poll();
    stage.journal.failure = new Error("no space left");
    await stage.ack(got).catch(() => {});
    await stage.send("b");
    stage.journal.failure = undefined;
    await stage.time.pass(1_000);
    expect((await waiting).map(({ message: { messageId } }) => messageId)).toEqual(["b"]);
  });
});
