import { createHmac } from "node:crypto";
import { afterEach, describe, expect, it } from "vitest";
import type { SendResult, Sink } from "../../dispatch/sink.port.ts";
import { epochMs } from "../../message/time.ts";
import { code } from "../../protocol/messaging-service.ts";
import { answer, type FakeAnswer, type FakeProxy, ok, startFakeProxy } from "./fake-proxy.ts";
import { createRocketmqSink, type RocketmqSinkOptions } from "./rocketmq-sink.ts";
import { grpcTarget } from "./session.ts";
import { aMessage, eventually, parts, pauseMs, systemClock } from "./testing.ts";

// What a real proxy cannot be asked to do; the rest is in rocketmq-sink.real.test.ts.

const started: { proxies: FakeProxy[]; sinks: Sink[] } = { proxies: [], sinks: [] };
afterEach(async () => {
  for (const proxy of started.proxies.splice(0)) proxy.stop();
  for (const sink of started.sinks.splice(0)) await sink.close();
});

const start = async (respond: FakeAnswer, over: Partial<RocketmqSinkOptions> = {}) => {
  const proxy = await startFakeProxy(respond);
  const sink = createRocketmqSink({ endpoint: proxy.endpoint, sendTimeoutMs: 400, ...parts, ...over });
  started.proxies.push(proxy);
  started.sinks.push(sink);
  return { proxy, sink };
};

const failures = (results: readonly SendResult[]) =>
  results.map((result) => (result.ok ? "ok" : `${result.failure.class} ${result.failure.code}`));
const several = (count: number) => Array.from({ length: count }, (_, n) => aMessage({ tag: `t${n}` }));
const took = async <T>(work: Promise<T>): Promise<[T, number]> => {
  const fromMs = systemClock.monotonicMs();
  return [await work, systemClock.monotonicMs() - fromMs];
};

describe("a send whose answer does not come", () => {
  it("may have been stored when the proxy was silent, and is given up in time", async () => {
    const { sink } = await start(() => undefined);
    const [results, tookMs] = await took(sink.send("orders", several(3)));
    expect(failures(results)).toEqual(Array(3).fill("unknown send_timeout"));
    expect(tookMs).toBeGreaterThan(350);
    expect(tookMs).toBeLessThan(900);
  });

  it("may have been stored when the connection was cut under way", async () => {
    const { sink, proxy } = await start(() => undefined, { sendTimeoutMs: 5_000 });
    const sending = sink.send("orders", several(2));
    await eventually("the call has arrived", 2_000, () => proxy.calls.length === 1);
    proxy.stop();
    const [results, tookMs] = await took(sending);
    expect(failures(results)).toEqual(Array(2).fill("unknown connection_lost"));
    expect(tookMs).toBeLessThan(1_000);
  });

  it("was not stored when nobody listens, and fails at once", async () => {
    const { sink, proxy } = await start(() => ok);
    proxy.stop();
    const [results, tookMs] = await took(sink.send("orders", several(2)));
    expect(failures(results)).toEqual(Array(2).fill("transient broker_unavailable"));
    expect(tookMs).toBeLessThan(300);
  });

  it("works again soon after the proxy is back", async () => {
    const { sink, proxy } = await start(() => ok);
    await sink.send("orders", several(1));
    proxy.stop();
    await pauseMs(1_500); // some attempts to connect fail
    const port = Number(proxy.endpoint.split(":")[1]);
    started.proxies.push(await startFakeProxy(() => ok, port));
    let last: string[] = [];
    const fromMs = systemClock.monotonicMs();
    while (last[0] !== "ok" && systemClock.monotonicMs() - fromMs < 5_000) {
      last = failures(await sink.send("orders", several(1)));
      await pauseMs(50);
    }
    expect(last).toEqual(["ok"]);
    expect(systemClock.monotonicMs() - fromMs).toBeLessThan(2_500);
  });

  it("twice in a row makes a new connection, on which it works", async () => {
    let deadPeer: string | undefined;
    const { sink, proxy } = await start(({ peer }) => {
      deadPeer ??= peer;
      return peer === deadPeer ? undefined : ok;
    });
    expect(failures(await sink.send("orders", several(1)))).toEqual(["unknown send_timeout"]);
    expect(failures(await sink.send("orders", several(1)))).toEqual(["unknown send_timeout"]);
    expect(failures(await sink.send("orders", several(1)))).toEqual(["ok"]);
    expect(new Set(proxy.calls.map(({ peer }) => peer)).size).toBe(2);
  });

  it("keeps its time limit whatever the wall clock does", async () => {
    for (const nowMs of [0, 4_000_000_000_000]) {
      const clock = { ...systemClock, nowMs: () => epochMs(nowMs) };
      const { sink } = await start((_, nth) => (nth === 1 ? ok : undefined), { clock });
      expect(failures(await sink.send("orders", several(1)))).toEqual(["ok"]);
      const [results, tookMs] = await took(sink.send("orders", several(1)));
      expect(failures(results)).toEqual(["unknown send_timeout"]);
      expect(tookMs).toBeLessThan(900);
    }
  });
});

describe("an answer", () => {
  it("with an entry for each message is read for each message", async () => {
    const { sink } = await start(() => answer(code.multipleResults, "", [20000, 41301, 42900]));
    const results = failures(await sink.send("orders", several(3)));
    expect(results).toEqual(["ok", "permanent body_too_large", "throttled broker_throttling"]);
  });

  it("that asks for patience concerns the whole batch, which is not taken apart", async () => {
    const { sink, proxy } = await start(() => answer(50001, "[REJECTREQUEST]system busy, start flow control"));
    expect(failures(await sink.send("orders", several(2)))).toEqual(Array(2).fill("throttled broker_busy"));
    expect(proxy.calls.length).toBe(1);
  });

  it("that cannot be read leaves open what happened", async () => {
    const { sink } = await start(() => Buffer.from("0a", "hex"));
    expect(failures(await sink.send("orders", several(1)))).toEqual(["unknown answer_unreadable"]);
  });

  it("with an OK and a failed entry is not taken for success", async () => {
    const { sink } = await start(() => answer(20000, "", [50401]));
    expect(failures(await sink.send("orders", several(2)))).toEqual(Array(2).fill("unknown flush_timeout"));
  });
});

describe("a batch refused for the sake of one message", () => {
  it("is sent one by one, each message once", async () => {
    const { sink, proxy } = await start(({ tags }) => (tags.includes("t2") ? answer(40004, "bad tag") : ok));
    const results = failures(await sink.send("orders", several(5)));
    expect(results).toEqual(["ok", "ok", "permanent illegal_tag", "ok", "ok"]);
    expect(proxy.calls.map(({ tags }) => tags.length)).toEqual([5, 1, 1, 1, 1, 1]);
    expect(new Set(proxy.calls.slice(1).flatMap(({ tags }) => tags)).size).toBe(5);
  });

  it("ends in time all the same; what could not be tried was not stored", async () => {
    const slow = async () => {
      await pauseMs(150);
      return ok;
    };
    const { sink } = await start(({ tags }) => (tags.length > 1 ? answer(40004) : slow()), { sendTimeoutMs: 400 });
    const [results, tookMs] = await took(sink.send("orders", several(128)));
    expect(tookMs).toBeLessThan(900);
    const seen = new Set(failures(results));
    expect(seen).toContain("ok");
    expect(seen).toContain("transient send_timeout");
    expect(results.length).toBe(128);
  });
});

describe("what is never sent", () => {
  it("is a topic that no broker can have", async () => {
    const { sink, proxy } = await start(() => ok);
    expect(failures(await sink.send("two words", several(1)))).toEqual(["permanent illegal_topic"]);
    expect(await sink.send("orders", [])).toEqual([]);
    expect(proxy.calls.length).toBe(0);
  });

  it("is a batch that the dispatcher must not make", async () => {
    const { sink, proxy } = await start(() => ok);
    const grouped = [aMessage(), aMessage({ messageGroup: "g" })];
    await expect(sink.send("orders", grouped)).rejects.toThrow(/bug: .* message group/);
    await expect(sink.send("orders", several(129))).rejects.toThrow(/bug: 129/);
    const heavy = [1, 2, 3, 4].map(() => aMessage({ body: Buffer.alloc(1_000_000) }));
    await expect(sink.send("orders", heavy)).rejects.toThrow(/bug: 4000000 bytes/);
    expect(proxy.calls.length).toBe(0);
  });

  it("is anything after the sink was closed, which waits for what is under way", async () => {
    const slow = async () => {
      await pauseMs(150);
      return ok;
    };
    const { sink } = await start(slow);
    const underWay = sink.send("orders", several(1));
    await pauseMs(50);
    const closing = sink.close();
    expect(failures(await sink.send("orders", several(1)))).toEqual(["transient sink_closed"]);
    await closing;
    expect(failures(await underWay)).toEqual(["ok"]);
  });
});

describe("the headers of a call", () => {
  it("carry a signature made with the secret, and not the secret", async () => {
    const credentials = { accessKey: "key-1", accessSecret: "very-secret", securityToken: "token-1" };
    const clock = { ...systemClock, nowMs: () => epochMs(Date.UTC(2026, 0, 31, 23, 59, 59, 999)) };
    const { sink, proxy } = await start(() => ok, { credentials, clock });
    await sink.send("orders", several(1));
    const headers = proxy.calls[0]!.headers.getMap();
    const signature = createHmac("sha1", "very-secret").update("20260131T235959Z").digest("hex").toUpperCase();
    expect(headers["x-mq-date-time"]).toBe("20260131T235959Z");
    expect(headers.authorization).toBe(
      `MQv2-HMAC-SHA1 Credential=key-1, SignedHeaders=x-mq-date-time, Signature=${signature}`,
    );
    expect(headers["x-mq-session-token"]).toBe("token-1");
    expect(headers["x-mq-client-id"]).toMatch(/@/);
    expect(JSON.stringify(headers)).not.toContain("very-secret");
  });

  it("have no authorization when there are no credentials", async () => {
    const { sink, proxy } = await start(() => ok);
    await sink.send("orders", several(1));
    expect(proxy.calls[0]!.headers.getMap().authorization).toBeUndefined();
  });
});

describe("an endpoint", () => {
  it.each(["127.0.0.1:8081", "broker.example:1", "[::1]:8081"])("may be %s", (endpoint) => {
    expect(grpcTarget(endpoint)).toBe(`dns:${endpoint}`);
  });

  it.each(["a:1;b:2", "a:1,b:2", "http://a:1", "a", "a:", ":1", "a:0", "a:65536", "::1:8081", "", "a b:1"])(
    "may not be %s",
    (endpoint) => {
      expect(() => grpcTarget(endpoint)).toThrow(/must be one host:port/);
    },
  );
});
