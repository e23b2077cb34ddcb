import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { epochMs } from "../../message/time.ts";
import { memoryFiles } from "../files/memory-files.ts";
import type { CommitLogStore } from "./commit-log-store.ts";
import { tagHash } from "./message-store.port.ts";
import { aMessage, openStore, recordingLog, rewrite } from "./testing.ts";

const bodies = (store: CommitLogStore, topic: string, queueId: number): (string | undefined)[] =>
  store.entries(topic, queueId, 0, 1_000).map((entry) => store.read(entry)?.body.toString());

const send = (store: CommitLogStore, topic: string, queueId: number, ...texts: string[]): Promise<number> =>
  store.append(
    topic,
    queueId,
    texts.map((text) => aMessage({ topic, body: Buffer.from(text) })),
  );

const queueFiles = (files: ReturnType<typeof memoryFiles>): string[] =>
  files
    .list("queues")
    .flatMap((topic) => files.list(`queues/${topic}`).map((queue) => `queues/${topic}/${queue}`))
    .flatMap((folder) => files.list(folder).map((name) => `${folder}/${name}`));

describe("the message store", () => {
  it("is the same as a list for each queue, through every kind of start", async () => {
    const step = fc.oneof(
      {
        weight: 6,
        arbitrary: fc.record({
          kind: fc.constant("send" as const),
          queue: fc.nat(3),
          sizes: fc.array(fc.nat(300), { minLength: 1, maxLength: 6 }),
        }),
      },
      {
        weight: 1,
        arbitrary: fc.record({
          kind: fc.constantFrom("close" as const, "kill" as const, "rebuild" as const, "delete" as const),
          queue: fc.nat(3),
        }),
      },
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
        const files = memoryFiles();
        let store = await openStore({ files });
        const model: string[][] = [[], [], [], []];
        let count = 0;
        for (const one of steps) {
          const topic = `topic-${one.queue % 2}`;
          const list = model[one.queue]!;
          if (one.kind === "send") {
            const texts = one.sizes.map((size) => `${count++} ${"x".repeat(size)}`);
            expect(await send(store, topic, one.queue, ...texts)).toBe(list.length);
            list.push(...texts);
          } else if (one.kind === "delete") {
            await store.deleteTopic(topic);
            model.forEach((other, queue) => {
              if (queue % 2 === one.queue % 2) other.length = 0;
            });
          } else {
            if (one.kind !== "kill") await store.close();
            if (one.kind === "rebuild") await files.remove("checkpoint");
            store = await openStore({ files });
          }
          expect(bodies(store, topic, one.queue)).toEqual(list);
        }
        model.forEach((list, queue) => {
          expect(store.range(`topic-${queue % 2}`, queue)).toEqual({ first: 0, next: list.length });
          for (let from = 0; from < list.length; from += 5) {
            const page = store.entries(`topic-${queue % 2}`, queue, from, 5).map((entry) => store.read(entry));
            expect(page.map((message) => message?.body.toString())).toEqual(list.slice(from, from + 5));
            expect(page.map((message) => message?.queueOffset)).toEqual(page.map((_, i) => from + i));
          }
        });
      }),
      { numRuns: 25 },
    );
  });

  it("shows a message only when it is durable, then tells its listener", async () => {
    const store = await openStore();
    const told: string[] = [];
    store.onAppended((topic, queueId) => told.push(`${topic}/${queueId} ${store.range(topic, queueId).next}`));
    const durable = send(store, "orders", 1, "a", "b");
    expect(store.range("orders", 1)).toEqual({ first: 0, next: 0 });
    expect(await durable).toBe(0);
    expect(told).toEqual(["orders/1 2"]);
  });

  it("says in an entry where the message is and what its tag hashes to, as Java does", async () => {
    const store = await openStore();
    await store.append("orders", 0, [aMessage({ tag: "TagA" }), aMessage()]);
    const entries = store.entries("orders", 0, 0, 10);
    expect(entries.map((entry) => entry.tagHash)).toEqual([2_598_919, 0]);
    expect(tagHash("polygenelubricants")).toBe(-2_147_483_648);
    expect(store.read(entries[0]!)).toMatchObject({ tag: "TagA", queueId: 0, queueOffset: 0, storedAtMs: 1_000 });
  });

  it("makes a consume queue anew when its file is missing, short or damaged anywhere", async () => {
    const files = memoryFiles();
    const store = await openStore({ files });
    const texts = Array.from({ length: 20 }, (_, i) => `message ${i}`);
    for (const text of texts) {
      await send(store, "orders", 0, text);
      await send(store, "others", 0, `other ${text}`);
    }
    await store.close();
    const path = queueFiles(files).find((name) => name.includes("orders"))!;
    const whole = Buffer.alloc(files.open(path, "leave")!.sizeBytes);
    files.open(path, "leave")!.read(whole, 0);
    expect(whole.length).toBe(8 * 20);
    const check = async (): Promise<void> => {
      const again = await openStore({ files });
      expect(bodies(again, "orders", 0)).toEqual(texts);
      await again.close();
      // And it was written: the next start has nothing to mend.
      const { log, lines } = recordingLog();
      const last = await openStore({ files, log });
      expect(bodies(last, "orders", 0)).toEqual(texts);
      expect(lines).toEqual([]);
      await last.close();
    };
    await files.remove(path);
    await check();
    for (let length = 0; length < whole.length; length += 33) {
      await rewrite(files, path, () => whole.subarray(0, length));
      await check();
    }
    for (let at = 0; at < whole.length; at += 7) {
      await rewrite(files, path, () => {
        const damaged = Buffer.from(whole);
        damaged[at] = damaged[at]! ^ 4;
        return damaged;
      });
      await check();
    }
  });

  it("loses no offset and no other message to a damaged one", async () => {
    const files = memoryFiles();
    const store = await openStore({ files });
    await send(store, "orders", 0, "one", "two", "three");
    const damaged = store.entries("orders", 0, 1, 1)[0]!;
    await rewrite(files, "commitlog/00000000000000000000.log", (bytes) => {
      bytes[damaged.position + 14]! ^= 1;
      return bytes;
    });
    expect(bodies(store, "orders", 0)).toEqual(["one", undefined, "three"]);
    await files.remove("checkpoint");
    const again = await openStore({ files });
    expect(bodies(again, "orders", 0)).toEqual(["one", undefined, "three"]);
    expect(await send(again, "orders", 0, "four")).toBe(3);
  });

  it("removes old segments, and says what some group has not consumed", async () => {
    const files = memoryFiles();
    const { log, lines } = recordingLog();
    const store = await openStore({ files, log, retention: { keepMs: 1e9, keepBytes: 9_000 } });
    for (let i = 0; i < 40; i++) await send(store, `topic-${i % 2}`, 0, `${i} ${"x".repeat(400)}`);
    await store.collect(2_000, (topic) => (topic === "topic-0" ? 3 : undefined));
    const { first, next } = store.range("topic-0", 0);
    expect(first).toBeGreaterThan(3);
    expect(next).toBe(20);
    expect(bodies(store, "topic-0", 0).map((text) => Number.parseInt(text!, 10))).toEqual(
      Array.from({ length: next - first }, (_, i) => (first + i) * 2),
    );
    expect(lines.map(({ text, fields }) => ({ text, ...fields }))).toEqual([
      { text: "retention removes messages that a group has not consumed", topic: "topic-0", messages: first - 3 },
    ]);
    await store.close();
    const again = await openStore({ files });
    expect(again.range("topic-0", 0)).toEqual({ first, next });
  });

  it("removes what is too old, and goes on counting offsets when nothing is left of a queue", async () => {
    let nowMs = 1_000;
    const clock = { nowMs: () => epochMs(nowMs), monotonicMs: () => 0 };
    const files = memoryFiles();
    const options = { files, clock, retention: { keepMs: 10_000, keepBytes: 1e9 } };
    const store = await openStore(options);
    await send(store, "old", 0, "a", "b", "c");
    nowMs = 5_000;
    for (let i = 0; i < 20; i++) await send(store, "new", 0, `${i} ${"x".repeat(400)}`);
    await store.collect(14_000, () => undefined);
    expect(store.range("old", 0).first).toBe(0);
    await store.collect(15_001, () => undefined);
    expect(store.range("old", 0)).toEqual({ first: 3, next: 3 });
    await files.remove("queues");
    const again = await openStore(options);
    expect(again.range("old", 0)).toEqual({ first: 3, next: 3 });
    expect(await send(again, "old", 0, "d")).toBe(3);
    expect(bodies(again, "old", 0)).toEqual(["d"]);
  });

  it("lets no topic out of its folder", async () => {
    const store = await openStore();
    for (const topic of ["../x", "a/b", "", ".", "a\0b", "x".repeat(241)]) {
      await expect(send(store, topic, 0, "a")).rejects.toThrow(/no topic can be called so/);
    }
    await expect(send(store, "orders", -1, "a")).rejects.toThrow(/queue -1/);
  });
});
