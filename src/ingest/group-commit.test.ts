import { beforeEach, describe, expect, it } from "vitest";
import { type ScheduleItem, type ScheduleResult, scheduleItemsMax } from "../delay/delay-store.port.ts";
import { shardOf, timeOrderedId } from "../message/id.ts";
import { epochMs } from "../message/time.ts";
import { GroupCommit } from "./group-commit.ts";

const shardCount = 4;

type Call = {
  readonly shard: number;
  readonly items: readonly ScheduleItem[];
  readonly answer: () => Promise<void>;
  readonly fail: (error: Error) => Promise<void>;
};

/** A store that answers when it is told to, and timers that fire when they are told to. */
let calls: Call[];
let soon: (() => void)[];
let commit: GroupCommit;

const settled = async (): Promise<void> => {
  for (let i = 0; i < 5; i++) await Promise.resolve();
};

/** Lets everything happen that waits for nobody. */
const turn = async (): Promise<void> => {
  await settled();
  for (const act of soon.splice(0)) act();
  await settled();
};

beforeEach(() => {
  calls = [];
  soon = [];
  let random = 0;
  commit = new GroupCommit({
    store: {
      shardCount,
      schedule: (shard, items) =>
        new Promise<ScheduleResult[]>((resolve, reject) => {
          const results = items.map(({ message }): ScheduleResult => {
            return { outcome: "scheduled", state: "scheduled", deliverAtMs: message.deliverAtMs, attempt: 0 };
          });
          calls.push({
            shard,
            items,
            answer: async () => {
              resolve(results);
              await turn();
            },
            fail: async (error) => {
              reject(error);
              await turn();
            },
          });
        }),
    },
    clock: { nowMs: () => epochMs(1_750_000_000_000), monotonicMs: () => 0 },
    timers: {
      after: (_delayMs, act) => {
        soon.push(act);
        return { cancel: () => soon.splice(soon.indexOf(act), 1) };
      },
    },
    // Every draw is another shard than the one before.
    random: { float: () => (random++ % shardCount) / 0x10000, bytes: (target) => target },
  });
});

let serial = 0;
const item = ({ tail = commit.nextTail(), bodyBytes = 1 } = {}): ScheduleItem => {
  const nowMs = epochMs(1_750_000_000_000);
  const random = new Uint8Array(10).fill(++serial % 256);
  return {
    message: {
      id: timeOrderedId(nowMs, random, tail),
      tenant: "default",
      topic: "orders",
      keys: [],
      properties: new Map(),
      body: Buffer.alloc(bodyBytes),
      deliverAtMs: epochMs(nowMs + 1_000),
      acceptedAtMs: nowMs,
      attempt: 0,
    },
  };
};
const add = (count: number, of?: { tail?: number; bodyBytes?: number }): Promise<ScheduleResult>[] =>
  Array.from({ length: count }, () => commit.add(item(of)));
const sizes = (): number[] => calls.map(({ items }) => items.length);

describe("accepts that come together", () => {
  it("share one call, because fresh ids share a shard", async () => {
    const added = add(20);
    await turn();
    expect(sizes()).toEqual([20]);
    await calls[0]!.answer();
    expect((await Promise.all(added)).map(({ outcome }) => outcome)).toEqual(Array(20).fill("scheduled"));
    expect(commit.pending).toBe(0);
  });

  it("never wait when nothing is under way", async () => {
    add(1);
    await turn();
    expect(sizes()).toEqual([1]);
  });

  it("gather under two calls, and travel together when one of them is answered", async () => {
    for (let i = 0; i < 2; i++) {
      add(1);
      await turn();
    }
    for (let i = 0; i < 30; i++) {
      add(1);
      await turn();
    }
    expect(sizes()).toEqual([1, 1]);
    await calls[1]!.answer();
    expect(sizes()).toEqual([1, 1, 30]);
  });

  it("do not wait for an answer when they fill a call, up to eight calls", async () => {
    add(1);
    await turn();
    add(1);
    await turn();
    for (let i = 0; i < 10; i++) {
      add(scheduleItemsMax);
      await turn();
    }
    expect(sizes()).toEqual([1, 1, ...Array(6).fill(scheduleItemsMax)]);
    await calls[0]!.answer();
    // What had to wait goes out at once, in calls as large as the store takes.
    expect(sizes().slice(8)).toEqual(Array(4).fill(scheduleItemsMax));
  });
});

describe("a call", () => {
  it("holds one shard's messages only", async () => {
    add(3, { tail: 1 });
    add(2, { tail: 2 });
    await turn();
    expect(calls.map(({ shard, items }) => [shard, items.length])).toEqual([
      [1, 3],
      [2, 2],
    ]);
    for (const { shard, items } of calls) {
      for (const { message } of items) expect(shardOf(message.id, shardCount)).toBe(shard);
    }
  });

  it("is split by the bytes that the store takes", async () => {
    add(3, { tail: 1, bodyBytes: 4 * 1024 * 1024 });
    await turn();
    expect(sizes().reduce((sum, size) => sum + size, 0)).toBe(3);
    expect(calls.length).toBeGreaterThan(1);
  });

  it("that fails is told to its own messages alone", async () => {
    const lost = add(2, { tail: 1 });
    const kept = add(2, { tail: 2 });
    await turn();
    await Promise.all([calls[0]!.fail(new Error("gone")), calls[1]!.answer()]);
    expect((await Promise.allSettled(lost)).map(({ status }) => status)).toEqual(["rejected", "rejected"]);
    expect((await Promise.allSettled(kept)).map(({ status }) => status)).toEqual(["fulfilled", "fulfilled"]);
    expect(commit.pending).toBe(0);
  });
});

describe("too much", () => {
  it("is refused before anything is stored, by number and by bytes", () => {
    add(19_999);
    commit.assertRoom(1, 1);
    expect(() => commit.assertRoom(2, 1)).toThrow("19999 messages are waiting to be stored");
    expect(() => commit.assertRoom(1, 128 * 1024 * 1024)).toThrow(expect.objectContaining({ code: "overloaded" }));
    expect(calls).toEqual([]);
  });
});
