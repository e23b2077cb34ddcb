import { describe, expect, it, test } from "vitest";
import { isEscapementError } from "../message/errors.ts";
import { groupTail, idOfKey } from "../message/id.ts";
import { limits } from "../message/message.ts";
import { reservedPropertyNames, reservedPropertyPrefixes } from "../message/reserved-properties.ts";
import { day, epochMs, epochMsMax, hour } from "../message/time.ts";
import type { Random } from "../runtime/random.ts";
import { type AdmitContext, admitMessage, admitRef, admitReschedule, admitSchedule } from "./admit.ts";

// What hostile input gets is tried in test/hostile; here stands what is admitted, and the borders.

const nowMs = epochMs(1_800_000_000_000);
const random: Random = { float: () => 0.5, bytes: (target) => target.fill(0xab) };
const context: AdmitContext = { tenant: "t1", nowMs, random, tail: 0x1234 };
const least = { topic: "orders", body: "hello", delay: "30m" };
const admit = (more: Record<string, unknown>, extra: Partial<AdmitContext> = {}) =>
  admitSchedule({ ...least, ...more }, { ...context, ...extra });

const refusal = (act: () => unknown): string => {
  try {
    act();
  } catch (error) {
    if (isEscapementError(error)) return error.field === undefined ? error.code : `${error.code} ${error.field}`;
    throw error;
  }
  return "accepted";
};

describe("what is admitted", () => {
  it("takes the least there can be, with a fresh id of the given tail", () => {
    const { message, onConflict, waitForTopic } = admitSchedule(least, context);
    expect(message).toEqual({
      id: expect.stringMatching(/^[0-9a-f-]{36}$/),
      tenant: "t1",
      topic: "orders",
      keys: [],
      properties: new Map(),
      body: Buffer.from("hello"),
      deliverAtMs: nowMs + hour / 2,
      acceptedAtMs: nowMs,
      attempt: 0,
    });
    expect(message.id.endsWith("1234")).toBe(true);
    expect(Object.keys(message)).not.toContain("key");
    expect(onConflict).toBeUndefined();
    expect(waitForTopic).toBe(false);
  });

  it("takes everything there is", () => {
    const { message, onConflict, waitForTopic } = admitSchedule(
      {
        topic: "%RETRY%group|A-z_9",
        bodyBase64: "AP+A/w==",
        tag: "paid ✓",
        keys: ["order-1", "客户-7"],
        properties: { color: "rød", note: "two words" },
        messageGroup: "customer 7",
        deliverAt: "2027-02-01T09:00:00+08:00",
        key: "order 1/reminder",
        onConflict: "replace",
        expireAfter: "PT1H",
        retry: { maxAttempts: 3, initial: "2s", max: "1m", multiplier: 1.5 },
        waitForTopic: true,
      },
      context,
    );
    const deliverAtMs = Date.UTC(2027, 1, 1, 1);
    expect(message).toEqual({
      id: idOfKey("t1", "order 1/reminder", "customer 7"),
      tenant: "t1",
      key: "order 1/reminder",
      topic: "%RETRY%group|A-z_9",
      tag: "paid ✓",
      keys: ["order-1", "客户-7"],
      properties: new Map([
        ["color", "rød"],
        ["note", "two words"],
      ]),
      messageGroup: "customer 7",
      body: Buffer.from([0, 0xff, 0x80, 0xff]),
      deliverAtMs,
      expireAtMs: deliverAtMs + hour,
      acceptedAtMs: nowMs,
      retry: { maxAttempts: 3, initialMs: 2_000, maxMs: 60_000, multiplier: 1.5 },
      attempt: 0,
    });
    expect(onConflict).toBe("replace");
    expect(waitForTopic).toBe(true);
  });

  it("keeps the first message of a key unless told otherwise", () => {
    expect(admit({ key: "k" }).onConflict).toBe("keep");
  });

  it("gives a key its own id in every tenant and group", () => {
    const ids = [admit({ key: "k" }), admit({ key: "k" }, { tenant: "t2" }), admit({ key: "k", messageGroup: "g" })];
    expect(new Set(ids.map(({ message }) => message.id)).size).toBe(3);
  });

  it("puts all messages of a group into the group's shard", () => {
    const tail = groupTail("t1", "g").toString(16).padStart(4, "0");
    expect(admit({ messageGroup: "g" }).message.id.endsWith(tail)).toBe(true);
    expect(admit({ messageGroup: "g", key: "k" }).message.id.endsWith(tail)).toBe(true);
  });

  it("takes past instants as they are, back to 1970", () => {
    expect(admit({ delay: undefined, deliverAt: "1970-01-01T00:00:00Z" }).message.deliverAtMs).toBe(0);
    expect(admit({ delay: 0 }).message.deliverAtMs).toBe(nowMs);
  });

  it("fills in what a retry policy does not say", () => {
    expect(admit({ retry: {} }).message.retry).toEqual({
      maxAttempts: 80,
      initialMs: 1_000,
      maxMs: 1_800_000,
      multiplier: 2,
    });
    expect(admit({ retry: { initial: "2h" } }).message.retry).toMatchObject({ initialMs: 2 * hour, maxMs: 2 * hour });
  });

  it("takes an expiry as an instant, and one beyond all time as the end of time", () => {
    expect(admit({ expireAfter: "2030-01-01T00:00:00Z" }).message.expireAtMs).toBe(Date.UTC(2030, 0, 1));
    expect(admit({ expireAfter: epochMsMax }).message.expireAtMs).toBe(epochMsMax);
  });
});

describe("the borders", () => {
  const wide = "é"; // two bytes
  test.each<[string, Record<string, unknown>, string]>([
    ["topic 127", { topic: "a".repeat(127) }, "accepted"],
    ["topic 128", { topic: "a".repeat(128) }, "invalid_topic topic"],
    ["tag 127", { tag: "a".repeat(127) }, "accepted"],
    ["tag 128", { tag: "a".repeat(128) }, "invalid_field tag"],
    ["tag 64 wide", { tag: wide.repeat(64) }, "invalid_field tag"],
    ["group 63", { messageGroup: "a".repeat(63) }, "accepted"],
    ["group 64", { messageGroup: "a".repeat(64) }, "invalid_field messageGroup"],
    ["group 32 wide", { messageGroup: wide.repeat(32) }, "invalid_field messageGroup"],
    ["key 256", { key: "a".repeat(256) }, "accepted"],
    ["key 257", { key: "a".repeat(257) }, "invalid_field key"],
    ["32 keys", { keys: Array(32).fill("k") }, "accepted"],
    ["33 keys", { keys: Array(33).fill("k") }, "invalid_field keys"],
    ["keys[1] 257", { keys: ["k", "a".repeat(257)] }, "invalid_field keys[1]"],
    ["no keys", { keys: [] }, "accepted"],
    ["body at the limit", { body: "a".repeat(limits.bodyBytesMax) }, "accepted"],
    ["body above", { body: "a".repeat(limits.bodyBytesMax + 1) }, "body_too_large body"],
    ["wide body above", { body: wide.repeat(limits.bodyBytesMax / 2 + 1) }, "body_too_large body"],
    ["365 days", { delay: 365 * day }, "accepted"],
    ["365 days and 1 ms", { delay: 365 * day + 1 }, "delay_too_long delay"],
    ["instant in 365 days", { delay: undefined, deliverAt: nowMs + 365 * day }, "accepted"],
    ["1 ms later", { delay: undefined, deliverAt: nowMs + 365 * day + 1 }, "delay_too_long deliverAt"],
    ["expires 1 ms after due", { expireAfter: 1 }, "accepted"],
    ["expires when due", { expireAfter: 0 }, "expires_before_due expireAfter"],
    [
      "expired already",
      { delay: undefined, deliverAt: nowMs - hour, expireAfter: hour },
      "expires_before_due expireAfter",
    ],
    ["not yet", { delay: undefined, deliverAt: nowMs - hour, expireAfter: hour + 1 }, "accepted"],
    ["expires before due", { expireAfter: "2026-01-01T00:00:00Z" }, "expires_before_due expireAfter"],
  ])("%s: %s", (_, more, expected) => {
    expect(refusal(() => admit(more))).toBe(expected);
  });

  const properties = (count: number, bytes: number) =>
    Object.fromEntries(Array.from({ length: count }, (_, i) => [`p${i}`, "v".repeat(bytes)]));

  it("counts properties, and their bytes together with tag and keys", () => {
    expect(refusal(() => admit({ properties: properties(125, 1) }))).toBe("accepted");
    expect(refusal(() => admit({ properties: properties(126, 1) }))).toBe("too_many_properties properties");
    const full = limits.propertyBytesMax - 2;
    expect(refusal(() => admit({ properties: properties(1, full) }))).toBe("accepted");
    expect(refusal(() => admit({ properties: properties(1, full + 1) }))).toBe("properties_too_large properties.p0");
    expect(refusal(() => admit({ properties: properties(1, full), tag: "x" }))).toBe(
      "properties_too_large properties.p0",
    );
    expect(refusal(() => admit({ properties: properties(1, full), keys: ["x"] }))).toBe(
      "properties_too_large properties.p0",
    );
    expect(refusal(() => admit({ properties: { p: wide.repeat(full / 2 + 1) } }))).toBe(
      "properties_too_large properties.p",
    );
  });

  it("refuses every reserved property name and family", () => {
    for (const name of [...reservedPropertyNames, ...reservedPropertyPrefixes.map((prefix) => `${prefix}X`)]) {
      expect(refusal(() => admit({ properties: { [name]: "x" } }))).toBe(`reserved_property properties.${name}`);
    }
    expect(refusal(() => admit({ properties: { delay: "x", Keys: "y", ESC: "z" } }))).toBe("accepted");
  });

  it("refuses each control character that Java calls one, and no other character, in every text", () => {
    for (let code = 0; code < 0x250; code++) {
      const text = `a${String.fromCharCode(code)}b`;
      const control = code < 0x20 || (code >= 0x7f && code < 0xa0);
      const expected = (field: string) => (control ? `invalid_field ${field}` : "accepted");
      expect(refusal(() => admit({ key: text }))).toBe(expected("key"));
      expect(refusal(() => admit({ messageGroup: text }))).toBe(expected("messageGroup"));
      expect(refusal(() => admit({ properties: { p: text } }))).toBe(expected("properties.p"));
      if (code !== 0x7c) expect(refusal(() => admit({ tag: text }))).toBe(expected("tag"));
      if (code !== 0x20 && code !== 0xa0) expect(refusal(() => admit({ keys: [text] }))).toBe(expected("keys[0]"));
    }
  });

  it("never repeats a body or a property's value in an error", () => {
    const secret = "canary-4711";
    for (const more of [
      { body: `${secret}\ud800` },
      { bodyBase64: secret, body: undefined },
      { properties: { p: `${secret}\u0001` } },
      { properties: { ESC_ID: secret } },
      { properties: { p: secret.repeat(2000) } },
    ]) {
      let told = "";
      try {
        admit(more);
      } catch (error) {
        told = `${(error as Error).message} ${(error as { field?: string }).field}`;
      }
      expect(told.length).toBeGreaterThan(10);
      expect(told).not.toContain(secret);
    }
  });
});

describe("the door of the ingest topic", () => {
  const fields = { topic: "orders", body: Buffer.from([0xff, 0x00]) };

  it("shares the rules and takes bytes as they are", () => {
    const { message } = admitMessage({ ...fields, delay: "1s", properties: new Map([["a", "b"]]) }, context);
    expect(message.body).toBe(fields.body);
    expect(refusal(() => admitMessage({ ...fields, delay: "1s", properties: new Map([["KEYS", "b"]]) }, context))).toBe(
      "reserved_property properties.KEYS",
    );
    expect(refusal(() => admitMessage({ ...fields, body: Buffer.alloc(0), delay: 1 }, context))).toBe(
      "empty_body body",
    );
    expect(refusal(() => admitMessage({ ...fields, body: Buffer.alloc(4_000_001), delay: 1 }, context))).toBe(
      "body_too_large body",
    );
  });

  it("takes numbers as text, where there are only texts", () => {
    const textual = { ...context, options: { textNumbers: true } };
    expect(admitMessage({ ...fields, delay: "1500" }, textual).message.deliverAtMs).toBe(nowMs + 1500);
    expect(admitMessage({ ...fields, deliverAt: "1800000000001" }, textual).message.deliverAtMs).toBe(nowMs + 1);
    expect(refusal(() => admitMessage({ ...fields, delay: "1500" }, context))).toBe("invalid_time delay");
    expect(refusal(() => admitMessage({ ...fields, delay: "-1500" }, textual))).toBe("invalid_time delay");
  });

  it("refuses the service's own topics", () => {
    const own = { ...context, options: { ownTopics: new Set(["ESC_INGEST"]) } };
    expect(refusal(() => admitMessage({ ...fields, topic: "ESC_INGEST", delay: 1 }, own))).toBe("invalid_topic topic");
  });
});

describe("reschedule", () => {
  const reschedule = (request: unknown) => admitReschedule(request, { nowMs });

  it("takes a new time, and the rest as you like", () => {
    expect(reschedule({ delay: "1m" })).toEqual({ deliverAtMs: nowMs + 60_000 });
    expect(reschedule({ deliverAt: nowMs + 5, expireAfter: "1s", bodyBase64: "AA==", properties: { a: "b" } })).toEqual(
      {
        deliverAtMs: nowMs + 5,
        expireAtMs: nowMs + 1005,
        body: Buffer.from([0]),
        properties: new Map([["a", "b"]]),
      },
    );
    expect(reschedule({ delay: 0, expireAfter: null })).toEqual({ deliverAtMs: nowMs, expireAtMs: null });
  });

  test.each<[unknown, string]>([
    [{}, "time_missing deliverAt"],
    [{ delay: 1, deliverAt: nowMs }, "time_ambiguous delay"],
    [{ delay: 1, topic: "x" }, "unknown_field topic"],
    [{ delay: 1, body: "" }, "empty_body body"],
    [{ delay: 1, body: "x", bodyBase64: "AA==" }, "invalid_field bodyBase64"],
    [{ delay: 1, properties: { ESC_ID: "x" } }, "reserved_property properties.ESC_ID"],
    [{ delay: 1, expireAfter: 0 }, "expires_before_due expireAfter"],
    [null, "invalid_request"],
    [[], "invalid_request"],
  ])("%j: %s", (request, expected) => {
    expect(refusal(() => reschedule(request))).toBe(expected);
  });
});

describe("references", () => {
  it("are ids in either case, or keys with their group", () => {
    const id = idOfKey("t1", "k");
    expect(admitRef({ id: id.toUpperCase() }, "t1")).toBe(id);
    expect(admitRef({ key: "k" }, "t1")).toBe(id);
    expect(admitRef({ key: "k", messageGroup: "g" }, "t1")).toBe(idOfKey("t1", "k", "g"));
    expect(admitRef({ key: "k" }, "t2")).not.toBe(id);
  });

  it("are refused when they can mean nothing", () => {
    expect(refusal(() => admitRef({ id: "42" }, "t1"))).toBe("invalid_id id");
    expect(refusal(() => admitRef({ id: "x".repeat(1_000_000) }, "t1"))).toBe("invalid_id id");
    expect(refusal(() => admitRef({ key: "" }, "t1"))).toBe("invalid_field key");
    expect(refusal(() => admitRef({ key: "a\nb" }, "t1"))).toBe("invalid_field key");
    expect(refusal(() => admitRef({ key: "k", messageGroup: " " }, "t1"))).toBe("invalid_field messageGroup");
  });
});
