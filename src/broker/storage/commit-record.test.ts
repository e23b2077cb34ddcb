import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  decodeMessage,
  encodeMessage,
  encodeTopicDeleted,
  isTopicDeleted,
  queueIdOf,
  queueOffsetOf,
  tagOf,
  topicOf,
} from "./commit-record.ts";
import { aMessage } from "./testing.ts";

const bytes = fc.uint8Array({ maxLength: 40 }).map((array) => Buffer.from(array));
const text = fc.string({ unit: "grapheme", maxLength: 20 });

describe("a record of the commit log", () => {
  it("gives back every message as it was", () => {
    fc.assert(
      fc.property(
        fc.record({
          topic: text,
          messageId: text,
          type: fc.constantFrom("NORMAL" as const, "FIFO" as const, "DELAY" as const, "TRANSACTION" as const),
          tag: fc.option(text, { nil: undefined }),
          messageGroup: fc.option(text, { nil: undefined }),
          deliverAtMs: fc.option(fc.integer({ min: 1, max: 253_402_300_799_999 }), { nil: undefined }),
          userProperties: bytes,
          systemProperties: bytes,
          body: bytes,
        }),
        fc.nat(0xffff),
        fc.nat(Number.MAX_SAFE_INTEGER).map((offset) => offset % 2 ** 48),
        fc.nat(253_402_300_799_999),
        (message, queueId, queueOffset, storedAtMs) => {
          const place = { topicBytes: Buffer.from(message.topic), queueId };
          const record = encodeMessage(place, message, queueOffset, storedAtMs);
          expect(decodeMessage(record)).toEqual({ ...message, queueId, queueOffset, storedAtMs });
          expect([topicOf(record), queueIdOf(record), queueOffsetOf(record), tagOf(record)]).toEqual([
            message.topic,
            queueId,
            queueOffset,
            message.tag,
          ]);
          expect(isTopicDeleted(record)).toBe(false);
        },
      ),
      { numRuns: 200 },
    );
  });

  it("shows body and properties as views, not as copies", () => {
    const place = { topicBytes: Buffer.from("orders"), queueId: 0 };
    const record = encodeMessage(place, aMessage({ body: Buffer.from("before") }), 0, 0);
    const { body } = decodeMessage(record);
    record.write("after!", record.length - 6);
    expect(body.toString()).toBe("after!");
  });

  it("can say that a topic was deleted", () => {
    const record = encodeTopicDeleted("größer", 7);
    expect(isTopicDeleted(record)).toBe(true);
    expect(topicOf(record)).toBe("größer");
  });
});
