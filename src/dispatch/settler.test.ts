import { beforeEach, describe, expect, it } from "vitest";
import { type Outcome, settleOutcomesMax } from "../delay/delay-store.port.ts";
import { EscapementError } from "../message/errors.ts";
import { timeOrderedId } from "../message/id.ts";
import { epochMs } from "../message/time.ts";
import type { Log } from "../runtime/log.ts";
import { type SettleEntry, Settler } from "./settler.ts";

type Call = {
  readonly outcomes: readonly Outcome[];
  readonly answer: (error?: Error) => Promise<void>;
};

let calls: Call[];
let timers: { delayMs: number; act: () => void }[];
let settled: SettleEntry[][];
let fenced: SettleEntry[][];
let warnings: string[];
let settler: Settler;

const turn = async (): Promise<void> => {
  for (let i = 0; i < 8; i++) await Promise.resolve();
};
/** Lets the next timer fire; answers how long it had to wait. */
const fire = async (): Promise<number | undefined> => {
  const timer = timers.shift();
  timer?.act();
  await turn();
  return timer?.delayMs;
};
const entry = (handle: number): SettleEntry => ({
  outcome: { kind: "delivered", id: timeOrderedId(epochMs(1), new Uint8Array(10), handle % 65_536) },
  handle,
  bytes: 1,
  lane: 1,
});
const handles = (batches: readonly SettleEntry[][]): number[][] =>
  batches.map((batch) => batch.map(({ handle }) => handle));

beforeEach(() => {
  [calls, timers, settled, fenced, warnings] = [[], [], [], [], []];
  settler = new Settler({
    store: {
      settle: (_shard: number, _epoch: number, outcomes: readonly Outcome[]) =>
        new Promise((resolve, reject) => {
          calls.push({
            outcomes,
            answer: async (error) => {
              if (error === undefined) resolve({ released: [] });
              else reject(error);
              await turn();
            },
          });
        }),
    } as unknown as ConstructorParameters<typeof Settler>[0]["store"],
    shard: 3,
    epoch: 7,
    clock: { nowMs: () => epochMs(1), monotonicMs: () => 0 },
    timers: {
      after: (delayMs, act) => {
        const timer = { delayMs, act };
        timers.push(timer);
        return { cancel: () => (timers = timers.filter((other) => other !== timer)) };
      },
    },
    log: { warn: (_fields: unknown, text: string) => void warnings.push(text) } as unknown as Log,
    onSettled: (entries) => void settled.push([...entries]),
    onFenced: (entries) => void fenced.push([...entries]),
  });
});

describe("outcomes", () => {
  it("of one send travel together after a linger", async () => {
    for (const handle of [1, 2, 3]) settler.push(entry(handle));
    expect(calls).toHaveLength(0);
    expect(await fire()).toBe(3);
    expect(calls[0]!.outcomes).toHaveLength(3);
    await calls[0]!.answer();
    expect(handles(settled)).toEqual([[1, 2, 3]]);
  });

  it("that come while a call is under way wait for the next, so that a shard has one at a time", async () => {
    settler.push(entry(1));
    await fire();
    settler.push(entry(2));
    settler.push(entry(3));
    expect(timers).toEqual([]);
    expect(calls).toHaveLength(1);
    await calls[0]!.answer();
    expect(calls).toHaveLength(2);
    expect(calls[1]!.outcomes).toHaveLength(2);
  });

  it("go out at once when they fill a call, and never more than that in one", async () => {
    for (let handle = 0; handle < settleOutcomesMax + 5; handle++) settler.push(entry(handle));
    expect(calls.map(({ outcomes }) => outcomes.length)).toEqual([settleOutcomesMax]);
    await calls[0]!.answer();
    expect(calls.map(({ outcomes }) => outcomes.length)).toEqual([settleOutcomesMax, 5]);
  });

  it("are tried until the store takes them, at growing distances, and the log says so once", async () => {
    settler.push(entry(1));
    await fire();
    const waits: (number | undefined)[] = [];
    for (let i = 0; i < 8; i++) {
      await calls[i]!.answer(new EscapementError("store_unavailable", "gone"));
      waits.push(await fire());
    }
    expect(waits).toEqual([50, 100, 200, 400, 800, 1_600, 2_000, 2_000]);
    expect(warnings).toHaveLength(1);
    await calls[8]!.answer();
    expect(handles(settled)).toEqual([[1]]);
    expect(fenced).toEqual([]);
  });

  it("are dropped when the shard has another owner: nothing of them was recorded", async () => {
    settler.push(entry(1));
    await fire();
    await calls[0]!.answer(new EscapementError("fenced", "epoch 8"));
    expect(handles(fenced)).toEqual([[1]]);
    expect(settled).toEqual([]);
  });
});

describe("a shard that is lost", () => {
  it("gives back what waits at once, and what is under way when the store has answered with an error", async () => {
    settler.push(entry(1));
    await fire();
    settler.push(entry(2));
    settler.stop();
    expect(handles(fenced)).toEqual([[2]]);
    await calls[0]!.answer(new EscapementError("store_unavailable", "gone"));
    expect(handles(fenced)).toEqual([[2], [1]]);
    expect(calls).toHaveLength(1);
  });

  it("does not start what still lingers", async () => {
    settler.push(entry(1));
    settler.stop();
    expect(timers).toEqual([]);
    expect(handles(fenced)).toEqual([[1]]);
  });
});
