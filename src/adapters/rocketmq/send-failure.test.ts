import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { blamesOneMessage, fromProxy, fromTransport } from "./send-failure.ts";

const typeMismatch = (expected: string) =>
  `org.apache.rocketmq.proxy.common.ProxyException: TopicMessageType validate failed, the expected type is ${expected}, but actual type is NORMAL`;

describe("what the proxy answers", () => {
  // The texts are those of a real 5.5.0 proxy or broker.
  it.each([
    [40402, "No topic route info in name server for the topic", "transient", "topic_route_missing"],
    [40014, typeMismatch("UNSPECIFIED"), "transient", "topic_route_missing"],
    [40014, typeMismatch("FIFO"), "permanent", "topic_type_mismatch"],
    [40002, "the topic name is illegal", "permanent", "illegal_topic"],
    [40004, "tag cannot contain '|'", "permanent", "illegal_tag"],
    [40005, "key cannot contain control character", "permanent", "illegal_key"],
    [40006, "message group exceed the max size 64", "permanent", "illegal_message_group"],
    [40007, "property is used by system: KEYS", "permanent", "illegal_property"],
    [41301, "message body cannot exceed the max 4194304", "permanent", "body_too_large"],
    [41302, "message body cannot be empty", "permanent", "empty_body"],
    [43101, "too many user properties, max is 128", "permanent", "properties_too_large"],
    [42900, "the request is limited", "throttled", "broker_throttling"],
    [40100, "signature check failed", "transient", "not_authenticated"],
    [40300, "no permission", "transient", "not_permitted"],
    [50401, "flush disk timeout", "unknown", "flush_timeout"],
    [50402, "flush slave timeout", "unknown", "replica_timeout"],
    [50002, "slave not available", "unknown", "replica_missing"],
    [50400, "proxy timeout", "unknown", "broker_timeout"],
    [50001, "CODE: 1 DESC: message body size exceeded. RuntimeException.", "permanent", "message_illegal"],
    [50001, "[REJECTREQUEST]system busy, start flow control for a while", "throttled", "broker_busy"],
    [50001, "[TIMEOUT_CLEAN_QUEUE]broker busy, start flow control for a while", "throttled", "broker_busy"],
    [50001, "wait response on the channel timeout, 2000(ms)", "unknown", "broker_timeout"],
    [50001, "connect to 127.0.0.1:10911 failed", "transient", "broker_error"],
    [50000, "", "transient", "broker_error"],
  ] as const)("%i %s → %s %s", (proxyCode, text, failureClass, name) => {
    expect(fromProxy(proxyCode, text)).toMatchObject({ class: failureClass, code: name });
  });

  it("is never permanent for a code that we do not know", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 99_999 }), (proxyCode) => {
        const known = [40002, 40004, 40005, 40006, 40007, 40009, 40012, 40014, 40016, 41300, 41301, 41302, 43101];
        if (!known.includes(proxyCode)) expect(fromProxy(proxyCode, "").class).not.toBe("permanent");
      }),
    );
  });

  it("is shortened when it is a whole Java stack", () => {
    expect(fromProxy(50001, "x".repeat(10_000)).detail.length).toBeLessThan(400);
  });
});

describe("no answer", () => {
  it.each([
    [14, false, "transient", "broker_unavailable"],
    [4, false, "transient", "broker_unavailable"],
    [13, false, "transient", "broker_unavailable"],
    [4, true, "unknown", "send_timeout"],
    [14, true, "unknown", "connection_lost"],
    [1, true, "unknown", "connection_lost"],
    [2, true, "unknown", "connection_lost"],
    [13, true, "unknown", "answer_unreadable"],
    [8, true, "transient", "proxy_exhausted"],
    [12, true, "transient", "not_a_proxy"],
    [16, true, "transient", "not_authenticated"],
  ] as const)("gRPC %i, reached the proxy %s → %s %s", (code, reachedProxy, failureClass, name) => {
    expect(fromTransport({ code, reachedProxy, detail: "x" })).toMatchObject({ class: failureClass, code: name });
  });

  it("is never permanent", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 20 }), fc.boolean(), (code, reachedProxy) => {
        expect(fromTransport({ code, reachedProxy, detail: "" }).class).not.toBe("permanent");
      }),
    );
  });
});

describe("a refused batch", () => {
  it("is taken apart for the sake of one message, not for its topic or a broker's trouble", () => {
    expect(blamesOneMessage(fromProxy(40004, ""))).toBe(true);
    expect(blamesOneMessage(fromProxy(50001, "message body size exceeded"))).toBe(true);
    expect(blamesOneMessage(fromProxy(40014, typeMismatch("FIFO")))).toBe(false);
    expect(blamesOneMessage(fromProxy(40002, ""))).toBe(false);
    expect(blamesOneMessage(fromProxy(50001, "connect failed"))).toBe(false);
    expect(blamesOneMessage(fromProxy(42900, ""))).toBe(false);
  });
});
