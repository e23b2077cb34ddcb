import { describe, expect, it } from "vitest";
import { code } from "../protocol/messaging-service.ts";
import { Catalog, type CatalogFile } from "./catalog.ts";

/** A file that can be made to fail, and whose writes end when they are told to. */
class Paper implements CatalogFile {
  text: string | undefined;
  saves = 0;
  broken = false;
  hold: Promise<void> = Promise.resolve();

  async load(): Promise<string | undefined> {
    return this.text;
  }

  async save(text: string): Promise<void> {
    this.saves++;
    await this.hold;
    if (this.broken) throw new Error("the disk is full");
    this.text = text;
  }
}

const open = (file: Paper, autoCreate = true) => Catalog.open({ file, autoCreate });

describe("the broker's catalog", () => {
  it("remembers topics and groups over a restart, made by hand or by use", async () => {
    const file = new Paper();
    const first = await open(file);
    await first.createTopic({ name: "steps", type: "FIFO", queues: 2 });
    await first.createGroup({ name: "billing", attemptsMax: 3, orderly: true });
    expect(first.topic("used")).toEqual({ name: "used", type: "MIXED", queues: 4 });
    expect(first.group("reader").attemptsMax).toBe(17);
    await first.saved();
    const second = await open(file, false);
    expect(second.topic("steps")).toEqual({ name: "steps", type: "FIFO", queues: 2 });
    expect(second.topic("used").type).toBe("MIXED");
    expect(second.attemptsMax("billing")).toBe(3);
    expect(second.groups.map(({ name }) => name)).toEqual(["billing", "reader"]);
  });

  it("says what to do about a topic that is not there, and about names that RocketMQ does not take", async () => {
    const catalog = await open(new Paper(), false);
    expect(() => catalog.topic("nowhere")).toThrow(
      expect.objectContaining({
        status: code.topicNotFound,
        message: expect.stringContaining("topics create nowhere"),
      }),
    );
    for (const name of ["", "a b", "ä", "x".repeat(128), "rmq_sys_x", "RMQ_SYS_TRANS_HALF_TOPIC", "../x"])
      expect(() => catalog.topic(name)).toThrow(expect.objectContaining({ status: code.illegalTopic }));
    for (const name of ["", "a b", "CID_RMQ_SYS_TRANS"])
      expect(() => catalog.group(name)).toThrow(expect.objectContaining({ status: code.illegalConsumerGroup }));
  });

  it("gathers changes that come while one is being written into the next", async () => {
    const file = new Paper();
    const catalog = await open(file);
    let release = () => {};
    file.hold = new Promise((resolve) => {
      release = resolve;
    });
    catalog.topic("t0");
    const first = catalog.saved();
    await Promise.resolve().then(() => {});
    for (let i = 1; i <= 50; i++) catalog.topic(`t${i}`);
    release();
    await first;
    await catalog.saved();
    expect(file.saves).toBeLessThanOrEqual(2);
    expect((await open(file)).topics).toHaveLength(51);
  });

  it("tells who made a change that it could not be written, and writes it with the next that can", async () => {
    const file = new Paper();
    const catalog = await open(file);
    file.broken = true;
    await expect(catalog.createTopic({ name: "a", type: "NORMAL", queues: 1 })).rejects.toThrow("disk is full");
    file.broken = false;
    await catalog.createTopic({ name: "b", type: "NORMAL", queues: 1 });
    expect((await open(file, false)).topics.map(({ name }) => name)).toEqual(["a", "b"]);
  });

  it("never takes queues away, since messages may lie in them", async () => {
    const catalog = await open(new Paper());
    await catalog.createTopic({ name: "a", type: "NORMAL", queues: 8 });
    await catalog.createTopic({ name: "a", type: "FIFO", queues: 2 });
    expect(catalog.topic("a")).toEqual({ name: "a", type: "FIFO", queues: 8 });
    catalog.adopt("a", 12);
    expect(catalog.queueCount("a")).toBe(12);
    for (const queues of [0, 1.5, 1_025])
      await expect(catalog.createTopic({ name: "b", type: "NORMAL", queues })).rejects.toThrow("queues");
  });

  it("keeps the broker's own topics to itself", async () => {
    const catalog = await open(new Paper());
    catalog.own("RMQ_SYS_TRANS_HALF_TOPIC");
    expect(catalog.deadLetters("g").name).toBe("%DLQ%g");
    expect(catalog.topics.map(({ name }) => name)).toEqual(["%DLQ%g"]);
  });

  it("refuses a catalog of another version", async () => {
    const file = new Paper();
    file.text = JSON.stringify({ version: 2, topics: [], groups: [] });
    await expect(open(file)).rejects.toThrow("version 2");
  });

  it.each(["", '{"version":1,"topics":[{"na', '{"version":1}', "[]", '{"version":2,"topics":[],"groups":[]}'])(
    "says what to do when its text is not whole or another version's: %j",
    async (text) => {
      const file = new Paper();
      file.text = text;
      await expect(open(file)).rejects.toThrow(/catalog\.json.*(remove it|start that one)/);
    },
  );
});
