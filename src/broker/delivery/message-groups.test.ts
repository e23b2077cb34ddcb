import { beforeEach, describe, expect, it } from "vitest";
import { message, Stage } from "./testing/stage.ts";

let stage: Stage;
beforeEach(() => {
  stage = new Stage();
});

describe("message groups", () => {
  const send = async (...names: string[]) => {
    for (const name of names) await stage.send(name, { messageGroup: name[0]! });
  };

  it("only the head of each is out; its end lets the next one go", async () => {
    await send("a1", "a2", "b1", "a3", "b2");
    await stage.send("free");
    const heads = await stage.pop();
    expect(heads.map(({ message: { messageId } }) => messageId)).toEqual(["a1", "b1", "free"]);
    expect(await stage.ids()).toEqual([]);
    await stage.ack([heads[0]!]);
    const second = await stage.pop();
    expect(second.map(({ message: { messageId }, attempt }) => [messageId, attempt])).toEqual([["a2", 1]]);
    await stage.ack(second);
    expect(await stage.ids()).toEqual(["a3"]);
  });

  it("a failure blocks its own group only, and comes again first", async () => {
    await send("a1", "a2", "b1", "b2");
    const [, b1] = await stage.pop();
    await stage.ack([b1!]);
    expect(await stage.ids()).toEqual(["b2"]);
    await stage.time.pass(10_000);
    expect(await stage.ids()).toEqual(["a1", "b2"]);
  });

  it("the head's acknowledgement wakes who waits", async () => {
    await send("a1", "a2");
    const heads = await stage.pop();
    const waiting = stage.poll();
    await stage.ack(heads);
    expect((await waiting).map(({ message: { messageId } }) => messageId)).toEqual(["a2"]);
  });

  it("a dead head lets the next one go", async () => {
    stage.attemptsMax = 1;
    await send("a1", "a2");
    await stage.pop();
    await stage.time.pass(10_000);
    await stage.ids();
    expect(await stage.ids()).toEqual(["a2"]);
    expect(stage.buried).toEqual([{ group: "g", id: "a1" }]);
  });

  it("remembers only so many behind a busy group; then the queue waits, and nothing is lost", async () => {
    const many = stage.limits.skippedMax + 50;
    await stage.store.append(
      "t",
      0,
      Array.from({ length: many }, (_, i) => message(`${i}`, "t", { messageGroup: "a" })),
    );
    await stage.send("behind");
    let out = await stage.pop();
    expect(stage.deliveries.progress("g", "t")).toMatchObject({ waiting: many, out: 1 });
    const order: string[] = [];
    for (let i = 0; i < many; i++) {
      order.push(...out.map(({ message: { messageId } }) => messageId));
      await stage.ack(out);
      out = await stage.pop();
    }
    expect(order.filter((id) => id !== "behind")).toEqual(Array.from({ length: many }, (_, i) => `${i}`));
    // It went on as soon as there was room to remember those before it.
    expect(order.indexOf("behind")).toBe(50);
  });
});
