import { describe, expect, it } from "vitest";
import { Prng } from "../../../test/sim/prng.ts";
import { readRecord } from "./progress-record.ts";
import { MemoryLog } from "./testing/memory-log.ts";
import { message, Stage } from "./testing/stage.ts";

/** A day that ends suddenly, with what its journal held whenever something was answered. */
const eventfulDay = async (seed: number) => {
  const random = new Prng(seed);
  const stage = new Stage(seed);
  stage.queueCount = 2;
  const acknowledged = new Map<string, number>();
  const out: { id: string; handle: string }[] = [];
  for (let i = 0; i < 40; i++) {
    const messageGroup = random.chance(0.5) ? random.pick(["a", "b"]) : undefined;
    const queueId = messageGroup === "b" ? 1 : 0;
    await stage.send(`${i}`, { queueId, ...(messageGroup === undefined ? {} : { messageGroup }) });
  }
  for (let i = 0; i < 60 && acknowledged.size < 30; i++) {
    for (const {
      message: { messageId: id },
      handle,
    } of await stage.pop({ max: random.whole(1, 4), invisibleMs: 200 })) {
      out.push({ id, handle });
    }
    const [some] = out.splice(random.whole(0, Math.max(0, out.length - 1)), 1);
    if (some === undefined) continue;
    if (random.chance(0.2)) await stage.deliveries.changeInvisible("g", "t", some.handle, random.whole(0, 100));
    const [result] = await stage.time.now(stage.deliveries.acknowledge("g", "t", [some.handle]));
    if (result === "ok") acknowledged.set(some.id, stage.journal.records.length);
    await stage.time.pass(random.whole(0, 20));
  }
  expect(acknowledged.size).toBeGreaterThan(10);
  return { stage, acknowledged };
};

/** All that a group still gets, with the attempt at which it comes first. */
const whatComes = async (stage: Stage): Promise<Map<string, number>> => {
  const came = new Map<string, number>();
  for (let empty = 0; empty < 3; ) {
    const got = await stage.pop();
    for (const {
      message: { messageId },
      attempt,
    } of got)
      if (!came.has(messageId)) came.set(messageId, attempt);
    await stage.ack(got);
    if (got.length > 0) continue;
    empty++;
    await stage.time.pass(200);
  }
  return came;
};

const sorted = (ids: Iterable<string>): string[] => [...ids].sort((a, b) => Number(a) - Number(b));
const all = Array.from({ length: 40 }, (_, i) => `${i}`);

describe("a journal that ends anywhere", () => {
  it.each([1, 2, 3])("brings back exactly what was not acknowledged by then: seed %i", async (seed) => {
    const { stage, acknowledged } = await eventfulDay(seed);
    const { records } = stage.journal;
    expect(records.length).toBeGreaterThan(30);
    for (let cut = 0; cut <= records.length; cut++) {
      stage.start(MemoryLog.of(records.slice(0, cut)));
      const done = all.filter((id) => (acknowledged.get(id) ?? Infinity) <= cut);
      expect(sorted((await whatComes(stage)).keys()), `cut after ${cut}`).toEqual(
        sorted(all.filter((id) => !done.includes(id))),
      );
    }
  });

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
  it.each([1, 2])(
    "loses no message; of the acknowledged only those come again that the record named: seed %i",
    async (seed) => {
      const { stage, acknowledged } = await eventfulDay(seed);
      const { records } = stage.journal;
      for (let hole = 0; hole < records.length; hole++) {
        const damaged = readRecord(records[hole]!.record);
        stage.start(MemoryLog.of(records.filter((_, i) => i !== hole)));
        const came = await whatComes(stage);
        expect(
          all.filter((id) => !came.has(id) && !acknowledged.has(id)),
          `lost by hole ${hole}`,
        ).toEqual([]);
        const again = [...came.keys()].filter((id) => acknowledged.has(id));
        if (damaged.kind === "done") expect(again).toHaveLength(damaged.offsets.length);
        else expect(again, `again by hole ${hole}`).toEqual([]);
      }
    },
  );

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

describe("the journal's size", () => {
  it("stays small however much is delivered, and what is old goes", async () => {
    const stage = new Stage();
    let most = 0;
    for (let round = 0; round < 500; round++) {
      await stage.store.append(
        "t",
        0,
        Array.from({ length: 500 }, (_, i) => message(`${round}/${i}`, "t")),
      );
      await stage.ack(await stage.pop({ max: 500 }));
      const { firstPosition, endPosition } = stage.journal;
      most = Math.max(most, endPosition - firstPosition);
    }
    expect(stage.journal.endPosition).toBeGreaterThan(8 << 20);
    expect(most).toBeLessThan(5 << 20);
    stage.start();
    expect(await stage.ids()).toEqual([]);
    expect(stage.deliveries.progress("g", "t").queues[0]).toMatchObject({ done: 250_000, next: 250_000 });
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
