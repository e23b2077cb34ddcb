import { describe, expect, it } from "vitest";
import type { TopicLookup } from "../../ingest/topic-directory.port.ts";
import { epochMs } from "../../message/time.ts";
import { createTopicCache } from "./topic-cache.ts";

const exists: TopicLookup = { outcome: "exists", types: ["NORMAL"] };
const missing: TopicLookup = { outcome: "missing" };
const unreachable: TopicLookup = { outcome: "unreachable" };

const start = () => {
  const broker = { says: exists as TopicLookup, asked: [] as string[] };
  let nowMs = 0;
  const clock = { nowMs: () => epochMs(0), monotonicMs: () => nowMs };
  const query = async (topic: string) => {
    broker.asked.push(topic);
    return broker.says;
  };
  const cache = createTopicCache(query, clock);
  const advance = (ms: number) => {
    nowMs += ms;
  };
  return { broker, cache, advance };
};
const settled = () => new Promise((resolve) => setImmediate(resolve));

describe("a topic that exists", () => {
  it("is asked for once in 30 s, however many ask at the same time", async () => {
    const { broker, cache, advance } = start();
    await Promise.all(Array.from({ length: 50 }, () => cache.lookUp("t")));
    advance(30_000);
    expect(await cache.lookUp("t")).toBe(exists);
    expect(broker.asked).toEqual(["t"]);
  });

  it("is then asked for behind the back of whoever asks", async () => {
    const { broker, cache, advance } = start();
    await cache.lookUp("t");
    advance(30_001);
    broker.says = missing;
    expect(await cache.lookUp("t")).toBe(exists);
    await settled();
    expect(await cache.lookUp("t")).toBe(missing);
    expect(broker.asked.length).toBe(2);
  });

  it("stays one while its broker is away, up to five minutes", async () => {
    const { broker, cache, advance } = start();
    await cache.lookUp("t");
    broker.says = unreachable;
    for (let minute = 1; minute < 5; minute++) {
      advance(60_000);
      expect(await cache.lookUp("t")).toBe(exists);
      await settled();
    }
    advance(60_001);
    expect(await cache.lookUp("t")).toBe(unreachable);
  });
});

describe("a topic that is missing", () => {
  it("is asked for again after a second", async () => {
    const { broker, cache, advance } = start();
    broker.says = missing;
    expect(await cache.lookUp("t")).toBe(missing);
    advance(1_000);
    await cache.lookUp("t");
    expect(broker.asked.length).toBe(1);
    advance(1);
    broker.says = exists;
    expect(await cache.lookUp("t")).toBe(exists);
  });

  it("does not fill the memory when many are asked for", async () => {
    const { broker, cache } = start();
    await cache.lookUp("first");
    for (let n = 0; n < 10_000; n++) await cache.lookUp(`t${n}`);
    await cache.lookUp("t9999");
    expect(broker.asked.length).toBe(10_001);
    await cache.lookUp("first"); // was pushed out
    expect(broker.asked.length).toBe(10_002);
  });
});

describe("a broker that does not answer", () => {
  it("is asked again at once", async () => {
    const { broker, cache } = start();
    broker.says = unreachable;
    expect(await cache.lookUp("t")).toBe(unreachable);
    broker.says = exists;
    expect(await cache.lookUp("t")).toBe(exists);
  });
});
