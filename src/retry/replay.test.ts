import { describe, expect, it } from "vitest";
import { epochMs } from "../message/time.ts";
import { JsonReader } from "./json-reader.ts";
import { parsePolicy } from "./parse-policy.ts";
import { presets } from "./presets.ts";
import { readRecord } from "./read-record.ts";
import { asRecorded, type Replay, replay } from "./replay.ts";

const t0 = 1_800_000_000_000;
const record = (lines: readonly object[]) => {
  const reader = new JsonReader();
  const messages = readRecord(reader, lines, "failures");
  reader.finish();
  return messages;
};
const run = (policy: object, lines: readonly object[], seed = 1, attemptsMax?: number): Replay => {
  const going = replay(parsePolicy(policy), record(lines), seed, attemptsMax);
  for (;;) {
    const { done, value } = going.next();
    if (done) return value;
  }
};
const every = (delay: string, more: object = {}) => ({ backoff: { kind: "fixed", delay, jitter: "none" }, ...more });

describe("recorded failures under another policy", () => {
  const oneThatRecovered = [
    { message: "m", atMs: t0, code: "http_503" },
    { message: "m", atMs: t0 + 10_000, code: "http_503", succeededAtMs: t0 + 60_000 },
  ];

  it("succeed at the first attempt after the success that was recorded", () => {
    expect(run(every("25s"), oneThatRecovered)).toEqual({
      messages: 1,
      calls: 4,
      mostCallsPerSec: 1,
      succeeded: 1,
      dead: 0,
      deadByCode: {},
      parked: 0,
      toVerify: 0,
      delayMs: { p50: 75_000, p99: 75_000, max: 75_000 },
      perMessage: [{ message: "m", outcome: "succeeded", calls: 4, afterMs: 75_000 }],
    });
    expect(run(every("60s"), oneThatRecovered)).toMatchObject({ calls: 2, delayMs: { max: 60_000 } });
  });

  it("die where the policy's limits or rules end them, with the code", () => {
    expect(run(every("25s", { limits: { maxAttempts: 2 } }), oneThatRecovered)).toMatchObject({
      succeeded: 0,
      dead: 1,
      deadByCode: { attempts_exhausted: 1 },
      perMessage: [{ outcome: "dead", code: "attempts_exhausted", calls: 2, afterMs: 25_000 }],
    });
    expect(run(every("25s", { limits: { maxAge: "1m" } }), oneThatRecovered)).toMatchObject({
      deadByCode: { age_exhausted: 1 },
    });
    expect(run(every("1s"), [{ message: "m", atMs: t0, class: "permanent" }])).toMatchObject({
      calls: 1,
      deadByCode: { permanent: 1 },
    });
    // Never recovered: goes on failing as it did last.
    expect(run(every("1m"), [{ message: "m", atMs: t0 }])).toMatchObject({
      deadByCode: { attempts_exhausted: 1 },
      calls: 80,
    });
    expect(run(every("1m"), [{ message: "m", atMs: t0, class: "crash" }])).toMatchObject({
      deadByCode: { crash_loop: 1 },
      calls: 3,
    });
  });

  it("meet at each time the failure that was recorded last before it", () => {
    const lines = [
      { message: "m", atMs: t0, status: 503 },
      { message: "m", atMs: t0 + 30_000, status: 404 },
    ];
    const rules = [{ when: { status: 404 }, action: "dead" }];
    expect(run(every("10s", { rules }), lines)).toMatchObject({ calls: 4, deadByCode: { rule: 1 } });
    expect(run(every("40s", { rules }), lines)).toMatchObject({ calls: 2, deadByCode: { rule: 1 } });
  });

  it("wait as long as the other side asked", () => {
    const lines = [{ message: "m", atMs: t0, class: "throttled", retryAfterMs: 120_000, succeededAtMs: t0 + 1_000 }];
    expect(run(every("1s"), lines).perMessage).toEqual([
      { message: "m", outcome: "succeeded", calls: 2, afterMs: 120_000 },
    ]);
  });

  it("end where they are parked or must be verified, since no record says who goes on", () => {
    const rules = [
      { when: { code: "quota" }, action: "park", key: "k" },
      { when: { class: "unknown" }, action: "verify" },
    ];
    const lines = [
      { message: "a", atMs: t0, code: "quota" },
      { message: "b", atMs: t0, class: "unknown" },
    ];
    expect(run(every("1s", { rules }), lines)).toMatchObject({
      messages: 2,
      parked: 1,
      toVerify: 1,
      dead: 0,
      calls: 2,
    });
  });

  it("go on counting from the attempt that was recorded", () => {
    const lines = [{ message: "m", atMs: t0, attempt: 4, succeededAtMs: t0 + 1e9 }];
    expect(run(every("1s", { limits: { maxAttempts: 6 } }), lines)).toMatchObject({ calls: 3, dead: 1 });
  });

  it("come out alike for one seed, and otherwise for another", () => {
    const lines = Array.from({ length: 50 }, (_, i) => ({
      message: `m${i}`,
      atMs: t0 + i,
      succeededAtMs: t0 + 600_000,
    }));
    expect(run({}, lines, 7)).toEqual(run({}, lines, 7));
    expect(run({}, lines, 7).perMessage).not.toEqual(run({}, lines, 8).perMessage);
  });

  it("tell a herd from a spread: the most calls in one second", () => {
    const lines = Array.from({ length: 200 }, (_, i) => ({ message: `m${i}`, atMs: t0, succeededAtMs: t0 + 30_000 }));
    expect(run(every("40s"), lines)).toMatchObject({ mostCallsPerSec: 200, calls: 400 });
    const spread = { backoff: { kind: "fixed", delay: "80s", jitter: "full" } };
    expect(run(spread, lines).perMessage.filter(({ calls }) => calls === 2).length).toBeGreaterThan(80);
  });

  it("are told as they were, to compare with", () => {
    const lines = [...oneThatRecovered, { message: "n", atMs: t0 }, { message: "n", atMs: t0 + 5_000 }];
    expect(asRecorded(record(lines))).toMatchObject({
      messages: 2,
      calls: 5,
      succeeded: 1,
      dead: 1,
      deadByCode: {},
      delayMs: { p50: 60_000, max: 60_000 },
    });
  });

  it("whose order is mixed up are put in order", () => {
    const lines = [
      { message: "m", atMs: t0 + 9_000, status: 404 },
      { message: "m", atMs: t0, status: 503 },
    ];
    expect(record(lines)[0]!.failures.map(({ atMs }) => atMs)).toEqual([epochMs(t0), epochMs(t0 + 9_000)]);
  });

  it.each([
    [[], "failures"],
    [[7], "failures[0]"],
    [[{ atMs: t0 }], "failures[0].message"],
    [[{ message: "m" }], "failures[0].atMs"],
    [[{ message: "m", atMs: 1_800_000_000 }], "failures[0].atMs"],
    [[{ message: "m", atMs: "2030-01-01T00:00:00Z" }], "failures[0].atMs"],
    [[{ message: "m", atMs: t0, succeededAtMs: t0 - 1 }], "failures[0].succeededAtMs"],
    [[{ message: "m", atMs: t0, class: "odd" }], "failures[0].class"],
    [[{ message: "m", atMs: t0, retryAfterMs: -1 }], "failures[0].retryAfterMs"],
    [[{ message: "m", atMs: t0, attempt: 0 }], "failures[0].attempt"],
    [[{ message: "m", atMs: t0, body: "x" }], "failures[0].body"],
    [Array(50_001).fill({ message: "m", atMs: t0 }), "failures"],
  ])("with a mistake are refused with the place: %#", (lines, field) => {
    expect(() => record(lines as object[])).toThrow(expect.objectContaining({ code: "invalid_field", field }));
  });

  it("that would take too many attempts to live through are refused, and not worked on without end", () => {
    const lines = Array.from({ length: 10 }, (_, i) => ({ message: `m${i}`, atMs: t0 }));
    const policy = every("1s", { limits: { maxAttempts: 10 } });
    expect(run(policy, lines, 1, 100).calls).toBe(100);
    expect(() => run(policy, lines, 1, 99)).toThrow(
      expect.objectContaining({ code: "invalid_field", field: "failures" }),
    );
  });

  it("of every preset end", () => {
    for (const { input } of presets) expect(run(input, [{ message: "m", atMs: t0 }]).dead).toBe(1);
  });
});
