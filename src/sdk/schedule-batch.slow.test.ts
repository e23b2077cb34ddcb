import { setTimeout as sleep } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  type BatchOptions,
  type BatchResult,
  type ClientOptions,
  EscapementClient,
  type MessageInput,
} from "./client.ts";
import { ScriptedServer } from "./test/scripted-server.ts";

let server: ScriptedServer;
let client: EscapementClient;

const connect = (options: ClientOptions = {}): EscapementClient =>
  new EscapementClient({ url: server.url, retry: { initialMs: 1 }, ...options });

beforeEach(async () => {
  server = await ScriptedServer.start();
  client = connect();
});

afterEach(async () => {
  client.close();
  await server.stop();
});

function* orders(count: number, more: (i: number) => Partial<MessageInput> = () => ({})): Generator<MessageInput> {
  for (let i = 0; i < count; i++) yield { topic: "orders", body: `${i}`, delay: "1h", ...more(i) } as MessageInput;
}

const all = async (messages: Parameters<typeof client.scheduleBatch>[0], options: BatchOptions = {}) => {
  const results: BatchResult[] = [];
  for await (const result of client.scheduleBatch(messages, options)) results.push(result);
  return results;
};

const failureOf = async (promise: Promise<unknown>): Promise<unknown> => {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new Error("It should have failed.");
};

const bodies = (): string[] => server.schedules.map(({ body }) => body!);

describe("a batch", () => {
  it("gives one result for each item, in order, whatever order the replies come in", async () => {
    server.script = [{ act: "late", ms: 60 }, { act: "behave" }, { act: "late", ms: 20 }];
    const results = await all(orders(95), { batchSize: 10 });
    expect(results.map(({ index }) => index)).toEqual(Array.from({ length: 95 }, (_, i) => i));
    expect(server.requests).toHaveLength(10);
    expect(server.messages.size).toBe(95);
  });

  it("does not let one bad item spoil the rest, wherever the badness is found", async () => {
    const messages = [...orders(6)] as unknown[];
    messages[1] = { body: "x", delay: 1 };
    messages[2] = { topic: "orders", body: "x", delay: Number.NaN };
    messages[4] = { topic: "nope", body: "x", delay: 1 };
    messages[5] = 7;
    const results = await all(messages as MessageInput[]);
    expect(results.map(({ error }) => error?.code)).toEqual([
      undefined,
      "missing_field",
      "invalid_argument",
      undefined,
      "topic_not_found",
      "invalid_argument",
    ]);
    expect(results[1]!.error).toMatchObject({ field: "topic", status: 400, effect: "none" });
    expect(server.messages.size).toBe(2);
  });

  it("of nothing is nothing", async () => {
    expect(await all([])).toEqual([]);
    expect(server.requests).toHaveLength(0);
  });

  it("tells how far it is", async () => {
    const seen: unknown[] = [];
    const messages = [...orders(25), { topic: "nope", body: "x", delay: 1 } as const];
    await all(messages, { batchSize: 10, onProgress: (progress) => seen.push(progress) });
    expect(seen).toEqual([
      { done: 10, accepted: 10, rejected: 0 },
      { done: 20, accepted: 20, rejected: 0 },
      { done: 26, accepted: 25, rejected: 1 },
    ]);
  });

  it("keeps to its concurrency, and uses it", async () => {
    server.batchDelayMs = 10;
    await all(orders(120), { batchSize: 5, concurrency: 3 });
    expect(server.batchesAtOnce).toBe(3);
  });

  it("keeps the order of a message group", async () => {
    server.script = [{ act: "cut" }];
    client = connect({ retry: { initialMs: 50 } });
    await all(
      orders(40, (i) => (i % 2 === 0 ? { messageGroup: "g" } : {})),
      { batchSize: 4, concurrency: 8 },
    );
    const group = server.schedules.filter(({ messageGroup }) => messageGroup === "g").map(({ body }) => Number(body));
    expect(group).toEqual(Array.from({ length: 20 }, (_, i) => i * 2));
  });

  it.each([{ batchSize: 0 }, { batchSize: 1.5 }, { concurrency: 65 }])("refuses %j", async (options) => {
    expect(await failureOf(all(orders(1), options))).toMatchObject({ code: "invalid_argument" });
  });
});

describe("requests of a batch", () => {
  it("are repeated with the same keys, so that a swallowed reply leaves one message each", async () => {
    server.script = [{ act: "swallow" }, { act: "half" }, { act: "problem", status: 503, code: "store_unavailable" }];
    const results = await all(orders(50), { batchSize: 10, concurrency: 1 });
    expect(results.every(({ message }) => message?.deduplicated === false)).toBe(true);
    expect(server.messages.size).toBe(50);
    expect(server.requests).toHaveLength(8);
  });

  it("stop the batch when the outcome is unknown and there is no key", async () => {
    server.script = [{ act: "behave" }, { act: "swallow" }];
    const results: BatchResult[] = [];
    const error = await failureOf(
      (async () => {
        const batch = client.scheduleBatch(orders(50), { batchSize: 10, concurrency: 1, idempotent: false });
        for await (const result of batch) results.push(result);
      })(),
    );
    expect(results).toHaveLength(10);
    expect(error).toMatchObject({ code: "batch_stopped", firstIndex: 10, cause: { effect: "unknown" } });
    expect(server.requests).toHaveLength(2);
    expect(server.schedules[0]).not.toHaveProperty("key");
  });

  it("carry again only the items that the server could not take yet", async () => {
    server.busyTopics.set("busy", 2);
    const busy = (body: string): MessageInput => ({ topic: "busy", body, delay: 1 });
    const results = await all([...orders(2), busy("a"), ...orders(2), busy("b")]);
    expect(results.map(({ index, error }) => [index, error])).toEqual([0, 1, 2, 3, 4, 5].map((i) => [i, undefined]));
    expect(bodies()).toEqual(["0", "1", "0", "1", "a", "b"]);
    expect(server.requests).toHaveLength(2);
  });

  it("report an item that the server still cannot take after all tries", async () => {
    server.busyTopics.set("busy", 100);
    const [result] = await all([{ topic: "busy", body: "b", delay: 1 }]);
    expect(result!.error).toMatchObject({ code: "overloaded", attempts: 5 });
  });

  it("are halved until the server takes them", async () => {
    server.batchItemsMax = 3;
    const results = await all(orders(10));
    expect(results.map(({ index, error }) => [index, error])).toEqual(
      Array.from({ length: 10 }, (_, i) => [i, undefined]),
    );
    expect(bodies()).toEqual(Array.from({ length: 10 }, (_, i) => `${i}`));
  });

  it("become a rejection when even one item is too large", async () => {
    server.batchItemsMax = 0;
    const results = await all(orders(2));
    expect(results.map(({ error }) => error?.code)).toEqual(["too_many_items", "too_many_items"]);
  });

  it("are cut at about a megabyte", async () => {
    await all(orders(10, () => ({ body: "x".repeat(400_000) })));
    expect(server.requests).toHaveLength(5);
  });

  it("do not wait long for a slow source", async () => {
    async function* slow(): AsyncGenerator<MessageInput> {
      yield* orders(2);
      await sleep(300);
      yield* orders(1);
    }
    const seenMs: number[] = [];
    const beganMs = performance.now();
    for await (const _ of client.scheduleBatch(slow(), { lingerMs: 10 })) seenMs.push(performance.now() - beganMs);
    expect(seenMs).toHaveLength(3);
    expect(seenMs[1]).toBeLessThan(200);
    expect(seenMs[2]).toBeGreaterThan(290);
    expect(server.requests).toHaveLength(2);
  });
});

describe("a batch that ends early", () => {
  it("gives all results before the source's failure, then the failure", async () => {
    async function* failing(): AsyncGenerator<MessageInput> {
      yield* orders(25);
      throw new Error("disk gone");
    }
    const results: BatchResult[] = [];
    const error = await failureOf(
      (async () => {
        for await (const result of client.scheduleBatch(failing(), { batchSize: 10 })) results.push(result);
      })(),
    );
    expect(error).toMatchObject({ message: "disk gone" });
    expect(results).toHaveLength(25);
  });

  it("puts the source away and stops reading when the caller leaves the loop", async () => {
    let read = 0;
    let putAway = false;
    async function* endless(): AsyncGenerator<MessageInput> {
      try {
        for (;;) {
          read++;
          yield* orders(1);
        }
      } finally {
        putAway = true;
      }
    }
    for await (const { index } of client.scheduleBatch(endless(), { batchSize: 10, concurrency: 2 })) {
      if (index === 30) break;
    }
    await sleep(20);
    expect(putAway).toBe(true);
    expect(read).toBeLessThan(80);
  });

  it("rejects with the caller's reason, also while only the source is waited for", async () => {
    async function* stuck(): AsyncGenerator<MessageInput> {
      yield* orders(1);
      await new Promise(() => {});
    }
    const controller = new AbortController();
    const reason = new Error("enough");
    setTimeout(() => controller.abort(reason), 150);
    expect(await failureOf(all(stuck(), { signal: controller.signal }))).toBe(reason);
    server.script = [{ act: "late", ms: 3_000 }];
    const second = AbortSignal.timeout(50);
    expect(await failureOf(all(orders(5), { signal: second }))).toBe(second.reason);
  });

  it("says where it stopped when the server goes away", async () => {
    server.script = Array.from({ length: 40 }, (_, i) => ({ act: i < 3 ? "behave" : "cut" }) as const);
    const error = await failureOf(all(orders(100), { batchSize: 10, concurrency: 1 }));
    expect(error).toMatchObject({ name: "EscapementBatchStoppedError", code: "batch_stopped", firstIndex: 30 });
    expect((error as Error).message).toContain("The batch stopped at item 30: No answer from");
  });
});

/** Heap in use after a full collection, so that garbage does not count. */
const liveHeapBytes = (): number => {
  setFlagsFromString("--expose-gc");
  (runInNewContext("gc") as () => void)();
  return process.memoryUsage().heapUsed;
};

describe("memory", () => {
  it("stays bounded: 50,000 items of 2 KB are never there together, and a slow reader slows the source", async () => {
    server.remembering = false;
    const body = "x".repeat(2_000);
    let read = 0;
    let done = 0;
    let mostAhead = 0;
    let mostHeap = 0;
    async function* many(): AsyncGenerator<MessageInput> {
      for (let i = 0; i < 50_000; i++) {
        read++;
        yield { topic: "orders", body: `${i}${body}`, delay: "1h" };
      }
    }
    const heapBefore = liveHeapBytes();
    for await (const result of client.scheduleBatch(many())) {
      expect(result.error).toBeUndefined();
      done++;
      mostAhead = Math.max(mostAhead, read - done);
      if (done % 5_000 === 0) mostHeap = Math.max(mostHeap, liveHeapBytes());
    }
    expect(done).toBe(50_000);
    // Four requests of 200, one batch being read, the item before it, and the results not taken yet.
    expect(mostAhead).toBeLessThanOrEqual(6 * 200);
    // All items together would be 100 MB of text, and again as much as JSON.
    expect((mostHeap - heapBefore) / 1e6).toBeLessThan(20);
  }, 60_000);
});
