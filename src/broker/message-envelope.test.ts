import { describe, expect, it } from "vitest";
import type { BrokerMessage } from "./broker-message.ts";
import { unwrap, wrap } from "./message-envelope.ts";
import { readRecallHandle, recallHandle } from "./recall-handle.ts";

const message: BrokerMessage = {
  topic: "orders",
  messageId: "01ABC",
  type: "FIFO",
  tag: "ü",
  messageGroup: "g",
  deliverAtMs: 1_800_000_000_000,
  userProperties: Buffer.from([1, 2, 3]),
  systemProperties: Buffer.from([4, 5]),
  body: Buffer.from([0, 255, 0]),
};

describe("a message as the body of another", () => {
  it("comes out as it went in, with everything or with next to nothing", () => {
    expect(unwrap(wrap(message))).toEqual(message);
    const empty = Buffer.alloc(0);
    const least = { ...message, tag: undefined, messageGroup: undefined, deliverAtMs: undefined, body: empty };
    expect(unwrap(wrap(least))).toEqual(least);
  });

  it("refuses what it did not make", () => {
    const wrapped = wrap(message);
    const other = Buffer.from(wrapped);
    other[0] = 9;
    for (const bytes of [Buffer.alloc(0), other, wrapped.subarray(0, 20)]) expect(() => unwrap(bytes)).toThrow();
  });
});

describe("a recall handle", () => {
  it("says which message of which topic, and nothing when it is not ours", () => {
    const handle = { topic: "orders", deliverAtMs: 1_800_000_000_000, messageId: "01ABC", name: "a-b" };
    expect(readRecallHandle(recallHandle(handle))).toEqual(handle);
    const foreign = Buffer.from("v1 orders broker-a 1800000000000 01ABC").toString("base64url");
    for (const text of ["", "%%%", foreign, Buffer.from("v2 a b c d e").toString("base64url")])
      expect(readRecallHandle(text)).toBeUndefined();
  });
});
