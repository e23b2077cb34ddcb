import { describe, expect, it } from "vitest";
import type { BrokerEntry, Kind } from "./broker-entries.ts";
import { judgeBroker, openMessages } from "./broker-verdict.ts";

/** The judge of the embedded broker against ledgers with one thing wrong. */
const invisibleMs = 3_000;
const sent = (serial: number, kind: Kind = "normal", group?: string): BrokerEntry => ({
  event: "sent",
  serial,
  atMs: 10_000 + serial,
  kind,
  group,
  dueMs: kind === "delayed" ? 11_000 : 10_000,
  crc: 7,
});
const stored = (serial: number): BrokerEntry => ({ event: "stored", serial, atMs: 10_100 });
const got = (
  serial: number,
  atMs: number,
  more: Partial<Extract<BrokerEntry, { event: "got" }>> = {},
): BrokerEntry => ({
  event: "got",
  serial,
  atMs,
  offset: serial,
  attempt: 1,
  crc: 7,
  isDeadLetter: false,
  ...more,
});
const acked = (serial: number, atMs: number): BrokerEntry => ({ event: "acked", serial, atMs, offset: serial });
const killed = (atMs: number): BrokerEntry => ({ event: "killed", atMs });
const broken = (...entries: BrokerEntry[]): string[] =>
  judgeBroker(entries, { invisibleMs }).findings.map(({ invariant }) => invariant.split(" ")[0]!);

describe("the judge of the broker", () => {
  it("finds nothing wrong with a good day", () => {
    const day = [sent(1), stored(1), got(1, 10_200), got(1, 13_300, { attempt: 2 }), acked(1, 13_400)];
    expect(broken(...day)).toEqual([]);
    expect(openMessages(day, 20_000, 5_000)).toBe(0);
    expect(openMessages([sent(1), stored(1)], 20_000, 5_000)).toBe(1);
  });

  it("sees what was lost, also by its dead-letter topic", () => {
    expect(broken(sent(1), stored(1))).toEqual(["B1"]);
    expect(broken(sent(1))).toEqual([]);
    expect(broken(sent(1, "hopeless"), stored(1), got(1, 10_200))).toEqual(["B1"]);
    expect(
      broken(sent(1), stored(1), got(1, 10_200), acked(1, 10_300), got(1, 20_000, { isDeadLetter: true })),
    ).toEqual(["B2"]);
  });

  it("sees what should not have come", () => {
    expect(broken(sent(1, "rolled-back"), got(1, 10_200))).toEqual(["B3"]);
    expect(broken(sent(1, "recalled"), { event: "recalled", serial: 1, atMs: 10_150 }, got(1, 10_200))).toEqual(["B3"]);
    expect(broken(sent(1), got(1, 10_200, { crc: 8 }))).toEqual(["B4"]);
    expect(broken(sent(1, "delayed"), got(1, 10_900))).toEqual(["B5"]);
    expect(broken(sent(1), got(1, 10_200), acked(1, 10_300), got(1, 19_000, { attempt: 2 }))).toEqual(["B7"]);
    const again = [got(1, 10_200), acked(1, 10_300), killed(10_900), got(1, 19_000), acked(1, 19_100)];
    expect(broken(sent(1), ...again)).toEqual(["B7"]);
  });

  it("allows second copies and early redeliveries after a kill alone", () => {
    const twice = (kind: Kind): BrokerEntry[] => [sent(1, kind), got(1, 11_200), got(1, 15_200, { offset: 9 })];
    expect(broken(...twice("delayed"))).toEqual(["B6"]);
    expect(broken(...twice("delayed"), killed(11_100))).toEqual([]);
    expect(broken(...twice("normal"), killed(11_100))).toEqual(["B6"]);
    const soon = [sent(1), got(1, 10_200), got(1, 11_000)];
    expect(broken(...soon)).toEqual(["B8", "B9"]);
    expect(broken(...soon, killed(10_600))).toEqual([]);
  });

  it("sees a group out of order", () => {
    const day = [sent(1, "fifo", "g"), stored(1), sent(2, "fifo", "g"), stored(2), got(2, 10_200), got(1, 10_300)];
    expect(broken(...day)).toEqual(["B10"]);
  });
});
