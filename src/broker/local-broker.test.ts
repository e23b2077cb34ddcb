import { afterEach, describe, expect, it } from "vitest";
import { code } from "../protocol/messaging-service.ts";
import type { Timers } from "../runtime/timers.ts";
import { memoryFiles } from "./files/memory-files.ts";
import { Assembled, type AssembledOptions, messageTo } from "./testing/assembled.ts";

const timers: Timers = {
  after: (delayMs, callback) => {
    const timeout = setTimeout(callback, delayMs);
    return { cancel: () => clearTimeout(timeout) };
  },
};
const refused = (status: number) => expect.objectContaining({ status });

let open: Assembled[] = [];
const start = async (options: Partial<AssembledOptions> = {}) => {
  const assembled = await Assembled.start({ timers, ...options });
  open.push(assembled);
  return assembled;
};
afterEach(async () => {
  for (const assembled of open) await assembled.close();
  open = [];
});

describe("what a topic takes", () => {
  it("is its type and nothing else; one made by its first use takes everything", async () => {
    const { broker } = await start();
    const types = ["NORMAL", "FIFO", "DELAY", "TRANSACTION"] as const;
    const deliverAtMs = Date.now() + 60_000;
    for (const topicType of [...types, "MIXED"] as const) {
      await broker.createTopic({ name: `t-${topicType}`, type: topicType, queues: 2 });
      for (const type of types) {
        const sent = broker.send([messageTo(`t-${topicType}`, "x", { type, deliverAtMs })]);
        if (topicType === "MIXED" || topicType === type) expect(await sent).toHaveLength(1);
        else await expect(sent).rejects.toEqual(refused(code.messagePropertyConflictWithType));
      }
    }
    expect(broker.topic("made-by-use").type).toBe("MIXED");
  });

  it("is nothing where topics have to be created first", async () => {
    const { broker } = await start({ autoCreate: false });
    await expect(broker.send([messageTo("nowhere", "x")])).rejects.toEqual(refused(code.topicNotFound));
    expect(() => broker.topic("nowhere")).toThrow(refused(code.topicNotFound));
  });
});

describe("queues", () => {
  it("are taken in turn, but a message group has its own", async () => {
    const { broker } = await start();
    await broker.createTopic({ name: "t", type: "MIXED", queues: 4 });
    for (let i = 0; i < 8; i++) await broker.send([messageTo("t", `${i}`)]);
    const plain = broker.progress("g", "t").queues.map(({ next }) => next);
    expect(plain).toEqual([2, 2, 2, 2]);
    for (let i = 0; i < 8; i++) await broker.send([messageTo("t", `${i}`, { messageGroup: "one" })]);
    const grown = broker.progress("g", "t").queues.map(({ next }, i) => next - plain[i]!);
    expect(grown.toSorted()).toEqual([0, 0, 0, 8]);
  });
});

describe("delayed messages", () => {
  it("wait outside of their topic until they are due, and can be recalled until then", async () => {
    const assembled = await start();
    const { broker } = assembled;
    const deliverAtMs = Date.now() + 60_000;
    const [kept] = await broker.send([messageTo("t", "kept", { type: "DELAY", deliverAtMs })]);
    const [recalled] = await broker.send([messageTo("t", "recalled", { type: "DELAY", deliverAtMs })]);
    expect(await assembled.consume("t")).toEqual([]);
    expect(await broker.recall("t", recalled!.recallHandle!)).toBe(recalled!.messageId);
    await assembled.allDue();
    expect(await assembled.consume("t")).toEqual(["kept"]);
    await expect(broker.recall("t", kept!.recallHandle!)).rejects.toEqual(refused(code.internalServerError));
    await expect(broker.recall("other", kept!.recallHandle!)).rejects.toEqual(refused(code.badRequest));
    await expect(broker.recall("t", "nonsense")).rejects.toEqual(refused(code.badRequest));
  });

  it("are delivered at once when their time is over, and refused beyond a year", async () => {
    const assembled = await start();
    const { broker } = assembled;
    const past = messageTo("t", "past", { type: "DELAY", deliverAtMs: Date.now() - 1 });
    expect((await broker.send([past]))[0]!.recallHandle).toBeUndefined();
    expect(await assembled.consume("t")).toEqual(["past"]);
    for (const deliverAtMs of [Date.now() + 366 * 86_400_000, undefined]) {
      const sent = broker.send([messageTo("t", "x", { type: "DELAY", deliverAtMs })]);
      await expect(sent).rejects.toEqual(refused(code.illegalDeliveryTime));
    }
  });

  it("go to a topic that was deleted meanwhile all the same: they were accepted", async () => {
    const assembled = await start({ autoCreate: false });
    const { broker } = assembled;
    await broker.createTopic({ name: "t", type: "DELAY", queues: 1 });
    await broker.send([messageTo("t", "late", { type: "DELAY", deliverAtMs: Date.now() + 60_000 })]);
    await broker.deleteTopic("t");
    await assembled.allDue();
    expect(await assembled.consume("t")).toEqual(["late"]);
  });
});

describe("transactions", () => {
  const begin = async ({ broker }: Assembled, body: string) => {
    const [receipt] = await broker.send([messageTo("t", body, { type: "TRANSACTION" })]);
    return receipt!.transactionId!;
  };

  it("show their message when they are committed and never when they are rolled back", async () => {
    const assembled = await start();
    const committed = await begin(assembled, "committed");
    const rolledBack = await begin(assembled, "rolled back");
    await begin(assembled, "open");
    expect(await assembled.consume("t")).toEqual([]);
    await assembled.broker.endTransaction(committed, "commit");
    await assembled.broker.endTransaction(rolledBack, "rollback");
    expect(await assembled.consume("t")).toEqual(["committed"]);
  });

  it("end once: a second end is refused and makes no second message", async () => {
    const assembled = await start();
    const id = await begin(assembled, "once");
    const ends = [assembled.broker.endTransaction(id, "commit"), assembled.broker.endTransaction(id, "commit")];
    const results = await Promise.allSettled(ends);
    expect(results.map(({ status }) => status).toSorted()).toEqual(["fulfilled", "rejected"]);
    await expect(assembled.broker.endTransaction(id, "rollback")).rejects.toEqual(refused(code.internalServerError));
    expect(await assembled.consume("t")).toEqual(["once"]);
  });

  it("begin in any number at once", async () => {
    const assembled = await start();
    const ids = await Promise.all(Array.from({ length: 100 }, (_, i) => begin(assembled, `${i}`)));
    expect(new Set(ids).size).toBe(100);
    await Promise.all(ids.map((id) => assembled.broker.endTransaction(id, "commit")));
    const seen: string[] = [];
    for (let i = 0; i < 10; i++) seen.push(...(await assembled.consume("t")));
    expect(seen.map(Number).toSorted((a, b) => a - b)).toEqual(Array.from({ length: 100 }, (_, i) => i));
  });

  it("are asked about until they end, and the answer counts", async () => {
    const assembled = await start({ checkMs: 60 });
    const asked: string[] = [];
    assembled.broker.onCheck((message, transactionId) => {
      asked.push(message.body.toString());
      if (asked.length === 2) void assembled.broker.endTransaction(transactionId, "commit");
      return true;
    });
    await begin(assembled, "slow");
    expect(await assembled.consume("t", { waitMs: 3_000 })).toEqual(["slow"]);
    expect(asked).toEqual(["slow", "slow"]);
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(asked).toHaveLength(2);
  });

  it("are set aside, whole, when nobody knows their end for too long", async () => {
    const assembled = await start({ checkMs: 10 });
    let checks = 0;
    assembled.broker.onCheck(() => {
      checks++;
      return true;
    });
    const id = await begin(assembled, "forgotten");
    const request = { group: "g", topic: "TRANS_CHECK_MAX_TIME_TOPIC", filter: { tags: new Set<string>() } };
    const taken = await assembled.broker.receive(
      { ...request, max: 1, invisibleMs: 60_000, waitMs: 4_000 },
      new AbortController().signal,
    );
    expect(taken[0]?.message.body.toString("latin1")).toContain("forgotten");
    expect(checks).toBe(15);
    await expect(assembled.broker.endTransaction(id, "commit")).rejects.toEqual(refused(code.internalServerError));
    expect(await assembled.consume("t")).toEqual([]);
  });

  it("that were open when the broker stopped are asked about by the next one", async () => {
    const files = memoryFiles();
    const first = await start({ files, checkMs: 100 });
    await begin(first, "left open");
    await first.close();
    open = [];
    const second = await start({ files, checkMs: 100 });
    second.broker.onCheck((_message, transactionId) => {
      void second.broker.endTransaction(transactionId, "commit");
      return true;
    });
    expect(await second.consume("t", { waitMs: 3_000 })).toEqual(["left open"]);
  });

  it("are the broker's own business: nobody else sends to or receives from where they wait", async () => {
    const { broker } = await start();
    const half = "RMQ_SYS_TRANS_HALF_TOPIC";
    await expect(broker.send([messageTo(half, "x")])).rejects.toEqual(refused(code.illegalTopic));
    const request = { filter: { tags: new Set<string>() }, max: 1, invisibleMs: 1_000, waitMs: 0 };
    const { signal } = new AbortController();
    const other = () => broker.receive({ ...request, group: "g", topic: half }, signal);
    const own = () => broker.receive({ ...request, group: "CID_RMQ_SYS_TRANS", topic: "t" }, signal);
    await expect(other()).rejects.toEqual(refused(code.illegalTopic));
    await expect(own()).rejects.toEqual(refused(code.illegalConsumerGroup));
  });
});

describe("dead letters", () => {
  it("say where they come from, and come once", async () => {
    const assembled = await start();
    const { broker } = assembled;
    await broker.createGroup({ name: "g", attemptsMax: 2, orderly: false });
    await broker.send([messageTo("t", "hopeless", { messageId: "MY-ID" })]);
    for (const attempt of [1, 2]) {
      const [taken] = await assembled.receive("t", { waitMs: 1_000, invisibleMs: 20 });
      expect(taken?.attempt).toBe(attempt);
    }
    expect(await assembled.receive("t", { waitMs: 200 })).toEqual([]);
    const [dead] = await assembled.receive("%DLQ%g", { group: "undertaker", waitMs: 1_000 });
    expect(dead?.message).toMatchObject({ messageId: "MY-ID", topic: "%DLQ%g" });
    expect(dead?.message.systemProperties.toString("latin1")).toContain("MY-ID");
    expect(await assembled.receive("%DLQ%g", { group: "undertaker" })).toEqual([]);
  });

  it("are kept for groups of every name", async () => {
    const assembled = await start();
    const { broker } = assembled;
    const group = "g".repeat(235);
    expect(() => broker.group(`${group}g`)).toThrow(refused(code.illegalConsumerGroup));
    await broker.createGroup({ name: group, attemptsMax: 1, orderly: false });
    await broker.send([messageTo("t", "hopeless")]);
    const [taken] = await assembled.receive("t", { group });
    await broker.forwardToDeadLetters(group, "t", taken!.handle);
    expect(await assembled.consume(`%DLQ%${group}`, { group: "undertaker" })).toEqual(["hopeless"]);
  });
});

describe("a topic that is deleted", () => {
  it("and used again at once gives those who wait everything that is new", async () => {
    const assembled = await start();
    const { broker } = assembled;
    await broker.createTopic({ name: "t", type: "NORMAL", queues: 1 });
    for (const body of ["a", "b", "c"]) await broker.send([messageTo("t", body)]);
    expect(await assembled.consume("t")).toEqual(["a", "b", "c"]);
    // As clients do: whoever is answered asks again.
    const seen: string[] = [];
    let done = false;
    const consumer = (async () => {
      while (!done) {
        seen.push(...(await assembled.consume("t", { waitMs: 50 })));
        await new Promise((resolve) => setImmediate(resolve));
      }
    })();
    await broker.deleteTopic("t");
    for (const body of ["d", "e", "f"]) await broker.send([messageTo("t", body)]);
    for (let i = 0; i < 100 && seen.length < 3; i++) await new Promise((resolve) => setTimeout(resolve, 5));
    done = true;
    await consumer;
    expect(seen.toSorted()).toEqual(["d", "e", "f"]);
  });
});

describe("a topic that cannot be deleted, because the disk is full", () => {
  it("stays as it is, with what its groups have done", async () => {
    const files = memoryFiles();
    let full = false;
    const open = files.open.bind(files);
    files.open = (path, missing) => {
      const file = open(path, missing);
      const write = file?.write.bind(file);
      if (file !== undefined && write !== undefined && path.startsWith("commitlog/")) {
        file.write = async (bytes, position) => {
          if (full) throw Object.assign(new Error("ENOSPC"), { code: "ENOSPC" });
          await write(bytes, position);
        };
      }
      return file;
    };
    const assembled = await start({ files });
    const { broker } = assembled;
    await broker.createTopic({ name: "t", type: "FIFO", queues: 1 });
    for (const body of ["a", "b"]) await broker.send([messageTo("t", body, { messageGroup: "m" })]);
    expect(await assembled.consume("t")).toEqual(["a"]);
    full = true;
    await expect(broker.deleteTopic("t")).rejects.toEqual(refused(code.internalServerError));
    full = false;
    expect(broker.topic("t").type).toBe("FIFO");
    expect(await assembled.consume("t")).toEqual(["b"]);
    await broker.deleteTopic("t");
    await expect(broker.deleteTopic("t")).rejects.toEqual(refused(code.topicNotFound));
    expect(await assembled.consume("t")).toEqual([]);
  });
});

describe("a group that is deleted", () => {
  it("is not the broker's own", async () => {
    const { broker } = await start();
    await expect(broker.deleteGroup("CID_RMQ_SYS_TRANS")).rejects.toEqual(refused(code.illegalConsumerGroup));
  });
});
