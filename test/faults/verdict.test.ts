import { describe, expect, it } from "vitest";
import type { Entry } from "./ledger.ts";
import { judge, latenesses, type Rules, type Window } from "./verdict.ts";

// The judges must see every kind of broken promise: each test here is a lie that a ledger would tell about.

const rules: Rules = { windows: [], bornIsTrue: true };
const intent = (serial: number, dueMs: number, more: Partial<Extract<Entry, { kind: "intent" }>> = {}): Entry => ({
  kind: "intent",
  serial,
  atMs: 1_000,
  door: "http",
  topic: "t",
  dueMs,
  crc: 7,
  ...more,
});
const accepted = (serial: number, atMs = 1_010, id = `id-${serial}`): Entry => ({
  kind: "reply",
  serial,
  atMs,
  outcome: "accepted",
  id,
});
const copy = (serial: number, bornMs: number, more: Partial<Extract<Entry, { kind: "copy" }>> = {}): Entry => ({
  kind: "copy",
  serial,
  receivedMs: bornMs + 5,
  bornMs,
  id: `id-${serial}`,
  attempt: 1,
  deliverAtMs: 0,
  brokerMessageId: `b-${serial}-${bornMs}`,
  offset: bornMs,
  crc: 7,
  topic: "t",
  ...more,
});
const cancel = (serial: number, atMs: number, outcome: "done" | "too_late" | "unknown" | "not_found"): Entry[] => [
  { kind: "change", serial, atMs: atMs - 3, verb: "cancel" },
  { kind: "changed", serial, atMs, verb: "cancel", outcome },
];
const move = (serial: number, atMs: number, dueMs: number, outcome: "done" | "unknown"): Entry[] => [
  { kind: "change", serial, atMs: atMs - 3, verb: "reschedule", dueMs },
  { kind: "changed", serial, atMs, verb: "reschedule", outcome },
];
const invariants = (entries: Entry[], over: Partial<Rules> = {}): string[] =>
  judge(entries, { ...rules, ...over }).findings.map(({ invariant }) => invariant.split(" ")[0]!);
const window = (over: Partial<Window> = {}): Window => ({
  name: "D2",
  fromMs: 1_900,
  untilMs: 2_100,
  duplicatesMax: 10,
  ...over,
});

describe("a day on which everything held", () => {
  it("has no findings, and its numbers are counted", () => {
    const verdict = judge(
      [intent(1, 2_000), accepted(1), copy(1, 2_003), intent(2, 2_000), accepted(2), ...cancel(2, 1_500, "done")],
      rules,
    );
    expect(verdict).toMatchObject({ accepted: 2, delivered: 1, canceled: 1, lost: 0, early: 0, findings: [] });
    expect(verdict.lateness.before).toEqual({ count: 1, p50Ms: 3, p99Ms: 3, maxMs: 3 });
  });

  it("may end with an unknown message delivered or not", () => {
    const unknown: Entry = { kind: "reply", serial: 1, atMs: 1_010, outcome: "unknown" };
    expect(invariants([intent(1, 2_000), unknown])).toEqual([]);
    expect(invariants([intent(1, 2_000), unknown, copy(1, 2_000)])).toEqual([]);
  });

  it("may let an unanswered cancel end either way", () => {
    const day = [intent(1, 2_000), accepted(1), ...cancel(1, 1_990, "unknown")];
    expect(invariants(day)).toEqual([]);
    expect(invariants([...day, copy(1, 2_000)])).toEqual([]);
  });
});

describe("a judge sees", () => {
  it("a lost message", () => {
    expect(invariants([intent(1, 2_000), accepted(1)])).toEqual(["I1"]);
  });

  it("a message that was called too late to cancel and never came", () => {
    expect(invariants([intent(1, 2_000), accepted(1), ...cancel(1, 1_999, "too_late")])).toEqual(["I1"]);
  });

  it("one millisecond early, by either clock", () => {
    expect(invariants([intent(1, 2_000), accepted(1), copy(1, 1_999, { receivedMs: 2_010 })])).toEqual(["I2"]);
    expect(invariants([intent(1, 2_000), accepted(1), copy(1, 2_001, { receivedMs: 1_999 })])).toEqual(["I2"]);
  });

  it("early by the receiver's clock alone where the sender's is shifted", () => {
    const day = [intent(1, 2_000), accepted(1), copy(1, 9_000_000, { receivedMs: 1_999 })];
    expect(invariants(day, { bornIsTrue: false })).toEqual(["I2"]);
  });

  it("a second copy outside of every window, and too many inside", () => {
    const day = [intent(1, 2_000), accepted(1), copy(1, 2_000), copy(1, 2_500)];
    expect(invariants(day)).toEqual(["I4"]);
    expect(invariants(day, { windows: [window()] })).toEqual([]);
    expect(invariants(day, { windows: [window({ untilMs: 1_999 })] })).toEqual(["I4"]);
    expect(invariants(day, { windows: [window({ duplicatesMax: 0 })] })).toEqual(["I4"]);
  });

  it("what RocketMQ delivered twice as one copy", () => {
    expect(invariants([intent(1, 2_000), accepted(1), copy(1, 2_000), copy(1, 2_000, { receivedMs: 32_000 })])).toEqual(
      [],
    );
  });

  it("copies with different ids", () => {
    const day = [intent(1, 2_000), accepted(1), copy(1, 2_000), copy(1, 2_500, { id: "other" })];
    expect(invariants(day, { windows: [window()] })).toEqual(["I4", "I8"]);
  });

  it("a copy of a canceled message, also one from before the reply when no crash explains it", () => {
    const day = [intent(1, 2_000), accepted(1), ...cancel(1, 2_050, "done")];
    expect(invariants([...day, copy(1, 2_100)])).toEqual(["I5"]);
    expect(invariants([...day, copy(1, 2_010)])).toEqual(["I5"]);
    expect(invariants([...day, copy(1, 2_010)], { windows: [window()] })).toEqual([]);
    expect(invariants([...day, copy(1, 2_060)], { windows: [window()] })).toEqual(["I5"]);
  });

  it("a copy at the old time after a reschedule, and none at the new one", () => {
    const day = [intent(1, 2_000), accepted(1), ...move(1, 1_500, 3_000, "done")];
    expect(invariants([...day, copy(1, 3_000)])).toEqual([]);
    expect(invariants([...day, copy(1, 2_000)])).toEqual(["I6"]);
    expect(invariants(day)).toEqual(["I1"]);
    const perhaps = [intent(1, 2_000), accepted(1), ...move(1, 1_500, 3_000, "unknown")];
    expect(invariants([...perhaps, copy(1, 2_000)])).toEqual([]);
  });

  it("an accepted message that its cancel does not find", () => {
    expect(invariants([intent(1, 2_000), accepted(1), ...cancel(1, 1_500, "not_found"), copy(1, 2_000)])).toEqual([
      "P4",
    ]);
  });

  it("groups out of order, but only where the order was promised", () => {
    const a = (dueMs: number, acceptedMs = 1_010) => [intent(1, dueMs, { group: "g" }), accepted(1, acceptedMs)];
    const b = (dueMs: number) => [intent(2, dueMs, { group: "g" }), accepted(2)];
    const wrong = [copy(1, 3_000, { offset: 5 }), copy(2, 2_600, { offset: 4 })];
    expect(invariants([...a(2_000), ...b(2_500), ...wrong])).toEqual(["I7"]);
    // Accepted when the other one was due already: it could not have gone first.
    expect(invariants([...a(2_000, 2_500), ...b(2_500), ...wrong])).toEqual([]);
    expect(
      invariants([...a(2_000), ...b(2_500), copy(1, 2_000, { offset: 3 }), copy(2, 2_600, { offset: 4 })]),
    ).toEqual([]);
  });

  it("two ids for one key", () => {
    expect(
      invariants([intent(1, 2_000, { key: "k" }), accepted(1), accepted(1, 1_200, "other"), copy(1, 2_000)]),
    ).toEqual(["I8"]);
  });

  it("changed bytes", () => {
    expect(invariants([intent(1, 2_000), accepted(1), copy(1, 2_000, { crc: 8 })])).toEqual(["I16"]);
    expect(invariants([intent(1, 2_000), accepted(1), copy(1, 2_000, { topic: "u" })])).toEqual(["I16"]);
  });

  it("a refused message that arrives", () => {
    const refused: Entry = { kind: "reply", serial: 1, atMs: 1_010, outcome: "refused", code: "store_full" };
    expect(invariants([intent(1, 2_000), refused, copy(1, 2_000)])).toEqual(["P8"]);
    expect(invariants([intent(1, 2_000), refused, accepted(1), copy(1, 2_000)])).toEqual([]);
  });
});

describe("numbers", () => {
  it("are taken around the fault", () => {
    const entries = [1, 2, 3].flatMap((serial) => [intent(serial, serial * 1_000), accepted(serial, 900)]);
    entries.push(copy(1, 1_002), copy(2, 2_400), copy(3, 3_001));
    const verdict = judge(entries, { ...rules, fault: { fromMs: 1_900, untilMs: 2_300 } });
    expect(verdict.lateness.before.maxMs).toBe(2);
    expect(verdict.lateness.during.maxMs).toBe(400);
    expect(verdict.lateness.after.maxMs).toBe(1);
    expect(verdict.recoveryMs).toBe(105);
    expect(verdict.inFault).toBe(2);
  });

  it("of nothing are zero", () => {
    expect(latenesses([])).toEqual({ count: 0, p50Ms: 0, p99Ms: 0, maxMs: 0 });
    expect(latenesses([5, 1, 3])).toEqual({ count: 3, p50Ms: 3, p99Ms: 5, maxMs: 5 });
  });
});
