import { beforeEach, describe, expect, it } from "vitest";
import { MemoryLog } from "./testing/memory-log.ts";
import { message, Stage } from "./testing/stage.ts";

let stage: Stage;
beforeEach(() => {
  stage = new Stage();
});

const tags = (...names: string[]) => ({ tags: new Set(names) });

describe("receiving", () => {
  it("gives a message to one consumer of a group, and to every group", async () => {
    await stage.send("m");
    expect(await stage.ids({ group: "a" })).toEqual(["m"]);
    expect(await stage.ids({ group: "a" })).toEqual([]);
    expect(await stage.ids({ group: "b" })).toEqual(["m"]);
  });

  it("returns at once what has just been stored, also when it may not wait", async () => {
    expect(await stage.ids()).toEqual([]);
    await stage.send("m");
    const received = await stage.poll({ waitMs: 0 });
    expect(received.map(({ message: { messageId }, attempt }) => [messageId, attempt])).toEqual([["m", 1]]);
  });

  it("starts a new group at the first message there is", async () => {
    for (const id of ["a", "b", "c"]) await stage.send(id);
    stage.store.removeBefore("t", 0, 1);
    expect(await stage.ids()).toEqual(["b", "c"]);
    expect(stage.logged).toEqual([]);
  });

  it("lets the queues take turns, none starves", async () => {
    stage.queueCount = 3;
    for (let i = 0; i < 30; i++) await stage.send(`${i}`, { queueId: i % 3 });
    const firsts = [];
    for (let i = 0; i < 3; i++) firsts.push((await stage.pop({ max: 1 }))[0]!.message.queueId);
    expect(new Set(firsts).size).toBe(3);
    expect((await stage.ids()).length + 3).toBe(30);
  });

  it("takes what comes again before what is new, with attempt + 1", async () => {
    for (const id of ["a", "b", "c"]) await stage.send(id);
    await stage.pop({ max: 2 });
    await stage.time.pass(10_000);
    const again = await stage.pop();
    expect(again.map(({ message: { messageId }, attempt }) => [messageId, attempt])).toEqual([
      ["a", 2],
      ["b", 2],
      ["c", 1],
    ]);
  });

  it("never shows a message before its invisibility is over, whatever the clock is set to", async () => {
    await stage.send("m");
    await stage.pop({ invisibleMs: 10_000 });
    stage.time.wallOffsetMs += 3_600_000;
    await stage.time.pass(9_999);
    expect(await stage.ids()).toEqual([]);
    stage.time.wallOffsetMs -= 7_200_000;
    await stage.time.pass(1);
    expect(await stage.ids()).toEqual(["m"]);
  });

  it("bounds an answer by bytes; a message larger than that goes alone", async () => {
    for (const id of ["a", "b", "c"]) {
      await stage.store.append("t", 0, [{ ...message(id, "t"), body: Buffer.alloc(3 << 20) }]);
    }
    expect(await stage.ids()).toEqual(["a"]);
    await stage.store.append("t", 0, [{ ...message("d", "t"), body: Buffer.alloc(5 << 20) }]);
    expect(await stage.ids()).toEqual(["b"]);
    expect(await stage.ids()).toEqual(["c"]);
    expect(await stage.ids()).toEqual(["d"]);
  });

  it("gives no new ones of a queue to a group that holds more than it may, and goes on after", async () => {
    const many = stage.limits.heldMax + 5;
    await stage.store.append(
      "t",
      0,
      Array.from({ length: many }, (_, i) => message(`${i}`, "t")),
    );
    const got = await stage.pop({ max: many });
    expect(got).toHaveLength(stage.limits.heldMax);
    expect(await stage.ids()).toEqual([]);
    await stage.ack(got.slice(0, 3));
    expect(await stage.ids()).toHaveLength(3);
  });
});

describe("acknowledging", () => {
  it("ends it: it never comes again", async () => {
    await stage.send("m");
    expect(await stage.ack(await stage.pop())).toEqual(["ok"]);
    await stage.time.pass(1_000_000);
    expect(await stage.ids()).toEqual([]);
    expect(stage.deliveries.consumedUpTo("t", 0)).toBe(1);
  });

  it("is answered only when it is on the disk", async () => {
    await stage.send("m");
    const received = await stage.pop();
    let reached = () => {};
    stage.journal.slow = new Promise((resolve) => {
      reached = resolve;
    });
    let answered = false;
    const answer = stage.deliveries.acknowledge("g", "t", [received[0]!.handle]).then(() => {
      answered = true;
    });
    await stage.time.pass(1_000);
    expect(answered).toBe(false);
    reached();
    await answer;
  });

  it("writes all acknowledgements of one moment with one append", async () => {
    for (let i = 0; i < 32; i++) await stage.send(`${i}`);
    const received = await stage.pop();
    const before = stage.journal.appends;
    const answers = received.map(({ handle }) => stage.deliveries.acknowledge("g", "t", [handle]));
    await stage.time.now(Promise.all(answers));
    expect(stage.journal.appends - before).toBe(1);
  });

  it("takes no outdated handle: invisibility over, delivered again, changed", async () => {
    await stage.send("m");
    const first = await stage.pop();
    await stage.time.pass(10_000);
    expect(await stage.ack(first)).toEqual(["invalid"]);
    const second = await stage.pop();
    expect(await stage.ack(first)).toEqual(["invalid"]);
    const handle = await stage.deliveries.changeInvisible("g", "t", second[0]!.handle, 5_000);
    expect(await stage.ack(second)).toEqual(["invalid"]);
    const changed = [{ ...second[0]!, handle: handle! }];
    expect(await stage.ack(changed)).toEqual(["ok"]);
  });

  it("takes a second acknowledgement of the same message, whose first answer may have been lost", async () => {
    await stage.send("m");
    const first = await stage.pop();
    await stage.time.pass(10_000);
    const second = await stage.pop();
    expect(await stage.ack(second)).toEqual(["ok"]);
    expect(await stage.ack(second)).toEqual(["ok"]);
    expect(await stage.ack(first)).toEqual(["ok"]);
    expect(await stage.deliveries.changeInvisible("g", "t", second[0]!.handle, 0)).toBeUndefined();
    await stage.time.pass(60_000);
    expect(await stage.pop()).toEqual([]);
  });

  it("takes no handle of another group, topic or message, and none made up", async () => {
    await stage.send("m");
    await stage.send("n");
    await stage.send("m", { topic: "u" });
    const [own] = await stage.pop({ max: 1 });
    const [other] = await stage.pop({ group: "h", max: 1 });
    const [foreign] = await stage.pop({ topic: "u" });
    const flipped = Array.from(
      own!.handle,
      (letter, i) => own!.handle.slice(0, i) + (letter === "B" ? "C" : "B") + own!.handle.slice(i + 1),
    );
    const hostile = [
      "",
      "x",
      "\0",
      "é".repeat(10),
      "A".repeat(20),
      "_".repeat(20),
      "A".repeat(1e6),
      `${own!.handle}=`,
      own!.handle.slice(1),
      ` ${own!.handle.slice(1)}`,
      "__proto__",
      other!.handle,
      foreign!.handle,
    ];
    const results = await stage.time.now(stage.deliveries.acknowledge("g", "t", [...hostile, ...flipped]));
    expect(new Set(results)).toEqual(new Set(["invalid"]));
    for (const handle of hostile) {
      expect(await stage.deliveries.changeInvisible("g", "t", handle, 1)).toBeUndefined();
      expect(await stage.deliveries.forwardToDeadLetters("g", "t", handle)).toBe("invalid");
    }
    expect(await stage.deliveries.acknowledge("nobody", "nowhere", [own!.handle])).toEqual(["invalid"]);
    expect(await stage.ack([own!])).toEqual(["ok"]);
  });
});

describe("changing invisibility", () => {
  it("makes it come at the new time, with the next attempt", async () => {
    await stage.send("m");
    const [got] = await stage.pop({ invisibleMs: 60_000 });
    await stage.deliveries.changeInvisible("g", "t", got!.handle, 1_000);
    await stage.time.pass(999);
    expect(await stage.ids()).toEqual([]);
    await stage.time.pass(1);
    expect((await stage.pop())[0]?.attempt).toBe(2);
  });

  it("to nothing wakes who waits", async () => {
    await stage.send("m");
    const [got] = await stage.pop();
    const waiting = stage.poll();
    await stage.deliveries.changeInvisible("g", "t", got!.handle, 0);
    expect((await stage.time.now(waiting))[0]?.attempt).toBe(2);
  });
});

describe("an invisible duration that is none", () => {
  it.each([-1, Number.NaN, Infinity, 2 ** 50])("%d is refused before anything is taken", async (invisibleMs) => {
    await stage.send("m");
    await expect(stage.poll({ invisibleMs })).rejects.toMatchObject({ status: 40000 });
    const got = await stage.pop();
    expect(got[0]?.attempt).toBe(1);
    await expect(stage.deliveries.changeInvisible("g", "t", got[0]!.handle, invisibleMs)).rejects.toMatchObject({
      status: 40000,
    });
    expect(await stage.ack(got)).toEqual(["ok"]);
  });
});

describe("tags", () => {
  it("gives what is wanted, and is done with the rest without reading it", async () => {
    for (let i = 0; i < 100; i++) await stage.send(`${i}`, { tag: i % 10 === 3 ? "a" : i % 10 === 7 ? "b" : "c" });
    await stage.send("untagged");
    expect(await stage.ids({ filter: tags("a", "b") })).toHaveLength(20);
    expect(stage.store.reads).toBe(20);
    expect(await stage.ids()).toEqual([]);
  });

  it("looks at the tag itself: hashes may be equal", async () => {
    await stage.send("no", { tag: "BB" });
    await stage.send("yes", { tag: "Aa" });
    expect(await stage.ids({ filter: tags("Aa") })).toEqual(["yes"]);
  });

  it("finds the one that is wanted behind very many that are not, without waiting for another call", async () => {
    await stage.store.append(
      "t",
      0,
      Array.from({ length: 20_000 }, (_, i) => message(`${i}`, "t", { tag: "no" })),
    );
    await stage.send("m", { tag: "yes" });
    expect(await stage.ids({ filter: tags("yes"), waitMs: 0 })).toEqual(["m"]);
    expect(await stage.ids({ filter: tags("yes"), waitMs: 0 })).toEqual([]);
  });
});

describe("retention", () => {
  it("that takes what a group has not consumed is said once, and the group goes on behind it", async () => {
    await stage.send("a");
    await stage.pop();
    for (const id of ["b", "c", "d"]) await stage.send(id);
    stage.store.removeBefore("t", 0, 3);
    expect(await stage.ids()).toEqual(["d"]);
    await stage.time.pass(10_000);
    expect(await stage.ids()).toEqual(["d"]);
    expect(stage.logged.map(({ fields }) => fields)).toEqual([
      { group: "g", topic: "t", queueId: 0, from: 1, to: 3, lost: 2 },
    ]);
    expect(stage.deliveries.consumedUpTo("t", 0)).toBe(3);
  });

  it("waits for the slowest of all groups that ever asked", async () => {
    expect(stage.deliveries.consumedUpTo("t", 0)).toBeUndefined();
    await stage.ids({ group: "slow" });
    for (const id of ["a", "b"]) await stage.send(id);
    await stage.ack(await stage.pop({ group: "quick" }), "quick");
    expect(stage.deliveries.consumedUpTo("t", 0)).toBe(0);
    stage.start();
    expect(stage.deliveries.consumedUpTo("t", 0)).toBe(0);
    await stage.ack([(await stage.pop({ group: "slow" }))[1]!], "slow");
    expect(stage.deliveries.consumedUpTo("t", 0)).toBe(0);
  });
});

describe("after a restart", () => {
  it("goes on where it was: attempts, what is out, until when, and handles", async () => {
    for (const id of ["a", "b", "c"]) await stage.send(id);
    await stage.pop({ max: 1 });
    await stage.time.pass(10_000);
    const [a, b] = await stage.pop({ max: 2 });
    stage.start();
    expect(await stage.ids()).toEqual(["c"]);
    expect(await stage.ack([b!])).toEqual(["ok"]);
    await stage.time.pass(10_000);
    expect(await stage.ack([a!])).toEqual(["invalid"]);
    const again = await stage.pop();
    expect(again.map(({ message: { messageId }, attempt }) => [messageId, attempt])).toEqual([
      ["a", 3],
      ["c", 2],
    ]);
  });

  it("a clock that was set meanwhile holds nothing back for longer than was asked, nor a message group for ever", async () => {
    await stage.send("a1", { messageGroup: "a" });
    await stage.send("a2", { messageGroup: "a" });
    await stage.pop({ invisibleMs: 10_000 });
    stage.time.wallOffsetMs -= 365 * 24 * 3_600_000;
    stage.start();
    await stage.time.pass(10_000);
    const head = await stage.pop();
    expect(head.map(({ message: { messageId } }) => messageId)).toEqual(["a1"]);
    await stage.ack(head);
    expect(await stage.ids()).toEqual(["a2"]);
  });

  it("a store that lost its end gives what comes there now to every group", async () => {
    for (const id of ["a", "b", "c"]) await stage.send(id);
    await stage.ack(await stage.pop());
    stage.store.cutTo("t", 0, 1);
    stage.start();
    await stage.send("new");
    expect(await stage.ids()).toEqual(["new"]);
    stage.start();
    expect(stage.deliveries.progress("g", "t")).toMatchObject({ waiting: 0, out: 1 });
  });

  it("refuses to guess at what a newer version wrote", () => {
    const journal = new MemoryLog();
    journal.append([Buffer.from([99])]);
    expect(() => stage.start(journal)).toThrow(/position 0: kind 99 .* newer version/);
  });
});

describe("a topic or a group that is deleted", () => {
  it("is forgotten, also after a restart; one of the same name begins anew", async () => {
    for (const group of ["g", "h"]) await stage.ids({ group });
    await stage.send("old");
    for (const group of ["g", "h"]) await stage.ack(await stage.pop({ group }), group);
    const waiting = stage.poll();
    await stage.time.now(stage.deliveries.forgetGroup("g"));
    expect(await waiting).toEqual([]);
    stage.start();
    expect(await stage.ids({ group: "h" })).toEqual([]);
    expect(await stage.ids({ group: "g" })).toEqual(["old"]);
    await stage.time.now(stage.deliveries.forgetTopic("t"));
    stage.start();
    expect(stage.deliveries.consumedUpTo("t", 0)).toBeUndefined();
    expect(await stage.ids({ group: "h" })).toEqual(["old"]);
  });

  it("begins anew for every group also when that cannot be written at the moment", async () => {
    for (const id of ["a", "b", "c"]) await stage.send(id);
    await stage.pop({ max: 2 });
    stage.journal.failure = new Error("the disk is full");
    await stage.pop();
    // As the broker does it: first the messages, then what groups know of them.
    stage.store.cutTo("t", 0, 0);
    await expect(stage.time.now(stage.deliveries.forgetTopic("t"))).rejects.toThrow("disk is full");
    stage.journal.failure = undefined;
    await stage.time.pass(1_000);
    await stage.send("new");
    expect(await stage.ids()).toEqual(["new"]);
    stage.start();
    await stage.time.pass(10_000);
    expect(await stage.ids()).toEqual(["new"]);
  });
});
