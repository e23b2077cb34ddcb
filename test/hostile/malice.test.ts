import { describe, expect, it } from "vitest";
import { testNowMs } from "../../src/admin/testing.ts";
import { admitSchedule } from "../../src/ingest/admit.ts";
import { isEscapementError } from "../../src/message/errors.ts";
import { limits } from "../../src/message/message.ts";

// No text of 100 KB keeps admit busy for long, whatever it is made of and wherever it stands.

const context = {
  tenant: "t",
  nowMs: testNowMs,
  random: { float: () => 0.5, bytes: <T extends Uint8Array>(target: T): T => target.fill(7) as T },
  tail: 1,
};
const refusedOrTaken = (given: unknown): string => {
  try {
    admitSchedule(given, context);
    return "taken";
  } catch (error) {
    if (!isEscapementError(error)) throw error;
    return error.code;
  }
};

describe("100 KB of malice", () => {
  const kilobytes = 100_000;
  const pieces = [
    "a",
    " ",
    "1",
    "9",
    "=",
    "A",
    "é",
    "\u0001",
    "\ud800",
    "-",
    "P",
    "1m",
    "level:",
    "P1D",
    "2027-01-01T",
    "%",
    "|",
    ".",
    "\u00a0",
    "\u{1F4E8}",
    "TIMER_",
    "a b",
  ];
  const shapes = pieces.flatMap((piece) => {
    const long = piece.repeat(Math.floor(kilobytes / piece.length));
    return [long, `${long}\u0000`, `a${long}!`];
  });
  const slots: [string, (text: string) => object][] = [
    ["topic", (topic) => ({ topic })],
    ["tag", (tag) => ({ tag })],
    ["key", (key) => ({ key })],
    ["messageGroup", (messageGroup) => ({ messageGroup })],
    ["keys", (text) => ({ keys: [text, text] })],
    ["a property", (text) => ({ properties: { p: text } })],
    ["a property name", (text) => ({ properties: { [text]: "x" } })],
    ["delay", (delay) => ({ delay })],
    ["deliverAt", (deliverAt) => ({ delay: undefined, deliverAt })],
    ["expireAfter", (expireAfter) => ({ expireAfter })],
    ["retry", (text) => ({ retry: { initial: text, max: text } })],
    ["body", (body) => ({ body })],
    ["bodyBase64", (bodyBase64) => ({ body: undefined, bodyBase64 })],
    ["an unknown field", (text) => ({ [text]: 1 })],
    ["onConflict", (onConflict) => ({ key: "k", onConflict })],
  ];

  it.each(slots)("in %s takes at most 5 ms to judge", (_, fieldsOf) => {
    for (const shape of shapes) {
      const given = JSON.parse(JSON.stringify({ topic: "orders", body: "x", delay: "1s", ...fieldsOf(shape) }));
      // The best of some: what the machine does besides is not the validator's time, and a slow one is always slow.
      let tookMs = Number.POSITIVE_INFINITY;
      for (let tries = 0; tries < 20 && tookMs > 5; tries++) {
        const startedAt = performance.now();
        expect(refusedOrTaken(given)).toMatch(/^[a-z_0-9]+$/);
        tookMs = Math.min(tookMs, performance.now() - startedAt);
      }
      expect(tookMs).toBeLessThanOrEqual(5);
    }
  });

  it("leaves room for a full body, which is not malice", () => {
    const body = "é".repeat(limits.bodyBytesMax / 2);
    expect(refusedOrTaken({ topic: "orders", body, delay: 1 })).toBe("taken");
  });
});
