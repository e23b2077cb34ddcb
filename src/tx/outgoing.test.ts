import { describe, expect, it } from "vitest";
import { EscapementError } from "../message/errors.ts";
import { idOfKey } from "../message/id.ts";
import { epochMs } from "../message/time.ts";
import { checkMessageFields, checkRefFields, laneOf, outgoing, outgoingCancel, type TxMessage } from "./outgoing.ts";

const nowMs = epochMs(1_800_000_000_000);
const context = {
  nowMs,
  random: { float: () => 0.5, bytes: <T extends Uint8Array>(target: T): T => target.fill(7) },
  shardCount: 16,
};
const of = (message: Partial<TxMessage>) => outgoing({ topic: "orders", body: "x", ...message } as TxMessage, context);
const codeOf = (message: Partial<TxMessage>): unknown => {
  try {
    of(message);
    return undefined;
  } catch (error) {
    return (error as { code: string }).code;
  }
};

describe("a message of a transaction", () => {
  it("has its id before anything is written; a dedupe name makes the same id everywhere", () => {
    expect(of({ dedupe: "order-7" }).id).toBe(idOfKey("default", "order-7"));
    expect(of({ dedupe: "order-7", messageGroup: "g" }).id).toBe(idOfKey("default", "order-7", "g"));
    expect(of({ dedupe: "order-7", delay: "30m" }).id).toBe(idOfKey("default", "order-7"));
  });

  it("that is delayed has a name at the delay server, and its id is made of it", () => {
    const { id, head } = of({ delay: "30m" });
    expect(head.key).toMatch(/^tx-/);
    expect(id).toBe(idOfKey("default", head.key!));
    expect(of({}).head.key).toBeUndefined();
  });

  it("keeps a relative delay relative, and an instant an instant", () => {
    expect(of({ delay: "30m" }).due).toEqual({ afterMs: 1_800_000 });
    expect(of({ deliverAt: new Date(nowMs + 5) }).due).toEqual({ atMs: nowMs + 5 });
    expect(of({}).due).toBeUndefined();
  });

  it("is in order with those of its topic and key, and a lane lives in one shard", () => {
    expect(of({ key: "o1" }).lane).toBe(laneOf("orders", "o1"));
    expect(of({ messageGroup: "o1", key: "other" }).lane).toBe(laneOf("orders", "o1"));
    expect(of({ key: "o1" }).lane).not.toBe(of({ key: "o1", topic: "payments" }).lane);
    expect(of({ key: "o1" }).shard).toBe(of({ key: "o1", body: "y" }).shard);
    expect(of({}).lane).toBeUndefined();
    expect(laneOf("orders", "o1")).toBeLessThan(2 ** 48);
  });

  it("carries its key among the message keys", () => {
    expect(of({ key: "o1", keys: ["a"] }).head.keys).toEqual(["a", "o1"]);
  });

  it("is refused by the rules of the delay server's own doors", () => {
    expect(codeOf({ topic: "TBW102" })).toBe("invalid_topic");
    expect(codeOf({ body: Buffer.alloc(0) })).toBe("empty_body");
    expect(codeOf({ json: 1 })).toBe("invalid_field");
    expect(codeOf({ properties: { DELAY: "3" } })).toBe("reserved_property");
    expect(codeOf({ expireAfter: "1m" })).toBe("invalid_field");
    expect(codeOf({ properties: new Map([["a", "b"]]) as never })).toBe("invalid_field");
    expect(codeOf({ properties: "ab" as never })).toBe("invalid_field");
    for (const key of [undefined, "o1"]) expect(codeOf({ keys: "ab" as never, key: key! })).toBe("invalid_field");
    expect(codeOf({ delay: "1h", expireAfter: "1m" })).toBeUndefined();
    expect(codeOf({ deliverAt: new Date(Number.NaN) })).toBe("invalid_field");
  });

  it("that cannot be written as JSON is refused by name, with what JavaScript says as cause", () => {
    const circle: Record<string, unknown> = {};
    circle.self = circle;
    for (const json of [circle, { n: 1n }]) {
      expect(() => outgoing({ topic: "orders", json }, context)).toThrow(
        expect.objectContaining({ code: "invalid_field", field: "json", cause: expect.any(TypeError) }),
      );
    }
  });

  it("leaves room for what a delayed one carries on its way to the delay server", () => {
    const many = Object.fromEntries(Array.from({ length: 125 }, (_, i) => [`p${i}`, "x"]));
    expect(codeOf({ properties: many })).toBeUndefined();
    expect(codeOf({ properties: many, delay: 1 })).toBe("too_many_properties");
    const long = { p: "x".repeat(16_000) };
    expect(codeOf({ properties: long })).toBeUndefined();
    expect(codeOf({ properties: long, delay: 1 })).toBe("properties_too_large");
  });
});

it("a cancel names the id that its message has", () => {
  const { id, head } = of({ dedupe: "order-7", delay: "30m", messageGroup: "g" });
  const { target, row } = outgoingCancel({ key: head.key!, messageGroup: "g" }, context);
  expect(target).toBe(id);
  expect(row).toMatchObject({ kind: "cancel", head: { key: "order-7", messageGroup: "g" } });
  expect(row.id).not.toBe(id);
});

describe("what is handed over for sending or canceling", () => {
  const refused = (work: () => void): unknown => {
    try {
      work();
      return undefined;
    } catch (error) {
      return error instanceof EscapementError ? [error.code, error.field] : error;
    }
  };

  it("has fields that are known, or is refused: a mistyped delay would send at once", () => {
    expect(refused(() => checkMessageFields({ topic: "t", body: "x", dealy: "30m" }))).toEqual([
      "unknown_field",
      "dealy",
    ]);
    expect(refused(() => checkRefFields({ key: "k", group: "g" }))).toEqual(["unknown_field", "group"]);
    expect(refused(() => checkRefFields({ key: "k", messageGroup: "g" }))).toBeUndefined();
    const all: Required<TxMessage> = {
      topic: "t",
      body: "x",
      json: 1,
      tag: "x",
      keys: [],
      properties: {},
      key: "k",
      messageGroup: "g",
      deliverAt: 1,
      delay: 1,
      dedupe: "d",
      expireAfter: 1,
    };
    expect(refused(() => checkMessageFields(all))).toBeUndefined();
  });

  it("has nothing that is null, but JSON may be it", () => {
    expect(refused(() => checkMessageFields({ topic: "t", body: "x", dedupe: null }))).toEqual([
      "invalid_field",
      "dedupe",
    ]);
    expect(refused(() => checkMessageFields({ topic: "t", json: null }))).toBeUndefined();
    expect(outgoing({ topic: "t", json: null }, context).body.toString()).toBe("null");
  });

  it("is an object, or is refused in words", () => {
    for (const given of [undefined, null, "t", []]) {
      expect(refused(() => checkMessageFields(given))).toEqual(["invalid_request", undefined]);
      expect(refused(() => checkRefFields(given))).toEqual(["invalid_request", undefined]);
    }
  });
});
