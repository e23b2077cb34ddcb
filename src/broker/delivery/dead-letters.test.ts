import { beforeEach, describe, expect, it } from "vitest";
import { Stage } from "./testing/stage.ts";

let stage: Stage;
beforeEach(() => {
  stage = new Stage();
});

describe("dead letters", () => {
  it("go to their topic once, after the last attempt, and never come again", async () => {
    stage.attemptsMax = 2;
    await stage.send("m");
    for (const attempt of [1, 2]) {
      expect((await stage.pop())[0]?.attempt).toBe(attempt);
      await stage.time.pass(10_000);
    }
    expect(await stage.ids()).toEqual([]);
    await stage.time.pass(100_000);
    expect(await stage.ids()).toEqual([]);
    expect(stage.buried).toEqual([{ group: "g", id: "m" }]);
    stage.start();
    expect(await stage.ids()).toEqual([]);
  });

  it("are tried again when their topic cannot take them", async () => {
    stage.attemptsMax = 1;
    stage.burying = async () => {
      throw new Error("disk full");
    };
    await stage.send("m");
    await stage.pop();
    await stage.time.pass(10_000);
    expect(await stage.ids()).toEqual([]);
    stage.burying = async () => {};
    const waiting = stage.poll();
    await stage.time.pass(1_000);
    expect(stage.buried).toHaveLength(1);
    await stage.time.pass(20_000);
    expect(await waiting).toEqual([]);
  });

  it("at once when a consumer says so; nobody else gets it meanwhile; a failure leaves it as it was", async () => {
    await stage.send("m");
    const got = await stage.pop();
    stage.burying = () => Promise.reject(new Error("disk full"));
    await expect(stage.deliveries.forwardToDeadLetters("g", "t", got[0]!.handle)).rejects.toThrow("disk full");
    let stored = () => {};
    stage.burying = () =>
      new Promise((resolve) => {
        stored = resolve;
      });
    const forwarded = stage.deliveries.forwardToDeadLetters("g", "t", got[0]!.handle);
    await stage.time.pass(100_000);
    expect(await stage.ids()).toEqual([]);
    expect(await stage.ack(got)).toEqual(["invalid"]);
    stored();
    expect(await stage.time.now(forwarded)).toBe("ok");
    expect(stage.buried).toEqual([{ group: "g", id: "m" }]);
    expect(stage.deliveries.progress("g", "t")).toMatchObject({ waiting: 0, out: 0 });
  });

  it("that are stored while the broker stops are noted before it has stopped", async () => {
    stage.attemptsMax = 1;
    await stage.send("m");
    await stage.pop();
    await stage.time.pass(10_000);
    let stored = () => {};
    stage.burying = () =>
      new Promise((resolve) => {
        stored = resolve;
      });
    await stage.ids();
    let hasStopped = false;
    const stopped = stage.deliveries.close().then(() => {
      hasStopped = true;
    });
    await stage.time.pass(1_000);
    expect(hasStopped).toBe(false);
    stored();
    await stopped;
    stage.start();
    expect(await stage.ids()).toEqual([]);
    expect(stage.buried).toHaveLength(1);
  });
});
