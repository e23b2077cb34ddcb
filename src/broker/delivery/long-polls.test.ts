import { beforeEach, describe, expect, it } from "vitest";
import { Stage } from "./testing/stage.ts";

let stage: Stage;
beforeEach(() => {
  stage = new Stage();
});

describe("waiting", () => {
  it("ends with the message that arrives", async () => {
    const waiting = stage.poll();
    await stage.time.pass(15_000);
    await stage.send("m");
    expect(await waiting).toHaveLength(1);
    expect(stage.time.pending).toBe(0);
  });

  it("ends with nothing when its time is over", async () => {
    let answer: unknown;
    void stage.poll({ waitMs: 5_000 }).then((deliveries) => {
      answer = deliveries;
    });
    await stage.time.pass(4_999);
    expect(answer).toBeUndefined();
    await stage.time.pass(1);
    expect(answer).toEqual([]);
    expect(stage.time.pending).toBe(0);
  });

  it("ends when an invisibility does", async () => {
    await stage.send("m");
    await stage.pop({ invisibleMs: 3_000 });
    const waiting = stage.poll();
    await stage.time.pass(3_000);
    expect((await waiting)[0]?.attempt).toBe(2);
  });

  it("is fair: first come, first served", async () => {
    const order: number[] = [];
    for (let i = 0; i < 5; i++) void stage.poll({ max: 1 }).then(() => order.push(i));
    for (let i = 0; i < 5; i++) await stage.send(`${i}`);
    await stage.time.pass(0);
    expect(order).toEqual([0, 1, 2, 3, 4]);
  });

  it("costs one timer for a thousand polls, and each gets its answer", async () => {
    const answers = Array.from({ length: 1_000 }, (_, i) =>
      stage.poll({ group: `g${i % 10}`, topic: `t${i % 7}`, waitMs: 20_000 + i }),
    );
    expect(stage.time.pending).toBe(1);
    const before = stage.time.timersSet;
    await stage.time.pass(19_999);
    expect(stage.time.timersSet).toBe(before);
    await stage.send("m", { topic: "t3" });
    await stage.time.pass(2_000);
    const all = await Promise.all(answers);
    expect(all.flat()).toHaveLength(10);
    expect(stage.time.pending).toBe(0);
  });

  it("an abandoned poll takes nothing", async () => {
    const abort = new AbortController();
    const gone = stage.poll({}, abort.signal);
    const next = stage.poll();
    abort.abort();
    await stage.send("m");
    expect(await gone).toEqual([]);
    expect(await next).toHaveLength(1);
  });

  it("what a poll was about to return when its client vanished goes to the next, the attempt is not counted", async () => {
    const abort = new AbortController();
    const gone = stage.poll({}, abort.signal);
    const next = stage.poll();
    void stage.send("m");
    abort.abort();
    expect(await gone).toEqual([]);
    expect((await next).map(({ attempt }) => attempt)).toEqual([1]);
    stage.start();
    await stage.time.pass(10_000);
    expect((await stage.pop())[0]?.attempt).toBe(2);
  });

  it("ends with the broker", async () => {
    const waiting = stage.poll();
    await stage.deliveries.close();
    expect(await waiting).toEqual([]);
    await expect(stage.poll()).rejects.toThrow("stopping");
    expect(stage.time.pending).toBe(0);
  });

  it("is refused while messages cannot be read, and whoever asks then gets them", async () => {
    await stage.send("before");
    const waiting = stage.poll();
    expect(await waiting).toHaveLength(1);
    const refused = [stage.poll(), stage.poll()];
    stage.store.failure = Object.assign(new Error("EIO: i/o error, read '/a/secret/path'"), { code: "EIO" });
    // The send itself went well.
    expect(await stage.send("m")).toBe(1);
    for (const poll of refused) await expect(poll).rejects.toThrow("messages cannot be read (EIO)");
    await expect(stage.pop()).rejects.toThrow("cannot be read");
    stage.store.failure = undefined;
    expect(await stage.ids()).toEqual(["m"]);
    expect(stage.logged.filter(({ text }) => text.includes("cannot be read"))).toHaveLength(2);
  });

  it("for a topic that has just been deleted is quiet", async () => {
    await stage.send("m");
    await stage.pop({ invisibleMs: 1_000 });
    const waiting = stage.poll();
    stage.queueCount = 0;
    const before = stage.time.timersSet;
    await stage.time.pass(10_000);
    expect(stage.time.timersSet - before).toBeLessThan(5);
    await stage.time.now(stage.deliveries.forgetTopic("t"));
    expect(await waiting).toEqual([]);
  });
});
