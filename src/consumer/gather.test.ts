import { describe, expect, it } from "vitest";
import { SimulatedTime } from "../broker/delivery/testing/simulated-time.ts";
import { Gather, type GatherOptions } from "./gather.ts";

const gathering = (more: Partial<GatherOptions<string, string>> = {}) => {
  const time = new SimulatedTime();
  const calls: string[][] = [];
  const gather = new Gather<string, string>({
    itemsMax: 3,
    lingerMs: 5,
    inFlightMax: 2,
    timers: time,
    call: async (items) => {
      calls.push([...items]);
      await new Promise<void>((resolve) => time.after(100, resolve));
      return items.map((item) => item.toUpperCase());
    },
    ...more,
  });
  return { time, calls, gather };
};

describe("gathering", () => {
  it("sends what is full at once and the rest after a moment, and answers each with its own", async () => {
    const { time, calls, gather } = gathering();
    const answers = Promise.all(["a", "b", "c", "d"].map((item) => gather.add(item)));
    expect(calls).toEqual([["a", "b", "c"]]);
    await time.pass(5);
    expect(calls).toEqual([["a", "b", "c"], ["d"]]);
    await time.pass(200);
    expect(await answers).toEqual(["A", "B", "C", "D"]);
  });

  it("has no more calls under way than allowed; what comes meanwhile fills the next ones", async () => {
    const { time, calls, gather } = gathering();
    for (const item of "abcdefghij") void gather.add(item);
    await time.pass(50);
    expect(calls).toHaveLength(2);
    let isIdle = false;
    void gather.idle().then(() => {
      isIdle = true;
    });
    await time.pass(100);
    expect(calls.slice(2)).toEqual([["g", "h", "i"], ["j"]]);
    expect(isIdle).toBe(false);
    await time.pass(200);
    expect(isIdle).toBe(true);
    await time.now(gather.idle());
  });

  it("keeps a call below its bytes, but sends what is larger than that alone", async () => {
    const { time, calls, gather } = gathering({ itemsMax: 10, bytesMax: 4, bytesOf: (item) => item.length });
    for (const item of ["aa", "bb", "c", "dddddd", "e"]) void gather.add(item);
    await time.pass(500);
    expect(calls).toEqual([["aa", "bb"], ["c"], ["dddddd"], ["e"]]);
  });
});
