import { describe, expect, it } from "vitest";
import { idFromBytes } from "../message/id.ts";
import { Away, destinationOf } from "./away.ts";

describe("who is away", () => {
  it("is tried again after waits that double up to five seconds", () => {
    const away = new Away();
    let nowMs = 0;
    const waits: number[] = [];
    for (let i = 0; i < 7; i++) {
      expect(away.silent("topic a", 3, [1, 2], nowMs)).toBe(i === 0);
      const waitMs = away.inMs(nowMs);
      expect(away.probes(nowMs + waitMs - 1)).toEqual([]);
      nowMs += waitMs;
      waits.push(waitMs);
    }
    expect(waits).toEqual([250, 500, 1_000, 2_000, 4_000, 5_000, 5_000]);
    expect(away.probes(nowMs)).toEqual([{ destination: "topic a", shard: 3, rows: [1, 2] }]);
  });

  it("counts once when batches of several shards were on their way together, and is tried with eight rows", () => {
    const away = new Away();
    const rows = Array.from({ length: 200 }, (_, i) => i);
    for (let shard = 0; shard < 4; shard++) away.silent("topic a", shard, rows, 10);
    expect(away.inMs(10)).toBe(250);
    expect(away.probes(260)).toEqual([{ destination: "topic a", shard: 0, rows: rows.slice(0, 8) }]);
  });

  it("takes turns when nobody at all answers", () => {
    const away = new Away();
    for (let i = 0; i < 100; i++) away.silent(`topic ${i}`, 0, [i], 0);
    let tries = 0;
    let nowMs = 0;
    while (nowMs < 60_000) {
      nowMs += away.inMs(nowMs);
      for (const { destination, shard, rows } of away.probes(nowMs)) {
        tries++;
        away.silent(destination, shard, rows, nowMs);
      }
    }
    expect(tries).toBeLessThanOrEqual(13);
    expect(away.nobodyAnswers).toBe(true);
  });

  it("keeps its own waits while others answer all the time", () => {
    const away = new Away();
    away.silent("topic a", 0, [1], 0);
    let tries = 0;
    for (let nowMs = 0; nowMs < 60_000; nowMs += 10) {
      away.answered("topic b");
      for (const { destination, shard, rows } of away.probes(nowMs)) {
        tries++;
        away.silent(destination, shard, rows, nowMs);
      }
    }
    expect(away.nobodyAnswers).toBe(false);
    expect(tries).toBeGreaterThan(10);
    expect(tries).toBeLessThanOrEqual(17);
  });

  it("is back with its first answer, whatever that is, and others are tried as their waits end", () => {
    const away = new Away();
    for (const destination of ["topic a", "topic b", "topic c"]) away.silent(destination, 0, [1], 0);
    expect(away.probes(5_000)).toHaveLength(1);
    expect(away.answered("topic a")).toBe(true);
    expect(away.nobodyAnswers).toBe(false);
    expect(away.probes(5_000).map(({ destination }) => destination)).toEqual(["topic b", "topic c"]);
    expect([away.has("topic a"), away.size]).toEqual([false, 2]);
  });
});

it("a destination is the topic, for delayed messages the ingest topic, for cancels the delay server", () => {
  const row = { id: idFromBytes(Buffer.alloc(16)), topic: "t", dueAtMs: undefined };
  expect(destinationOf({ ...row, kind: "send" })).toBe("topic t");
  expect(destinationOf({ ...row, kind: "send", dueAtMs: 5 })).toBe("the ingest topic");
  expect(destinationOf({ ...row, kind: "cancel" })).toBe("the delay server");
});
