import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { durationMs, epochMs, epochMsMax } from "../message/time.ts";
import type { PastFailure, RetryEnvelope } from "./envelope.ts";
import { boundedText, decodeEnvelope, encodeEnvelope, envelopeLimits, withFailure } from "./envelope-codec.ts";
import { failureClasses } from "./policy.ts";

const least: RetryEnvelope = {
  group: "billing",
  originTopic: "orders",
  originId: "01A@host@1",
  originBornAtMs: epochMs(1_750_000_000_000),
  hop: 1,
  attempt: 1,
  crashes: 0,
  parkedMs: durationMs(0),
  policy: "default@0",
  history: [],
  replays: 0,
  redirects: 0,
};
const text = (min: number, max: number) =>
  fc
    .string({ unit: "binary", minLength: min, maxLength: Math.floor(max / 2) })
    .map((value) => boundedText(value, max))
    .filter((value) => value.length >= min && value.length <= max);
const count = fc.integer({ min: 0, max: envelopeLimits.countMax });
const instant = fc.integer({ min: 0, max: epochMsMax }).map(epochMs);
const length = fc.integer({ min: 0, max: 1e12 }).map(durationMs);
const failure: fc.Arbitrary<PastFailure> = fc.record({
  attempt: count,
  atMs: instant,
  class: fc.constantFrom(...failureClasses),
  code: text(1, envelopeLimits.codeMax),
  fingerprint: text(1, envelopeLimits.fingerprintMax),
  text: text(0, envelopeLimits.errorTextMax),
});
const envelopes: fc.Arbitrary<RetryEnvelope> = fc
  .record(
    {
      group: text(1, 40),
      originTopic: text(1, 60),
      originId: text(1, 60),
      originBornAtMs: instant,
      originEscId: text(1, envelopeLimits.escIdMax),
      originMessageGroup: text(1, 60),
      hop: count,
      attempt: count,
      crashes: fc.constant(0),
      firstFailedAtMs: instant,
      parkedMs: length,
      parkedAtMs: instant,
      parkedFor: text(1, 60),
      previousDelayMs: length,
      policy: text(1, 60),
      mustVerify: fc.constant(true),
      history: fc.array(failure, { maxLength: envelopeLimits.lastFailuresMax + 1 }),
      replays: count,
      redrive: text(1, envelopeLimits.redriveMax),
      redirects: count,
    },
    {
      requiredKeys: [
        "group",
        "originTopic",
        "originId",
        "originBornAtMs",
        "hop",
        "attempt",
        "crashes",
        "parkedMs",
        "policy",
        "history",
        "replays",
        "redirects",
      ],
    },
  )
  .map((envelope) => ({ ...envelope, crashes: envelope.attempt % 3 }) as RetryEnvelope);
const decoded = (encoded: string): RetryEnvelope => {
  const result = decodeEnvelope(encoded);
  if (!result.ok) throw new Error(result.reason);
  return result.envelope;
};
const withoutHistory = ({ history, ...rest }: RetryEnvelope) => rest;

describe("the envelope", () => {
  it("is the same after the way there and back", () => {
    fc.assert(
      fc.property(envelopes, (envelope) => {
        const small = {
          ...envelope,
          history: envelope.history.map((past) => ({ ...past, text: past.text.slice(0, 5) })),
        };
        const wellFormed = {
          ...small,
          history: small.history.map((past) => ({ ...past, text: past.text.toWellFormed() })),
        };
        const encoded = encodeEnvelope(wellFormed);
        // Texts of nothing but four-byte characters may be more than fits; then only the history may differ.
        expect(withoutHistory(decoded(encoded!))).toEqual(withoutHistory(wellFormed));
        if (Buffer.byteLength(JSON.stringify(wellFormed)) < 3_000) expect(decoded(encoded!)).toEqual(wellFormed);
      }),
      { seed: 501, numRuns: 200 },
    );
    expect(encodeEnvelope(least)!.length).toBeLessThan(130);
  });

  it("never takes more than its room, and gives up failures before anything that counts", () => {
    fc.assert(
      fc.property(envelopes, fc.integer({ min: 0, max: 6_000 }), (envelope, room) => {
        const encoded = encodeEnvelope(envelope, room);
        if (encoded === undefined) {
          const bare = encodeEnvelope({ ...envelope, history: [] });
          expect(Buffer.byteLength(bare!)).toBeGreaterThan(room);
          return;
        }
        expect(Buffer.byteLength(encoded)).toBeLessThanOrEqual(Math.min(room, envelopeLimits.bytesMax));
        expect(withoutHistory(decoded(encoded))).toEqual(withoutHistory(envelope));
        const kept = decoded(encoded).history.map((past) => past.atMs);
        const all = envelope.history.map((past) => past.atMs);
        if (kept.length > 0) expect([kept[0], kept.at(-1)]).toEqual([all[0], all.at(-1)]);
      }),
      { seed: 502, numRuns: 200 },
    );
  });

  it("shrinks texts first, then the failures in the middle", () => {
    const past = (attempt: number): PastFailure => ({
      attempt,
      atMs: epochMs(1_750_000_000_000 + attempt),
      class: "transient",
      code: "http_503",
      fingerprint: "Error/http_503/0a1b2c3d",
      text: "x".repeat(200),
    });
    const full = { ...least, history: [1, 12, 13, 14, 15, 16, 17, 18, 19].map(past) };
    const at = (room: number) => decoded(encodeEnvelope(full, room)!).history;
    expect(at(4_096)).toEqual(full.history);
    expect(at(2_000).map(({ text }) => text.length)).toEqual(Array(9).fill(80));
    expect(at(600).map(({ attempt }) => attempt)).toEqual([1, 16, 17, 18, 19]);
    expect(at(300).map(({ attempt }) => attempt)).toEqual([1, 19]);
    expect(at(200)).toEqual([]);
    expect(encodeEnvelope(full, 100)).toBeUndefined();
  });

  it("remembers the first failure and the last eight", () => {
    let history: readonly PastFailure[] = [];
    for (let attempt = 1; attempt <= 30; attempt++) {
      history = withFailure(history, {
        attempt,
        atMs: epochMs(0),
        class: "transient",
        code: "c",
        fingerprint: "f",
        text: "",
      });
    }
    expect(history.map(({ attempt }) => attempt)).toEqual([1, 23, 24, 25, 26, 27, 28, 29, 30]);
  });

  it("holds nothing that RocketMQ refuses in a property, whatever an error says", () => {
    const nasty = `a\u0000b\u0001\u0002c\u009f\ud800 ${"\u{1f600}".repeat(300)}`;
    const history: PastFailure[] = [
      { attempt: 1, atMs: epochMs(1), class: "unknown", code: nasty, fingerprint: nasty, text: nasty },
    ];
    const encoded = encodeEnvelope({ ...least, history })!;
    expect(encoded).not.toMatch(/[\u0000-\u001f\u007f-\u009f]/);
    expect(encoded.isWellFormed()).toBe(true);
    expect(decoded(encoded).history[0]!.text.length).toBeLessThanOrEqual(envelopeLimits.errorTextMax);
  });
});

describe("a hostile envelope is refused with a reason", () => {
  const changed = (change: Record<string, unknown>): string =>
    JSON.stringify({ ...JSON.parse(encodeEnvelope(least)!), ...change });
  it.each([
    ["", /not JSON/],
    ["[1]", /not a JSON object/],
    ["null", /not a JSON object/],
    [changed({ v: 2 }), /version 2/],
    [changed({ v: undefined }), /version nothing/],
    [changed({ a: -1 }), /field a /],
    [changed({ a: 1.5 }), /field a /],
    [changed({ a: "1" }), /field a /],
    [changed({ h: 1e9 }), /field h /],
    [changed({ c: 2 }), /2 crashes in 1/],
    [changed({ b: epochMsMax + 1 }), /field b /],
    [changed({ k: -5 }), /field k /],
    [changed({ g: "" }), /field g of 0/],
    [changed({ g: "x".repeat(121) }), /field g of 121/],
    [changed({ g: { toString: 1 } }), /field g that is not a text/],
    [changed({ kf: "a\nb" }), /control characters in its field kf/],
    [changed({ u: true }), /field u/],
    [changed({ l: "x" }), /not a list/],
    [changed({ l: Array(10).fill([1, 1, "transient", "c", "f", ""]) }), /10 failures/],
    [changed({ l: [[1, 1, "fatal", "c", "f", ""]] }), /class that does not exist/],
    [changed({ l: [[1, 1, "transient", "c", "f"]] }), /not a failure/],
    [changed({ l: [[1, 1, "transient", "c", "f", "x".repeat(201)]] }), /201 characters/],
    [changed({ i: "é".repeat(3_000) }), /larger than 4096/],
    ["9".repeat(10_000_000), /larger than 4096/],
    ["[".repeat(4_000), /not JSON/],
  ])("%#", (hostile, reason) => {
    const result = decodeEnvelope(hostile);
    expect(result.ok).toBe(false);
    if (!result.ok) {
      expect(result.reason).toMatch(reason);
      expect(result.reason.length).toBeLessThan(250);
    }
  });

  it("never throws and never makes up more than there is", () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.json(),
          fc.json().map((value) => `{"v":1,"g":${value}}`),
        ),
        (hostile) => {
          expect(decodeEnvelope(hostile).ok).toBe(false);
        },
      ),
      { seed: 503, numRuns: 300 },
    );
    const strange = changed({ ["__proto__"]: { polluted: 1 }, later: [1, 2] });
    expect(decoded(strange)).toEqual(least);
  });
});
