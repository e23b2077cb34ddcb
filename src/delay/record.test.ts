import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { laneOf, type MessageId } from "../message/id.ts";
import type { DelayedMessage } from "../message/message.ts";
import { type EpochMs, epochMsMax } from "../message/time.ts";
import {
  encodeProperties,
  encodeReason,
  laneOfRecord,
  levelNone,
  type RecordForm,
  readRecord,
  recordBytesMax,
  writeRecord,
} from "./record.ts";

const id = "0190d3a4-1111-7222-8333-444455556666" as MessageId;
const time = fc.integer({ min: 0, max: epochMsMax }).map((ms) => ms as EpochMs);
const text = fc.string({ unit: "grapheme", maxLength: 40 });
const optional = <T>(name: string, value: fc.Arbitrary<T>) =>
  fc.option(value, { nil: undefined }).map((one) => (one === undefined ? {} : { [name]: one }));
const plainObjects = { noNullPrototype: true } as const;
const duration = fc.integer({ min: 0, max: 2 ** 45 });

const message: fc.Arbitrary<DelayedMessage> = fc
  .tuple(
    fc.record({
      id: fc.constant(id),
      tenant: text,
      topic: text,
      keys: fc.array(text, { maxLength: 32 }),
      properties: fc.array(fc.tuple(text, text), { maxLength: 20 }).map((entries) => new Map(entries)),
      body: fc.uint8Array({ maxLength: 500 }).map((bytes) => Buffer.from(bytes)),
      deliverAtMs: time,
      acceptedAtMs: time,
      attempt: fc.constant(0),
    }),
    optional("key", text),
    optional("tag", text),
    optional("messageGroup", text),
    optional("expireAtMs", time),
    optional(
      "retry",
      fc.record(
        {
          maxAttempts: fc.integer({ min: 1, max: 1000 }),
          initialMs: duration,
          maxMs: duration,
          multiplier: fc.double({ min: 1, max: 10, noNaN: true }),
        },
        plainObjects,
      ),
    ),
  )
  .map((parts) => Object.assign({}, ...parts) as DelayedMessage);

const form: fc.Arbitrary<RecordForm> = fc
  .tuple(
    fc.record({ level: fc.integer({ min: 0, max: levelNone }), names: fc.constantFrom("byLane", "inline") }),
    optional("attempt", fc.integer({ min: 0, max: 65_535 })),
    optional(
      "group",
      fc.uint8Array({ minLength: 16, maxLength: 16 }).map((bytes) => Buffer.from(bytes)),
    ),
    optional(
      "dead",
      fc.record({ endedAtMs: time, reason: fc.record({ code: text, detail: text }, plainObjects) }, plainObjects),
    ),
  )
  .map((parts) => Object.assign({}, ...parts) as RecordForm);

const written = (one: DelayedMessage, form: RecordForm, offset = 0): Buffer => {
  const target = Buffer.alloc(offset + recordBytesMax(one, form), 0xee);
  return target.subarray(0, writeRecord(target, offset, one, form));
};

describe("a record", () => {
  it("gives back every field of every message, wherever it lies in a buffer", () => {
    fc.assert(
      fc.property(message, form, fc.nat({ max: 70 }), (original, form, offset) => {
        const bytes = written(original, form, offset);
        expect(laneOfRecord(bytes, offset)).toBe(laneOf(original.tenant, original.topic));
        const read = readRecord(bytes, offset, bytes.length, id, (lane) => {
          expect(form.names).toBe("byLane");
          expect(lane).toBe(laneOf(original.tenant, original.topic));
          return original;
        });
        expect(read).toStrictEqual({
          isDead: form.dead !== undefined,
          dueMs: original.deliverAtMs,
          message: { ...original, attempt: form.attempt ?? 0 },
          ...(form.dead ?? {}),
        });
      }),
      { numRuns: 1_000 },
    );
  });

  it("of a plain message spends 18 bytes on everything but the body", () => {
    const plain: DelayedMessage = {
      id,
      tenant: "default",
      topic: "orders-paid".slice(0, 10),
      keys: [],
      properties: new Map(),
      body: Buffer.alloc(200, 1),
      deliverAtMs: 1_800_000_000_000 as EpochMs,
      acceptedAtMs: 1_790_000_000_000 as EpochMs,
      attempt: 0,
    };
    expect(written(plain, { level: 3, names: "byLane" }).length).toBe(218);
  });

  it("refuses a version it does not know", () => {
    const bytes = Buffer.alloc(40);
    bytes[1] = 2;
    expect(() => readRecord(bytes, 0, 40, id, () => ({ tenant: "", topic: "" }))).toThrow("version 2");
  });

  it("refuses what its lengths cannot say", () => {
    expect(() => encodeProperties(new Map([["name", "x".repeat(70_000)]]))).toThrow(RangeError);
    expect(() => encodeProperties(new Map(Array.from({ length: 70 }, (_, i) => [`${i}`, "x".repeat(1_000)])))).toThrow(
      RangeError,
    );
  });

  it("cuts a reason that is too long for people, between two characters", () => {
    for (const lead of ["", "a", "ab"]) {
      const bytes = encodeReason({ code: "c", detail: lead + "日".repeat(3_000) });
      expect(bytes.length).toBeLessThanOrEqual(2 + 4_096);
      expect(bytes.toString()).not.toContain("\ufffd");
    }
  });
});
